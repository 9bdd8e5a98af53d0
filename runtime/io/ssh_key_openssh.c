// Reads private keys in OpenSSH's own format, also encrypted ones (PROTOCOL.key in its sources).
#include "io/ssh_key_internal.h"

#include "io/bcrypt_kdf.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <stdio.h>
#include <string.h>

#define ROUNDS_MAX 4096 // a minute; ssh-keygen's default is 16 or 24

static bool unreadable(kl_failure *out_failure)
{
    kl_failure_set(out_failure, "auth", 0, "the private key cannot be read: is it whole?");
    return false;
}

typedef struct container {
    kl_ssh_string cipher;
    kl_ssh_string kdf;
    kl_ssh_string kdf_options;
    kl_ssh_string public;
    kl_ssh_string private;
} container;

static bool open_container(container *out, const void *data, size_t length)
{
    static const char magic[] = "openssh-key-v1"; // with its NUL
    if (length < sizeof magic || memcmp(data, magic, sizeof magic) != 0)
        return false;
    kl_ssh_reader reader =
        kl_ssh_reader_of((const char *)data + sizeof magic, length - sizeof magic);
    out->cipher = kl_ssh_take_string(&reader);
    out->kdf = kl_ssh_take_string(&reader);
    out->kdf_options = kl_ssh_take_string(&reader);
    uint32_t keys = kl_ssh_take_u32(&reader);
    out->public = kl_ssh_take_string(&reader);
    out->private = kl_ssh_take_string(&reader);
    return !reader.bad && keys == 1;
}

static const EVP_CIPHER *cipher_of(kl_ssh_string name)
{
    if (kl_ssh_string_is(name, "aes256-ctr")) // what ssh-keygen writes
        return EVP_aes_256_ctr();
    if (kl_ssh_string_is(name, "aes256-cbc")) // what it wrote until 2018
        return EVP_aes_256_cbc();
    if (kl_ssh_string_is(name, "aes192-ctr"))
        return EVP_aes_192_ctr();
    return kl_ssh_string_is(name, "aes128-ctr") ? EVP_aes_128_ctr() : NULL;
}

static bool decrypt(kl_buf *out, const container *from, const EVP_CIPHER *cipher,
                    const char *passphrase)
{
    unsigned char key[EVP_MAX_KEY_LENGTH + EVP_MAX_IV_LENGTH];
    kl_ssh_reader reader = kl_ssh_reader_of(from->kdf_options.data, from->kdf_options.length);
    kl_ssh_string salt = kl_ssh_take_string(&reader);
    uint32_t rounds = kl_ssh_take_u32(&reader);
    size_t key_length = (size_t)EVP_CIPHER_get_key_length(cipher);
    if (reader.bad || rounds == 0 || rounds > ROUNDS_MAX || from->private.length % 16 != 0 ||
        from->private.length > 1 << 20)
        return false;
    kl_bcrypt_kdf(key, key_length + 16, passphrase, strlen(passphrase), salt.data, salt.length,
                  rounds);
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    int length = 0;
    kl_buf_reserve(out, from->private.length + 16);
    bool done = context != NULL &&
                EVP_DecryptInit_ex(context, cipher, NULL, key, key + key_length) == 1 &&
                EVP_CIPHER_CTX_set_padding(context, 0) == 1 &&
                EVP_DecryptUpdate(context, (unsigned char *)out->data, &length,
                                  (const unsigned char *)from->private.data,
                                  (int)from->private.length) == 1;
    out->length = done ? (size_t)length : 0;
    EVP_CIPHER_CTX_free(context);
    OPENSSL_cleanse(key, sizeof key);
    return done;
}

static EVP_PKEY *pair_from(const char *type, OSSL_PARAM_BLD *build)
{
    EVP_PKEY *pair = NULL;
    OSSL_PARAM *parameters = OSSL_PARAM_BLD_to_param(build);
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
    if (parameters != NULL && context != NULL && EVP_PKEY_fromdata_init(context) == 1)
        EVP_PKEY_fromdata(context, &pair, EVP_PKEY_KEYPAIR, parameters);
    EVP_PKEY_CTX_free(context);
    OSSL_PARAM_free(parameters);
    return pair;
}

static EVP_PKEY *read_ed25519(kl_ssh_reader *reader)
{
    kl_ssh_take_string(reader); // the public half, which follows the seed again
    kl_ssh_string seed = kl_ssh_take_string(reader);
    return reader->bad || seed.length != 64
               ? NULL
               : EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL,
                                              (const unsigned char *)seed.data, 32);
}

static EVP_PKEY *read_ecdsa(kl_ssh_reader *reader)
{
    kl_ssh_string curve = kl_ssh_take_string(reader);
    kl_ssh_string point = kl_ssh_take_string(reader);
    BIGNUM *secret = kl_ssh_take_mpint(reader);
    const char *group = kl_ssh_string_is(curve, "nistp256")   ? "prime256v1"
                        : kl_ssh_string_is(curve, "nistp384") ? "secp384r1"
                                                              : "secp521r1";
    EVP_PKEY *pair = NULL;
    OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    if (build != NULL && secret != NULL &&
        OSSL_PARAM_BLD_push_utf8_string(build, OSSL_PKEY_PARAM_GROUP_NAME, group, 0) == 1 &&
        OSSL_PARAM_BLD_push_octet_string(build, OSSL_PKEY_PARAM_PUB_KEY, point.data,
                                         point.length) == 1 &&
        OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_PRIV_KEY, secret) == 1)
        pair = pair_from("EC", build);
    OSSL_PARAM_BLD_free(build);
    BN_clear_free(secret);
    return pair;
}

// The exponents of the Chinese remainder, which the format leaves out: d modulo p - 1.
static BIGNUM *exponent(const BIGNUM *d, const BIGNUM *prime)
{
    BN_CTX *context = BN_CTX_secure_new();
    BIGNUM *less = prime != NULL ? BN_dup(prime) : NULL;
    BIGNUM *out = BN_new();
    if (context == NULL || d == NULL || less == NULL || out == NULL || BN_sub_word(less, 1) != 1 ||
        BN_mod(out, d, less, context) != 1) {
        BN_clear_free(out);
        out = NULL;
    }
    BN_clear_free(less);
    BN_CTX_free(context);
    return out;
}

static EVP_PKEY *read_rsa(kl_ssh_reader *reader)
{
    static const char *const names[] = {
        OSSL_PKEY_PARAM_RSA_N,         OSSL_PKEY_PARAM_RSA_E,
        OSSL_PKEY_PARAM_RSA_D,         OSSL_PKEY_PARAM_RSA_COEFFICIENT1,
        OSSL_PKEY_PARAM_RSA_FACTOR1,   OSSL_PKEY_PARAM_RSA_FACTOR2,
        OSSL_PKEY_PARAM_RSA_EXPONENT1, OSSL_PKEY_PARAM_RSA_EXPONENT2};
    BIGNUM *numbers[8] = {0};
    for (int i = 0; i < 6; i++)
        numbers[i] = kl_ssh_take_mpint(reader);
    numbers[6] = exponent(numbers[2], numbers[4]);
    numbers[7] = exponent(numbers[2], numbers[5]);
    OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    bool whole = build != NULL;
    for (int i = 0; i < 8; i++)
        whole =
            whole && numbers[i] != NULL && OSSL_PARAM_BLD_push_BN(build, names[i], numbers[i]) == 1;
    EVP_PKEY *pair = whole ? pair_from("RSA", build) : NULL;
    OSSL_PARAM_BLD_free(build);
    for (int i = 0; i < 8; i++)
        BN_clear_free(numbers[i]);
    return pair;
}

// The private list: two equal numbers, which a wrong passphrase makes unequal, and the key.
static bool read_private(kl_ssh_key *key, const char *data, size_t length, bool encrypted,
                         kl_failure *out_failure)
{
    kl_ssh_reader reader = kl_ssh_reader_of(data, length);
    uint32_t first = kl_ssh_take_u32(&reader);
    if (first != kl_ssh_take_u32(&reader) || reader.bad) {
        if (encrypted)
            kl_failure_set(out_failure, "auth", 0, "the passphrase does not open the key");
        return encrypted ? false : unreadable(out_failure);
    }
    kl_ssh_string type = kl_ssh_take_string(&reader);
    if (kl_ssh_string_is(type, "ssh-ed25519"))
        key->pair = read_ed25519(&reader);
    else if (kl_ssh_string_starts(type, "ecdsa-sha2-nistp"))
        key->pair = read_ecdsa(&reader);
    else if (kl_ssh_string_is(type, "ssh-rsa"))
        key->pair = read_rsa(&reader);
    else {
        kl_failure_set(out_failure, "unsupported", 0,
                       "kiln cannot sign with %.*s keys; use an ed25519 key (ssh-keygen -t "
                       "ed25519), or the key of an ssh-agent",
                       (int)(type.length < 64 ? type.length : 64), type.data);
        return false;
    }
    kl_ssh_string comment = kl_ssh_take_string(&reader);
    snprintf(key->comment, sizeof key->comment, "%.*s", (int)comment.length, comment.data);
    return key->pair != NULL || unreadable(out_failure);
}

bool kl_ssh_key_openssh(kl_ssh_key *key, const void *data, size_t length, const char *passphrase,
                        kl_failure *out_failure)
{
    container from;
    if (!open_container(&from, data, length))
        return unreadable(out_failure);
    kl_buf_append(&key->public, from.public.data, from.public.length);
    if (kl_ssh_string_is(from.cipher, "none"))
        return read_private(key, from.private.data, from.private.length, false, out_failure);
    if (passphrase == NULL) {
        kl_failure_set(out_failure, "locked", 0, "the key is encrypted and needs its passphrase");
        return false;
    }
    const EVP_CIPHER *cipher = cipher_of(from.cipher);
    if (cipher == NULL || !kl_ssh_string_is(from.kdf, "bcrypt")) {
        kl_failure_set(out_failure, "unsupported", 0,
                       "the key is encrypted with %.*s, which kiln does not open; write it anew "
                       "with ssh-keygen -p -Z aes256-ctr",
                       (int)(from.cipher.length < 64 ? from.cipher.length : 64), from.cipher.data);
        return false;
    }
    kl_buf plain = {0};
    bool read = decrypt(&plain, &from, cipher, passphrase)
                    ? read_private(key, plain.data, plain.length, true, out_failure)
                    : unreadable(out_failure);
    if (plain.data != NULL)
        OPENSSL_cleanse(plain.data, plain.capacity);
    kl_buf_free(&plain);
    return read;
}
