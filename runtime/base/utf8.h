// UTF-8 (RFC 3629): no overlong forms, no surrogates, nothing above U+10FFFF.
#ifndef KL_BASE_UTF8_H
#define KL_BASE_UTF8_H

#include <stddef.h>

// The length of the character at `bytes` (1 to 4), 0 when there is no valid one.
size_t kl_utf8_step(const char *bytes, size_t length);
// Where the first invalid byte is; `length` when all is valid.
size_t kl_utf8_check(const char *bytes, size_t length);

#endif
