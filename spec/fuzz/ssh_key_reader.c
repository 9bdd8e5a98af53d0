// ssh_key: fuzzes the reader of private keys and certificates; a key that it takes must sign, or
// say that it cannot.
#include "io/ssh_key_internal.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);

// Only the number of rounds makes it slow: one will do.
void __real_kl_bcrypt_kdf(unsigned char *out, size_t out_length, const char *pass,
                          size_t pass_length, const void *salt, size_t salt_length,
                          uint32_t rounds);
void __wrap_kl_bcrypt_kdf(unsigned char *out, size_t out_length, const char *pass,
                          size_t pass_length, const void *salt, size_t salt_length,
                          uint32_t rounds);
void __wrap_kl_bcrypt_kdf(unsigned char *out, size_t out_length, const char *pass,
                          size_t pass_length, const void *salt, size_t salt_length, uint32_t rounds)
{
    (void)rounds;
    __real_kl_bcrypt_kdf(out, out_length, pass, pass_length, salt, salt_length, 1);
}

// Exactly one of the two: a key, or a failure with words.
static void check(const kl_ssh_key *key, const kl_failure *failure)
{
    if ((key == NULL) != kl_failed(failure) || (key == NULL && failure->message[0] == '\0'))
        abort();
}

static void use(kl_ssh_key *key, const char *text)
{
    static const char asked[] = "\0\0\0\1s\62\0\0\0\4user\0\0\0\16ssh-connection";
    kl_failure failure = {0};
    kl_buf signature = {0};
    if (kl_ssh_key_usable(key, &failure))
        kl_ssh_key_sign(key, &signature, asked, sizeof asked);
    kl_buf_free(&signature);
    failure = (kl_failure){0};
    if (!kl_ssh_key_certify(key, text, &failure) && !kl_failed(&failure))
        abort();
}

// The container without its armour, which a change of bytes would only break.
static void read_bare(const uint8_t *data, size_t length, const char *passphrase)
{
    kl_failure failure = {0};
    kl_ssh_key *key = calloc(1, sizeof *key);
    if (key == NULL)
        abort();
    key->references = 1;
    if (kl_ssh_key_openssh(key, data, length, passphrase, &failure))
        use(key, "");
    else
        check(NULL, &failure);
    kl_ssh_key_drop(key);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
    static const char magic[] = "openssh-key-v1"; // with its NUL
    if (length >= sizeof magic && memcmp(data, magic, sizeof magic) == 0) {
        read_bare(data, length, NULL);
        read_bare(data, length, "passphrase");
        return 0;
    }
    kl_buf text = {0}, public = {0};
    kl_buf_append(&text, data, length);
    for (int locked = 0; locked < 2; locked++) {
        kl_failure failure = {0};
        kl_ssh_key *key = kl_ssh_key_read(kl_buf_text(&text), text.length,
                                          locked ? NULL : "passphrase", &public, &failure);
        check(key, &failure);
        if (key != NULL)
            use(key, kl_buf_text(&text));
        kl_ssh_key_drop(key);
    }
    kl_buf_free(&text);
    kl_buf_free(&public);
    return 0;
}
