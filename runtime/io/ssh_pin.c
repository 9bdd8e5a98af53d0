// The host keys that a connection accepts.
#include "io/ssh_pin.h"

#include "base/ending.h"
#include "io/ssh_blob.h"

#include <libssh2.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

// In the order in which they are asked for.
static const char *const types[] = {"ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384",
                                    "ecdsa-sha2-nistp521", "ssh-rsa"};
#define TYPES (sizeof types / sizeof *types)

const char *kl_ssh_library(void)
{
    return libssh2_version(0);
}

bool kl_ssh_rsa_works(void)
{
    return libssh2_version(0x010b00) != NULL;
}

static bool known_type(const char *type)
{
    for (size_t i = 0; i < TYPES; i++)
        if (strcmp(type, types[i]) == 0)
            return true;
    return false;
}

// A key blob is strings to its end, the type first.
static bool blob_is_key(const kl_buf *blob, const char *type)
{
    kl_ssh_reader reader = kl_ssh_reader_of(blob->data, blob->length);
    if (!kl_ssh_string_is(kl_ssh_take_string(&reader), type) || reader.length == 0)
        return false;
    while (!reader.bad && reader.length > 0)
        kl_ssh_take_string(&reader);
    return !reader.bad;
}

static bool parse(kl_ssh_pin *out, const char *text, kl_failure *out_failure)
{
    static const char marker[] = "@revoked";
    text += strspn(text, " \t\r\n");
    out->revoked = strncmp(text, marker, sizeof marker - 1) == 0;
    if (out->revoked)
        text += sizeof marker - 1;
    text += strspn(text, " \t");
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
    if (!kl_ssh_base64(&out->blob, text) || !blob_is_key(&out->blob, out->type)) {
        kl_failure_set(out_failure, "invalid", 0, "the pinned host key is no %s key: bad base64",
                       out->type);
        return false;
    }
    return true;
}

bool kl_ssh_pins_add(kl_ssh_pins *pins, const char *text, kl_failure *out_failure)
{
    kl_ssh_pin pin = {0};
    if (pins->count == KL_SSH_PINS) {
        kl_failure_set(out_failure, "limit", 0, "more than %d host keys for one host", KL_SSH_PINS);
        return false;
    }
    if (!parse(&pin, text, out_failure)) {
        kl_buf_free(&pin.blob);
        return false;
    }
    kl_ssh_pin *list = realloc(pins->list, (pins->count + 1) * sizeof *list);
    if (list == NULL)
        kl_out_of_memory();
    pins->list = list;
    list[pins->count++] = pin;
    return true;
}

void kl_ssh_pins_copy(kl_ssh_pins *out, const kl_ssh_pins *pins)
{
    out->count = pins->count;
    out->list = calloc(pins->count > 0 ? pins->count : 1, sizeof *out->list);
    if (out->list == NULL)
        kl_out_of_memory();
    for (size_t i = 0; i < pins->count; i++) {
        out->list[i] = pins->list[i];
        out->list[i].blob = (kl_buf){0};
        kl_buf_append(&out->list[i].blob, pins->list[i].blob.data, pins->list[i].blob.length);
    }
}

void kl_ssh_pins_free(kl_ssh_pins *pins)
{
    for (size_t i = 0; i < pins->count; i++)
        kl_buf_free(&pins->list[i].blob);
    free(pins->list);
    *pins = (kl_ssh_pins){0};
}

static bool has_type(const kl_ssh_pins *pins, const char *type)
{
    for (size_t i = 0; i < pins->count; i++)
        if (!pins->list[i].revoked && strcmp(pins->list[i].type, type) == 0)
            return true;
    return false;
}

bool kl_ssh_pins_preference(const kl_ssh_pins *pins, kl_buf *out, kl_failure *out_failure)
{
    for (size_t i = 0; i < TYPES; i++) {
        bool rsa = strcmp(types[i], "ssh-rsa") == 0;
        if (!has_type(pins, types[i]) || (rsa && !kl_ssh_rsa_works()))
            continue;
        kl_buf_printf(out, "%s%s", out->length > 0 ? "," : "",
                      rsa ? "rsa-sha2-512,rsa-sha2-256" : types[i]);
    }
    if (out->length > 0)
        return true;
    if (has_type(pins, "ssh-rsa"))
        kl_failure_set(out_failure, "unsupported", 0,
                       "only an RSA key of the host is known, and libssh2 %s cannot use RSA host "
                       "keys; know its ssh-ed25519 key if it has one (ssh-keyscan -t ed25519), or "
                       "build kiln with libssh2 1.11 (Debian 13)",
                       libssh2_version(0));
    else
        kl_failure_set(out_failure, "invalid", 0, "no host key is given that is not revoked");
    return false;
}

const kl_ssh_pin *kl_ssh_pins_find(const kl_ssh_pins *pins, const void *blob, size_t length)
{
    const kl_ssh_pin *found = NULL;
    for (size_t i = 0; i < pins->count; i++) {
        const kl_ssh_pin *pin = &pins->list[i];
        if (pin->blob.length == length && CRYPTO_memcmp(pin->blob.data, blob, length) == 0 &&
            (found == NULL || pin->revoked))
            found = pin;
    }
    return found;
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
