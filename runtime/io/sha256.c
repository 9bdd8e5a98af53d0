// SHA-256 of bytes as they pass, by libcrypto's own functions for it: through EVP the first digest
// of a process loads every provider and algorithm, which takes longer than the rest of a short run.
#define OPENSSL_API_COMPAT 10100 // deprecated since 3.0, there as long as libcrypto.so.3 is

#include "io/sha256.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>

void kl_sha256_start(kl_sha256 *sha)
{
    if (sha->context == NULL)
        sha->context = malloc(sizeof(SHA256_CTX));
    if (sha->context == NULL)
        abort(); // out of memory
    SHA256_Init(sha->context);
}

void kl_sha256_add(kl_sha256 *sha, const void *bytes, size_t length)
{
    SHA256_Update(sha->context, bytes, length);
}

void kl_sha256_hex(kl_sha256 *sha, char out[65])
{
    unsigned char digest[SHA256_DIGEST_LENGTH];
    SHA256_Final(digest, sha->context);
    for (size_t i = 0; i < sizeof digest; i++)
        snprintf(out + i * 2, 3, "%02x", digest[i]);
}

void kl_sha256_of(const void *bytes, size_t length, char out[65])
{
    SHA256_CTX context;
    kl_sha256 sha = {.context = &context};
    kl_sha256_start(&sha);
    kl_sha256_add(&sha, bytes, length);
    kl_sha256_hex(&sha, out);
    OPENSSL_cleanse(&context, sizeof context); // it may have seen a secret
}

void kl_sha256_free(kl_sha256 *sha)
{
    free(sha->context);
    sha->context = NULL;
}
