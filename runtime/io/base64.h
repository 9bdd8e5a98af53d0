// Base64 by RFC 4648, section 4: padded, and strict.
#ifndef KL_IO_BASE64_H
#define KL_IO_BASE64_H

#include "base/buf.h"

#include <stdbool.h>

// Appends the bytes that the text stands for. False, with nothing appended, when it is no base64:
// blanks are none either.
bool kl_base64_decode(kl_buf *out, const char *text, size_t length);
// Appends the text of the bytes.
void kl_base64_encode(kl_buf *out, const void *bytes, size_t length);

#endif
