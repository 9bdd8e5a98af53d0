// rt.crypto: digests, random bytes, encodings, ed25519 keys in OpenSSH's format, secrets.
#include "prim/crypto.h"
#include "base/ending.h"
#include "prim/prims.h"

#include "bridge/fail.h"
#include "bridge/op.h"
#include "bridge/opts.h"
#include "bridge/scratch.h"
#include "bridge/secret.h"
#include "io/base64.h"
#include "io/sha256.h"

#include <errno.h>
#include <limits.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/types.h>

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
    char hex[65];
    kl_sha256_of(bytes, length, hex);
    lua_pushlstring(L, hex, 64);
    return 1;
}

static int crypto_md5(lua_State *L)
{
    size_t length;
    const char *bytes = kl_secret_or_string(L, 1, &length);
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int size;
    if (EVP_Digest(bytes, length, digest, &size, EVP_md5(), NULL) != 1)
        return luaL_error(L, "this OpenSSL refuses MD5");
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
    self->path = kl_need(strdup(path));
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

// The kernel's own generator: OpenSSL's takes longer to seed than a whole short run lasts.
static bool fill_random(void *out, size_t length)
{
    unsigned char *at = out;
    while (length > 0) {
        ssize_t got = getrandom(at, length, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        at += got;
        length -= (size_t)got;
    }
    return true;
}

static int crypto_random(lua_State *L)
{
    lua_Integer length = luaL_checkinteger(L, 1);
    luaL_argcheck(L, length > 0 && length <= 1 << 20, 1, "between 1 and 1048576 bytes");
    luaL_Buffer out;
    char *bytes = luaL_buffinitsize(L, &out, (size_t)length);
    if (!fill_random(bytes, (size_t)length))
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
    kl_buf *bytes = kl_scratch(L);
    if (!kl_base64_decode(bytes, text, length))
        return kl_fail_as(L, "invalid", "not base64");
    kl_scratch_push(L, bytes);
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
    {"md5", crypto_md5},
    {"sha256_file", crypto_sha256_file},
    {"hmac_sha256", crypto_hmac_sha256},
    {"hmac_sha1", crypto_hmac_sha1},
    {"random", crypto_random},
    {"hex", crypto_hex},
    {"base64", crypto_base64},
    {"unbase64", crypto_unbase64},
    {"ed25519_keypair", kl_crypto_ed25519_keypair},
    {"fingerprint", kl_crypto_fingerprint},
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
