// A user's SSH keys.
#include "io/ssh_key_internal.h"

#include "base/ending.h"
#include "io/base64.h"
#include "io/ssh_pin.h"

#include <libssh2.h>
#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static kl_ssh_key *key_new(void)
{
    kl_ssh_key *key = calloc(1, sizeof *key);
    if (key == NULL)
        kl_out_of_memory();
    key->references = 1;
    return key;
}

kl_ssh_key *kl_ssh_key_hold(kl_ssh_key *key)
{
    key->references++;
    return key;
}

void kl_ssh_key_drop(kl_ssh_key *key)
{
    if (key == NULL || --key->references > 0)
        return;
    EVP_PKEY_free(key->pair); // wipes it
    free(key->agent);
    kl_buf_free(&key->blob);
    kl_buf_free(&key->public);
    free(key);
}

static void put_number(kl_buf *out, const EVP_PKEY *pair, const char *name)
{
    BIGNUM *number = NULL;
    if (EVP_PKEY_get_bn_param(pair, name, &number) == 1)
        kl_ssh_put_mpint(out, number);
    BN_free(number);
}

// RFC 5656 section 3.1.
static bool put_ecdsa(kl_buf *out, const EVP_PKEY *pair)
{
    static const char *const curves[][2] = {
        {"prime256v1", "nistp256"}, {"secp384r1", "nistp384"}, {"secp521r1", "nistp521"}};
    char group[32] = "";
    unsigned char point[160];
    size_t length = 0;
    EVP_PKEY_get_utf8_string_param(pair, OSSL_PKEY_PARAM_GROUP_NAME, group, sizeof group, NULL);
    for (size_t i = 0; i < sizeof curves / sizeof *curves; i++) {
        if (strcmp(group, curves[i][0]) != 0 ||
            EVP_PKEY_get_octet_string_param(pair, OSSL_PKEY_PARAM_PUB_KEY, point, sizeof point,
                                            &length) != 1)
            continue;
        char type[32];
        snprintf(type, sizeof type, "ecdsa-sha2-%s", curves[i][1]);
        kl_ssh_put_text(out, type);
        kl_ssh_put_text(out, curves[i][1]);
        kl_ssh_put_string(out, point, length);
        return true;
    }
    return false;
}

// Writes the public half as it travels. False for a kind of key that SSH has not.
static bool put_public(kl_buf *out, const EVP_PKEY *pair)
{
    unsigned char bytes[32];
    size_t length = sizeof bytes;
    switch (EVP_PKEY_get_base_id(pair)) {
    case EVP_PKEY_ED25519: // RFC 8709
        kl_ssh_put_text(out, "ssh-ed25519");
        EVP_PKEY_get_raw_public_key(pair, bytes, &length);
        kl_ssh_put_string(out, bytes, length);
        return true;
    case EVP_PKEY_RSA: // RFC 4253 section 6.6
        kl_ssh_put_text(out, "ssh-rsa");
        put_number(out, pair, OSSL_PKEY_PARAM_RSA_E);
        put_number(out, pair, OSSL_PKEY_PARAM_RSA_N);
        return true;
    case EVP_PKEY_EC:
        return put_ecdsa(out, pair);
    default:
        return false;
    }
}

static int give_passphrase(char *out, int size, int writing, void *passphrase)
{
    (void)writing;
    size_t length = passphrase != NULL ? strlen(passphrase) : 0;
    if (passphrase == NULL || length > (size_t)size)
        return -1;
    memcpy(out, passphrase, length);
    return (int)length;
}

static bool read_pem(kl_ssh_key *key, const char *text, size_t length, bool encrypted,
                     const char *passphrase, kl_failure *out_failure)
{
    if (encrypted && passphrase == NULL) {
        kl_failure_set(out_failure, "locked", 0, "the key is encrypted and needs its passphrase");
        return false;
    }
    BIO *source = BIO_new_mem_buf(text, (int)length);
    key->pair =
        PEM_read_bio_PrivateKey(source, NULL, give_passphrase, (void *)(uintptr_t)passphrase);
    BIO_free(source);
    ERR_clear_error();
    if (key->pair == NULL)
        kl_failure_set(out_failure, "auth", 0,
                       encrypted ? "the passphrase does not open the key"
                                 : "the private key cannot be read: is it whole?");
    else if (!put_public(&key->public, key->pair))
        kl_failure_set(out_failure, "unsupported", 0,
                       "the key is of a kind that SSH does not use; use an ed25519 key "
                       "(ssh-keygen -t ed25519)");
    return key->public.length > 0;
}

// The type that the blob begins with, and that of the key below a certificate.
static void set_type(kl_ssh_key *key)
{
    kl_ssh_reader reader = kl_ssh_reader_of(key->public.data, key->public.length);
    kl_ssh_string type = kl_ssh_take_string(&reader);
    for (size_t i = 0; i < type.length; i++) {
        if (strncmp(type.data + i, "-cert-", 6) == 0)
            type.length = i;
    }
    snprintf(key->type, sizeof key->type, "%.*s", (int)type.length, type.data);
}

void kl_ssh_key_line(kl_buf *out, const void *blob, size_t length)
{
    kl_ssh_reader reader = kl_ssh_reader_of(blob, length);
    kl_ssh_string type = kl_ssh_take_string(&reader);
    kl_buf_append(out, type.data, type.length);
    kl_buf_append(out, " ", 1);
    kl_base64_encode(out, blob, length);
}

kl_ssh_key *kl_ssh_key_read(const char *text, size_t length, const char *passphrase,
                            kl_buf *out_public, kl_failure *out_failure)
{
    char *name = NULL, *header = NULL;
    unsigned char *data = NULL;
    long size = 0;
    kl_ssh_key *key = key_new();
    BIO *source = BIO_new_mem_buf(text, length > 1 << 20 ? 0 : (int)length);
    bool pem = PEM_read_bio(source, &name, &header, &data, &size) == 1;
    bool read = false;
    if (!pem || strstr(name, "PRIVATE KEY") == NULL)
        kl_failure_set(out_failure, "auth", 0, "the key is no private key in PEM form");
    else if (strcmp(name, "OPENSSH PRIVATE KEY") == 0)
        read = kl_ssh_key_openssh(key, data, (size_t)size, passphrase, out_failure);
    else
        read = read_pem(key, text, length,
                        strstr(name, "ENCRYPTED") != NULL || strstr(header, "ENCRYPTED") != NULL,
                        passphrase, out_failure);
    if (key->public.length > 0 && out_public != NULL)
        kl_ssh_key_line(out_public, key->public.data, key->public.length);
    OPENSSL_free(name);
    OPENSSL_free(header);
    OPENSSL_clear_free(data, pem ? (size_t)size : 0);
    BIO_free(source);
    ERR_clear_error();
    if (!read) {
        kl_ssh_key_drop(key);
        return NULL;
    }
    set_type(key);
    kl_buf_append(&key->blob, key->public.data, key->public.length);
    return key;
}

kl_ssh_key *kl_ssh_key_of_agent(const char *agent, const void *blob, size_t length,
                                const char *comment, size_t comment_length)
{
    kl_ssh_key *key = key_new();
    key->agent = strdup(agent);
    if (key->agent == NULL)
        kl_out_of_memory();
    kl_buf_append(&key->blob, blob, length);
    kl_buf_append(&key->public, blob, length);
    snprintf(key->comment, sizeof key->comment, "%.*s", (int)comment_length, comment);
    set_type(key);
    return key;
}

bool kl_ssh_key_certify(kl_ssh_key *key, const char *text, kl_failure *out_failure)
{
    kl_buf blob = {0};
    const char *space = strchr(text, ' ');
    bool decoded = space != NULL && kl_ssh_base64(&blob, space + 1);
    kl_ssh_reader reader = kl_ssh_reader_of(blob.data, blob.length);
    kl_ssh_string type = decoded ? kl_ssh_take_string(&reader) : (kl_ssh_string){"", 0};
    kl_ssh_take_string(&reader); // the nonce; then the key's own fields (PROTOCOL.certkeys)
    kl_ssh_reader public = kl_ssh_reader_of(key->public.data, key->public.length);
    kl_ssh_take_string(&public);
    bool whole = decoded && kl_ssh_string_starts(type, key->type) && !reader.bad &&
                 type.length > strlen(key->type) && reader.length > public.length &&
                 memcmp(reader.data, public.data, public.length) == 0;
    if (!whole) {
        kl_failure_set(out_failure, "invalid", 0, "the certificate is none of this %s key",
                       key->type);
        kl_buf_free(&blob);
        return false;
    }
    kl_buf_free(&key->blob);
    key->blob = blob;
    return true;
}

bool kl_ssh_key_usable(const kl_ssh_key *key, kl_failure *out_failure)
{
    kl_ssh_reader reader = kl_ssh_reader_of(key->blob.data, key->blob.length);
    kl_ssh_string type = kl_ssh_take_string(&reader);
    bool certificate = !kl_ssh_string_is(type, key->type);
    bool ecdsa = strncmp(key->type, "ecdsa-sha2-", 11) == 0;
    bool known =
        ecdsa || strcmp(key->type, "ssh-ed25519") == 0 || strcmp(key->type, "ssh-rsa") == 0;
    if (known && (!certificate || ecdsa || kl_ssh_rsa_works()))
        return true;
    if (!known)
        kl_failure_set(out_failure, "unsupported", 0,
                       "libssh2 %s cannot log in with %s keys; use an ed25519 key "
                       "(ssh-keygen -t ed25519)",
                       libssh2_version(0), key->type);
    else
        kl_failure_set(out_failure, "unsupported", 0,
                       "libssh2 %s cannot log in with the certificate of an %s key; certify an "
                       "ecdsa key (ssh-keygen -t ecdsa), or use libssh2 1.11",
                       libssh2_version(0), key->type);
    return false;
}
