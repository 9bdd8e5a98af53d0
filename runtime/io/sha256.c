// SHA-256 of bytes as they pass.
#include "io/sha256.h"

#include "base/ending.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

void kl_sha256_start(kl_sha256 *sha)
{
    if (sha->context == NULL)
        sha->context = EVP_MD_CTX_new();
    if (sha->context == NULL || EVP_DigestInit_ex(sha->context, EVP_sha256(), NULL) != 1)
        kl_out_of_memory();
}

void kl_sha256_add(kl_sha256 *sha, const void *bytes, size_t length)
{
    EVP_DigestUpdate(sha->context, bytes, length);
}

void kl_sha256_hex(kl_sha256 *sha, char out[65])
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int length = 0;
    EVP_DigestFinal_ex(sha->context, digest, &length);
    for (unsigned int i = 0; i < length; i++)
        snprintf(out + (size_t)i * 2, 3, "%02x", digest[i]);
}

void kl_sha256_free(kl_sha256 *sha)
{
    EVP_MD_CTX_free(sha->context);
    sha->context = NULL;
}
