// Signs for the login, as the algorithm that libssh2 chose wants it.
#include "io/ssh_key_internal.h"

#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <string.h>

kl_ssh_string kl_ssh_sign_algorithm(const void *data, size_t length)
{
    kl_ssh_reader reader = kl_ssh_reader_of(data, length);
    kl_ssh_take_string(&reader); // the session's id
    kl_ssh_take_byte(&reader);   // SSH_MSG_USERAUTH_REQUEST
    kl_ssh_take_string(&reader); // user
    kl_ssh_take_string(&reader); // service
    kl_ssh_take_string(&reader); // "publickey"
    kl_ssh_take_byte(&reader);
    return kl_ssh_take_string(&reader);
}

static const EVP_MD *digest_of(const kl_ssh_key *key, kl_ssh_string algorithm)
{
    if (strcmp(key->type, "ssh-rsa") == 0)
        return kl_ssh_string_starts(algorithm, "rsa-sha2-512")   ? EVP_sha512()
               : kl_ssh_string_starts(algorithm, "rsa-sha2-256") ? EVP_sha256()
                                                                 : EVP_sha1();
    if (strcmp(key->type, "ecdsa-sha2-nistp256") == 0)
        return EVP_sha256();
    if (strcmp(key->type, "ecdsa-sha2-nistp384") == 0)
        return EVP_sha384();
    return strcmp(key->type, "ecdsa-sha2-nistp521") == 0 ? EVP_sha512() : NULL; // ed25519: its own
}

// OpenSSL gives ASN.1; SSH wants two integers (RFC 5656 section 3.1.2).
static bool put_ecdsa(kl_buf *out, const unsigned char *der, size_t length)
{
    ECDSA_SIG *signature = d2i_ECDSA_SIG(NULL, &der, (long)length);
    if (signature == NULL)
        return false;
    kl_ssh_put_mpint(out, ECDSA_SIG_get0_r(signature));
    kl_ssh_put_mpint(out, ECDSA_SIG_get0_s(signature));
    ECDSA_SIG_free(signature);
    return true;
}

bool kl_ssh_key_sign(const kl_ssh_key *key, kl_buf *out, const void *data, size_t length)
{
    unsigned char raw[2048]; // RSA of 16384 bits
    size_t size = sizeof raw;
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    const EVP_MD *digest = digest_of(key, kl_ssh_sign_algorithm(data, length));
    bool made = context != NULL && key->pair != NULL &&
                EVP_PKEY_get_size(key->pair) <= (int)sizeof raw &&
                EVP_DigestSignInit(context, NULL, digest, NULL, key->pair) == 1 &&
                EVP_DigestSign(context, raw, &size, data, length) == 1;
    EVP_MD_CTX_free(context);
    ERR_clear_error();
    if (made && strncmp(key->type, "ecdsa-", 6) == 0)
        return put_ecdsa(out, raw, size);
    if (made)
        kl_buf_append(out, raw, size);
    return made;
}
