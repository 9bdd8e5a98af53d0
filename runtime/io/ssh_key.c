// SSH keys as text.
#include "io/ssh_key.h"

#include <libssh2.h>
#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <stdint.h>
#include <string.h>

// libssh2 1.10 signs RSA with SHA-1 only, which OpenSSH refuses since 8.8; 1.11 knows rsa-sha2.
static bool rsa_works(void)
{
    return libssh2_version(0x010b00) != NULL;
}

static bool known_type(const char *type)
{
    static const char *const types[] = {"ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384",
                                        "ecdsa-sha2-nistp521", "ssh-rsa"};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strcmp(type, types[i]) == 0)
            return true;
    return false;
}

// Decodes base64 up to the first blank. False if it is none.
static bool decode_base64(kl_buf *out, const char *text)
{
    size_t length = strcspn(text, " \t\r\n");
    if (length == 0 || length % 4 != 0 || length > 16384)
        return false;
    kl_buf_reserve(out, length);
    int bytes = EVP_DecodeBlock((unsigned char *)out->data, (const unsigned char *)text,
                                (int)length); // counts the padding as zeros
    if (bytes < 0)
        return false;
    size_t padding = (size_t)(text[length - 1] == '=') + (size_t)(text[length - 2] == '=');
    out->length = (size_t)bytes - padding;
    return true;
}

// The string at `at` of a blob (RFC 4251 section 5), NULL past the end; moves `at` behind it.
static const char *blob_string(const char *blob, size_t length, size_t *at, size_t *out_length)
{
    if (length < 4 || *at > length - 4)
        return NULL;
    const unsigned char *size = (const unsigned char *)blob + *at;
    size_t bytes = (size_t)size[0] << 24 | (size_t)size[1] << 16 | (size_t)size[2] << 8 | size[3];
    if (bytes > length - 4 - *at)
        return NULL;
    const char *string = blob + *at + 4;
    *at += 4 + bytes;
    *out_length = bytes;
    return string;
}

// A key blob is strings to its end, the type first.
static bool blob_is_key(const kl_buf *blob, const char *type)
{
    size_t at = 0;
    size_t length = 0;
    const char *first = blob_string(blob->data, blob->length, &at, &length);
    if (first == NULL || length != strlen(type) || memcmp(first, type, length) != 0)
        return false;
    bool more = at < blob->length;
    while (at < blob->length)
        if (blob_string(blob->data, blob->length, &at, &length) == NULL)
            return false;
    return more;
}

bool kl_ssh_pin_parse(kl_ssh_pin *out, const char *text, kl_failure *out_failure)
{
    *out = (kl_ssh_pin){0};
    text += strspn(text, " \t\r\n");
    size_t length = strcspn(text, " \t");
    if (length < sizeof out->type)
        memcpy(out->type, text, length);
    if (!known_type(out->type)) {
        kl_failure_set(out_failure, "invalid", 0,
                       "the pinned host key is not of the form 'ssh-ed25519 AAAA…'");
        return false;
    }
    text += length;
    text += strspn(text, " \t");
    if (!decode_base64(&out->blob, text) || !blob_is_key(&out->blob, out->type)) {
        kl_failure_set(out_failure, "invalid", 0, "the pinned host key is no %s key: bad base64",
                       out->type);
        kl_ssh_pin_free(out);
        return false;
    }
    if (strcmp(out->type, "ssh-rsa") == 0 && !rsa_works()) {
        kl_failure_set(out_failure, "unsupported", 0,
                       "libssh2 %s cannot use RSA host keys; pin the host's ssh-ed25519 key",
                       libssh2_version(0));
        kl_ssh_pin_free(out);
        return false;
    }
    return true;
}

void kl_ssh_pin_free(kl_ssh_pin *pin)
{
    kl_buf_free(&pin->blob);
}

const char *kl_ssh_pin_preference(const kl_ssh_pin *pin)
{
    return strcmp(pin->type, "ssh-rsa") == 0 ? "rsa-sha2-512,rsa-sha2-256" : pin->type;
}

// Whether an openssh-key-v1 container (OpenSSH's PROTOCOL.key) holds an RSA key.
static bool container_is_rsa(const char *data, size_t length)
{
    static const char magic[] = "openssh-key-v1"; // with its NUL
    size_t at = sizeof magic;
    size_t size = 0;
    if (length < at || memcmp(data, magic, at) != 0)
        return false;
    for (int i = 0; i < 3; i++) // cipher, key derivation, its options
        if (blob_string(data, length, &at, &size) == NULL)
            return false;
    at += 4; // number of keys
    const char *public = blob_string(data, length, &at, &size);
    size_t inner = 0;
    size_t inner_length = 0;
    const char *type = public != NULL ? blob_string(public, size, &inner, &inner_length) : NULL;
    return type != NULL && inner_length == 7 && memcmp(type, "ssh-rsa", 7) == 0;
}

static bool pkcs8_is_rsa(const unsigned char *data, long length)
{
    EVP_PKEY *key = d2i_AutoPrivateKey(NULL, &data, length);
    bool rsa = key != NULL && EVP_PKEY_base_id(key) == EVP_PKEY_RSA;
    EVP_PKEY_free(key);
    return rsa;
}

bool kl_ssh_key_usable(const char *text, size_t length, kl_failure *out_failure)
{
    BIO *source = BIO_new_mem_buf(text, length > INT32_MAX ? 0 : (int)length);
    char *name = NULL;
    char *header = NULL;
    unsigned char *data = NULL;
    long size = 0;
    bool pem = PEM_read_bio(source, &name, &header, &data, &size) == 1;
    bool private = pem && strstr(name, "PRIVATE KEY") != NULL;
    bool rsa = private && (strcmp(name, "RSA PRIVATE KEY") == 0 ||
                           container_is_rsa((const char *)data, (size_t)size) ||
                           (strcmp(name, "PRIVATE KEY") == 0 && pkcs8_is_rsa(data, size)));
    OPENSSL_free(name);
    OPENSSL_free(header);
    OPENSSL_clear_free(data, pem ? (size_t)size : 0);
    BIO_free(source);
    if (!private)
        kl_failure_set(out_failure, "auth", 0, "the key is no private key in PEM form");
    else if (rsa && !rsa_works())
        kl_failure_set(out_failure, "unsupported", 0,
                       "libssh2 %s cannot sign with RSA keys; use an ed25519 key "
                       "(ssh-keygen -t ed25519)",
                       libssh2_version(0));
    return private && (!rsa || rsa_works());
}

void kl_ssh_fingerprint(char out[64], const void *blob, size_t length)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int size = 0;
    EVP_Digest(blob, length, digest, &size, EVP_sha256(), NULL);
    memcpy(out, "SHA256:", 7);
    int encoded = EVP_EncodeBlock((unsigned char *)out + 7, digest, (int)size);
    out[7 + encoded - 1] = '\0'; // 32 bytes end in one '=', which ssh-keygen leaves out
}
