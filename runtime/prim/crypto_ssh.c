// rt.crypto: SSH keys in OpenSSH's formats.
#include "prim/crypto.h"

#include "base/buf.h"
#include "bridge/fail.h"
#include "bridge/opts.h"
#include "bridge/scratch.h"
#include "bridge/secret.h"
#include "io/base64.h"

#include <assert.h>
#include <lauxlib.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

// The wire format of SSH (RFC 4251, section 5): a length of 4 bytes, then the bytes.
static void put_u32(kl_buf *buf, size_t value)
{
    unsigned char bytes[4] = {(unsigned char)(value >> 24), (unsigned char)(value >> 16),
                              (unsigned char)(value >> 8), (unsigned char)value};
    kl_buf_append(buf, bytes, 4);
}

static void put_string(kl_buf *buf, const void *bytes, size_t length)
{
    put_u32(buf, length);
    kl_buf_append(buf, bytes, length);
}

static void put_public(kl_buf *buf, const unsigned char *public_key)
{
    put_string(buf, "ssh-ed25519", 11);
    put_string(buf, public_key, 32);
}

// openssh-key-v1 without a passphrase: PROTOCOL.key in OpenSSH's sources.
static void put_private(kl_buf *buf, const unsigned char *seed, const unsigned char *public_key,
                        const char *comment)
{
    unsigned char check[4];
    kl_buf blob = {0}, list = {0};
    RAND_bytes(check, sizeof check);
    kl_buf_reserve(&list, 512); // growing would leave copies of the key behind
    kl_buf_reserve(buf, 1024);
    put_public(&blob, public_key);

    kl_buf_append(&list, check, 4); // twice, so that a wrong passphrase would show
    kl_buf_append(&list, check, 4);
    put_string(&list, "ssh-ed25519", 11);
    put_string(&list, public_key, 32);
    put_u32(&list, 64);
    kl_buf_append(&list, seed, 32);
    kl_buf_append(&list, public_key, 32);
    put_string(&list, comment, strlen(comment));
    for (unsigned char pad = 1; list.length % 8 != 0; pad++)
        kl_buf_append(&list, &pad, 1);

    kl_buf_append(buf, "openssh-key-v1", 15); // with its NUL
    put_string(buf, "none", 4);
    put_string(buf, "none", 4);
    put_string(buf, "", 0);
    put_u32(buf, 1);
    put_string(buf, blob.data, blob.length);
    put_string(buf, list.data, list.length);
    OPENSSL_cleanse(list.data, list.length);
    kl_buf_free(&blob);
    kl_buf_free(&list);
}

// PEM armour with lines of 70 characters, as ssh-keygen writes it.
static void put_armour(kl_buf *out, const kl_buf *key)
{
    kl_buf_reserve(out, 2048);
    unsigned char text[2048];
    int length = EVP_EncodeBlock(text, (const unsigned char *)key->data, (int)key->length);
    kl_buf_puts(out, "-----BEGIN OPENSSH PRIVATE KEY-----\n");
    for (int at = 0; at < length; at += 70) {
        kl_buf_append(out, text + at, (size_t)(length - at < 70 ? length - at : 70));
        kl_buf_append(out, "\n", 1);
    }
    kl_buf_puts(out, "-----END OPENSSH PRIVATE KEY-----\n");
    OPENSSL_cleanse(text, sizeof text);
}

static bool generate(unsigned char *seed, unsigned char *public_key)
{
    size_t seed_length = 32, public_length = 32;
    EVP_PKEY *pair = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    bool ok = pair != NULL && EVP_PKEY_get_raw_private_key(pair, seed, &seed_length) == 1 &&
              EVP_PKEY_get_raw_public_key(pair, public_key, &public_length) == 1;
    EVP_PKEY_free(pair);
    return ok;
}

int kl_crypto_ed25519_keypair(lua_State *L)
{
    const char *comment = luaL_optstring(L, 1, "");
    luaL_argcheck(L, strlen(comment) <= 256 && strpbrk(comment, "\r\n") == NULL, 1,
                  "a comment is one line of at most 256 bytes");
    unsigned char seed[32], public_key[32], encoded[128];
    if (!generate(seed, public_key))
        return luaL_error(L, "no ed25519 key could be made");

    kl_buf key = {0}, text = {0}, blob = {0};
    put_private(&key, seed, public_key, comment);
    put_armour(&text, &key);
    put_public(&blob, public_key);
    EVP_EncodeBlock(encoded, (const unsigned char *)blob.data, (int)blob.length);
    OPENSSL_cleanse(seed, sizeof seed);
    OPENSSL_cleanse(key.data, key.length);
    kl_buf_free(&key);
    kl_buf_free(&blob);

    char private_text[1024]; // a fixed size: no heap is live across the calls that may raise
    size_t length = text.length;
    assert(length < sizeof private_text);
    memcpy(private_text, text.data, length);
    OPENSSL_cleanse(text.data, text.length);
    kl_buf_free(&text);

    lua_createtable(L, 0, 2);
    kl_secret_push(L, private_text, length);
    OPENSSL_cleanse(private_text, sizeof private_text);
    lua_setfield(L, -2, "private");
    lua_pushfstring(L, "ssh-ed25519 %s%s%s", encoded, comment[0] != '\0' ? " " : "", comment);
    lua_setfield(L, -2, "public");
    return 1;
}

// As `ssh-keygen -l` shows it: SHA-256 of the key blob in base64 without padding.
int kl_crypto_fingerprint(lua_State *L)
{
    const char *line = luaL_checkstring(L, 1);
    const char *start = strchr(line, ' ');
    size_t length = start != NULL ? strcspn(start + 1, " \n") : 0;
    unsigned char digest[EVP_MAX_MD_SIZE], text[64];
    kl_buf *blob = kl_scratch(L);
    if (length == 0 || !kl_base64_decode(blob, start + 1, length))
        return kl_fail_as(L, "invalid", "not a public key line: %.40s", line);
    unsigned int digest_size;
    EVP_Digest(blob->data, blob->length, digest, &digest_size, EVP_sha256(), NULL);
    EVP_EncodeBlock(text, digest, (int)digest_size);
    text[43] = '\0'; // without the padding
    lua_pushfstring(L, "SHA256:%s", text);
    return 1;
}
