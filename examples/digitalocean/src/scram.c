// A password is taken as its bytes: SASLprep changes nothing in those that databases make.
#include "scram.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DIGEST = SHA256_DIGEST_LENGTH, SALT_MAX = 128 };

bool scram_first(scram *self, char *out)
{
    unsigned char nonce[18];
    char text[32];
    if (RAND_bytes(nonce, sizeof nonce) != 1)
        return false;
    EVP_EncodeBlock((unsigned char *)text, nonce, sizeof nonce);
    snprintf(self->first, sizeof self->first, "n=,r=%s", text);
    snprintf(out, SCRAM_MAX, "n,,%s", self->first);
    return true;
}

// Copies the attribute `name` of "a=…,b=…"; false when it is not there or too long.
static bool attribute(const char *message, char name, char *out, size_t size)
{
    for (const char *at = message; *at != '\0';) {
        size_t length = strcspn(at, ",");
        if (length >= 2 && at[0] == name && at[1] == '=') {
            if (length - 2 >= size)
                return false;
            memcpy(out, at + 2, length - 2);
            out[length - 2] = '\0';
            return true;
        }
        at += length + (at[length] == ',');
    }
    return false;
}

static void digest(unsigned char *out, const unsigned char *key, const char *text)
{
    unsigned int length = DIGEST;
    HMAC(EVP_sha256(), key, DIGEST, (const unsigned char *)text, strlen(text), out, &length);
}

// Bytes of base64; -1 when it is none.
static int decode(unsigned char *out, const char *text)
{
    size_t length = strlen(text);
    if (length % 4 != 0 || length / 4 * 3 > SALT_MAX)
        return -1;
    int bytes = EVP_DecodeBlock(out, (const unsigned char *)text, (int)length);
    for (size_t i = length; bytes > 0 && i > 0 && text[i - 1] == '='; i--)
        bytes--;
    return bytes;
}

bool scram_final(scram *self, const char *password, const char *challenge, char *out)
{
    char nonce[128], salt_text[172], count_text[16], bare[192], signed_text[SCRAM_MAX];
    unsigned char salt[SALT_MAX + 3], salted[DIGEST], client[DIGEST], stored[DIGEST], sign[DIGEST];
    if (!attribute(challenge, 'r', nonce, sizeof nonce) ||
        !attribute(challenge, 's', salt_text, sizeof salt_text) ||
        !attribute(challenge, 'i', count_text, sizeof count_text) ||
        strncmp(nonce, self->first + 5, strlen(self->first + 5)) != 0)
        return false;
    int salt_length = decode(salt, salt_text), count = atoi(count_text);
    if (salt_length <= 0 || count < 1 || count > 10000000 ||
        PKCS5_PBKDF2_HMAC(password, -1, salt, salt_length, count, EVP_sha256(), DIGEST, salted) !=
            1)
        return false;
    snprintf(bare, sizeof bare, "c=biws,r=%s", nonce);
    int length =
        snprintf(signed_text, sizeof signed_text, "%s,%s,%s", self->first, challenge, bare);
    if (length < 0 || (size_t)length >= sizeof signed_text)
        return false;
    digest(client, salted, "Client Key");
    SHA256(client, DIGEST, stored);
    digest(sign, stored, signed_text);
    for (int i = 0; i < DIGEST; i++)
        client[i] ^= sign[i];
    char proof[64];
    EVP_EncodeBlock((unsigned char *)proof, client, DIGEST);
    snprintf(out, SCRAM_MAX, "%s,p=%s", bare, proof);
    digest(stored, salted, "Server Key");
    digest(self->server, stored, signed_text);
    OPENSSL_cleanse(salted, sizeof salted);
    return true;
}

bool scram_proves(const scram *self, const char *verdict)
{
    char text[64], mine[64];
    EVP_EncodeBlock((unsigned char *)mine, self->server, DIGEST);
    return attribute(verdict, 'v', text, sizeof text) && strcmp(text, mine) == 0;
}
