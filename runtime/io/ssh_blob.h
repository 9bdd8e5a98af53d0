// The wire format of SSH (RFC 4251 section 5): strings with their length, big integers.
#ifndef KL_IO_SSH_BLOB_H
#define KL_IO_SSH_BLOB_H

#include <openssl/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

// Reads from the front of borrowed bytes. Past the end everything is zero and `bad` is set.
typedef struct kl_ssh_reader {
    const char *data;
    size_t length;
    bool bad;
} kl_ssh_reader;

typedef struct kl_ssh_string {
    const char *data;
    size_t length;
} kl_ssh_string;

kl_ssh_reader kl_ssh_reader_of(const void *data, size_t length);
uint8_t kl_ssh_take_byte(kl_ssh_reader *reader);
uint32_t kl_ssh_take_u32(kl_ssh_reader *reader);
// Borrowed from the reader's bytes.
kl_ssh_string kl_ssh_take_string(kl_ssh_reader *reader);
// Returns owned, NULL when bad.
BIGNUM *kl_ssh_take_mpint(kl_ssh_reader *reader);
bool kl_ssh_string_is(kl_ssh_string string, const char *text);
bool kl_ssh_string_starts(kl_ssh_string string, const char *text);

void kl_ssh_put_u32(kl_buf *out, uint32_t value);
void kl_ssh_put_string(kl_buf *out, const void *bytes, size_t length);
void kl_ssh_put_text(kl_buf *out, const char *text);
void kl_ssh_put_mpint(kl_buf *out, const BIGNUM *number);

// Decodes base64 up to the first blank. False if it is none.
bool kl_ssh_base64(kl_buf *out, const char *text);

#endif
