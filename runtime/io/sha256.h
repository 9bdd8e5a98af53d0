// SHA-256 of bytes as they pass.
#ifndef KL_IO_SHA256_H
#define KL_IO_SHA256_H

#include <stddef.h>

typedef struct kl_sha256 {
    void *context; // OpenSSL's, owned; NULL: not started
} kl_sha256;

// Starts over. A zeroed struct is fine.
void kl_sha256_start(kl_sha256 *sha);
void kl_sha256_add(kl_sha256 *sha, const void *bytes, size_t length);
// The digest of everything added, in hex.
void kl_sha256_hex(kl_sha256 *sha, char out[65]);
void kl_sha256_free(kl_sha256 *sha);
// The digest of these bytes, in hex.
void kl_sha256_of(const void *bytes, size_t length, char out[65]);

#endif
