// bcrypt_pbkdf: the key derivation of encrypted OpenSSH keys.
#ifndef KL_IO_BCRYPT_KDF_H
#define KL_IO_BCRYPT_KDF_H

#include <stddef.h>
#include <stdint.h>

// Derives `out_length` bytes from a passphrase; takes about 10 ms a round, so run it in a thread.
void kl_bcrypt_kdf(unsigned char *out, size_t out_length, const char *pass, size_t pass_length,
                   const void *salt, size_t salt_length, uint32_t rounds);

#endif
