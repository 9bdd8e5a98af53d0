// rt.crypto: digests, random bytes, encodings, ed25519 keys in OpenSSH's format, secrets.
#include "prim/prims.h"

#include "base/buf.h"
#include "bridge/fail.h"
#include "bridge/op.h"
#include "bridge/opts.h"
#include "bridge/secret.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int push_hex(lua_State *L, const unsigned char *bytes, size_t length)
{
    static const char digits[] = "0123456789abcdef";
    luaL_Buffer out;
    char *text = luaL_buffinitsize(L, &out, length * 2);
    for (size_t i = 0; i < length; i++) {
        text[2 * i] = digits[bytes[i] >> 4];
        text[2 * i + 1] = digits[bytes[i] & 15];
    }
    luaL_pushresultsize(&out, length * 2);
    return 1;
}

static int crypto_sha256(lua_State *L)
{
    size_t length;
    const char *bytes = kl_secret_or_string(L, 1, &length);
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int size;
    if (EVP_Digest(bytes, length, digest, &size, EVP_sha256(), NULL) != 1)
        return luaL_error(L, "sha256 failed");
    return push_hex(L, digest, size);
}

typedef struct file_op {
    kl_op op;
    uv_work_t work;
    char *path;
    atomic_bool stop;
    int error; // errno
    unsigned char digest[32];
} file_op;

// Reads the open file through the digest; returns 0 or an errno. Runs in a thread.
static int digest_stream(file_op *self, FILE *in)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    if (context == NULL || EVP_DigestInit_ex(context, EVP_sha256(), NULL) != 1) {
        EVP_MD_CTX_free(context);
        return ENOMEM;
    }
    char block[65536];
    size_t got;
    errno = 0;
    while (!self->stop && (got = fread(block, 1, sizeof block, in)) > 0)
        EVP_DigestUpdate(context, block, got);
    int error = !ferror(in) ? 0 : errno != 0 ? errno : EIO;
    EVP_DigestFinal_ex(context, self->digest, NULL);
    EVP_MD_CTX_free(context);
    return error;
}

static void digest_file(uv_work_t *work)
{
    file_op *self = work->data;
    FILE *in = fopen(self->path, "rbe");
    if (in == NULL) {
        self->error = errno;
        return;
    }
    self->error = digest_stream(self, in);
    fclose(in);
}

static void file_done(uv_work_t *work, int status)
{
    (void)status;
    kl_op_settle(work->data);
    kl_op_drop(work->data);
}

static void file_cancel(kl_op *op)
{
    file_op *self = (file_op *)op;
    self->stop = true;
    uv_cancel((uv_req_t *)&self->work); // if it has not begun
}

static int file_push(lua_State *L, kl_op *op)
{
    file_op *self = (file_op *)op;
    return self->error != 0 ? kl_fail_errno(L, self->error, self->path)
                            : push_hex(L, self->digest, sizeof self->digest);
}

static void file_free(kl_op *op)
{
    free(((file_op *)op)->path);
}

static const kl_op_class file_class = {"crypto.sha256_file", file_cancel, file_push, file_free};

static int crypto_sha256_file(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1);
    file_op *self = kl_op_new(L, sizeof *self, &file_class);
    self->path = strdup(path);
    if (self->path == NULL)
        return luaL_error(L, "out of memory");
    self->work.data = kl_op_hold(&self->op);
    uv_queue_work(kl_loop(L), &self->work, digest_file, file_done);
    return kl_op_wait(L, &self->op);
}

static int push_hmac(lua_State *L, const EVP_MD *hash)
{
    size_t key_length, length;
    const char *key = kl_secret_or_string(L, 1, &key_length);
    const char *bytes = kl_secret_or_string(L, 2, &length);
    kl_opts opts;
    kl_opts_begin(L, 3, &opts);
    bool raw = kl_opts_boolean(&opts, "raw", false);
    kl_opts_end(&opts);
    luaL_argcheck(L, key_length <= INT_MAX, 1, "key is too long");
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int size;
    if (HMAC(hash, key, (int)key_length, (const unsigned char *)bytes, length, digest, &size) ==
        NULL)
        return luaL_error(L, "hmac failed");
    if (!raw)
        return push_hex(L, digest, size);
    lua_pushlstring(L, (const char *)digest, size);
    return 1;
}

static int crypto_hmac_sha256(lua_State *L)
{
    return push_hmac(L, EVP_sha256());
}

static int crypto_hmac_sha1(lua_State *L)
{
    return push_hmac(L, EVP_sha1());
}

static int crypto_random(lua_State *L)
{
    lua_Integer length = luaL_checkinteger(L, 1);
    luaL_argcheck(L, length > 0 && length <= 1 << 20, 1, "between 1 and 1048576 bytes");
    luaL_Buffer out;
    char *bytes = luaL_buffinitsize(L, &out, (size_t)length);
    if (RAND_bytes((unsigned char *)bytes, (int)length) != 1)
        return luaL_error(L, "the system has no random bytes");
    luaL_pushresultsize(&out, (size_t)length);
    return 1;
}

static int crypto_hex(lua_State *L)
{
    size_t length;
    const char *bytes = luaL_checklstring(L, 1, &length);
    return push_hex(L, (const unsigned char *)bytes, length);
}

static int crypto_base64(lua_State *L)
{
    size_t length;
    const char *bytes = kl_secret_or_string(L, 1, &length);
    luaL_argcheck(L, length <= INT_MAX / 2, 1, "too long");
    luaL_Buffer out;
    char *text = luaL_buffinitsize(L, &out, (length + 2) / 3 * 4 + 1);
    int size = EVP_EncodeBlock((unsigned char *)text, (const unsigned char *)bytes, (int)length);
    luaL_pushresultsize(&out, (size_t)size);
    return 1;
}

static int crypto_unbase64(lua_State *L)
{
    size_t length;
    const char *text = luaL_checklstring(L, 1, &length);
    luaL_argcheck(L, length <= INT_MAX / 2, 1, "too long");
    luaL_Buffer out;
    char *bytes = luaL_buffinitsize(L, &out, length / 4 * 3 + 3);
    int size = length % 4 == 0 ? EVP_DecodeBlock((unsigned char *)bytes,
                                                 (const unsigned char *)text, (int)length)
                               : -1;
    if (size < 0)
        return kl_fail_as(L, "invalid", "not base64");
    size_t padding = 0; // EVP_DecodeBlock counts the padding as bytes
    while (padding < 2 && padding < length && text[length - 1 - padding] == '=')
        padding++;
    luaL_pushresultsize(&out, (size_t)size - padding);
    return 1;
}

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

static int crypto_ed25519_keypair(lua_State *L)
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
static int crypto_fingerprint(lua_State *L)
{
    const char *line = luaL_checkstring(L, 1);
    const char *start = strchr(line, ' ');
    size_t length = start != NULL ? strcspn(start + 1, " \n") : 0;
    unsigned char blob[4096], digest[EVP_MAX_MD_SIZE], text[64];
    int size = length > 0 && length % 4 == 0 && length < 5000
                   ? EVP_DecodeBlock(blob, (const unsigned char *)start + 1, (int)length)
                   : -1;
    if (size < 0)
        return kl_fail_as(L, "invalid", "not a public key line: %.40s", line);
    for (size_t i = length; i > 0 && start[i] == '='; i--)
        size--;
    unsigned int digest_size;
    EVP_Digest(blob, (size_t)size, digest, &digest_size, EVP_sha256(), NULL);
    EVP_EncodeBlock(text, digest, (int)digest_size);
    text[43] = '\0'; // without the padding
    lua_pushfstring(L, "SHA256:%s", text);
    return 1;
}

static int crypto_secret(lua_State *L)
{
    size_t length;
    const char *bytes = luaL_checklstring(L, 1, &length);
    kl_secret_push(L, bytes, length);
    return 1;
}

static int crypto_reveal(lua_State *L)
{
    size_t length;
    const char *bytes = kl_secret_bytes(L, 1, &length);
    luaL_argexpected(L, bytes != NULL, 1, "secret");
    lua_pushlstring(L, bytes, length);
    return 1;
}

static int crypto_is_secret(lua_State *L)
{
    lua_pushboolean(L, kl_secret_bytes(L, 1, NULL) != NULL);
    return 1;
}

static const luaL_Reg crypto_functions[] = {
    {"sha256", crypto_sha256},
    {"sha256_file", crypto_sha256_file},
    {"hmac_sha256", crypto_hmac_sha256},
    {"hmac_sha1", crypto_hmac_sha1},
    {"random", crypto_random},
    {"hex", crypto_hex},
    {"base64", crypto_base64},
    {"unbase64", crypto_unbase64},
    {"ed25519_keypair", crypto_ed25519_keypair},
    {"fingerprint", crypto_fingerprint},
    {"secret", crypto_secret},
    {"reveal", crypto_reveal},
    {"is_secret", crypto_is_secret},
    {NULL, NULL},
};

KL_PRIM(crypto)
{
    luaL_newlib(L, crypto_functions);
    return 1;
}
