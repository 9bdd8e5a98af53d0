// The host keys that a connection accepts: those that are known, less those that are revoked.
#ifndef KL_IO_SSH_PIN_H
#define KL_IO_SSH_PIN_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/failure.h"

#define KL_SSH_PINS 64

typedef struct kl_ssh_pin {
    char type[32]; // "ssh-ed25519"
    kl_buf blob;   // the key as it travels, RFC 4253 section 6.6
    bool revoked;  // the host must not show this one
} kl_ssh_pin;

typedef struct kl_ssh_pins {
    kl_ssh_pin *list; // owned
    size_t count;
} kl_ssh_pins;

// Adds "<type> <base64> [comment]", with "@revoked " before it for a key that must not be shown.
// False: `out_failure` says why (`invalid`, `limit`).
bool kl_ssh_pins_add(kl_ssh_pins *pins, const char *text, kl_failure *out_failure);
void kl_ssh_pins_copy(kl_ssh_pins *out, const kl_ssh_pins *pins);
void kl_ssh_pins_free(kl_ssh_pins *pins);
// Writes the algorithms to ask the host for, so that it proves a known key and no other. False:
// `out_failure` says why the linked libssh2 can use none of them (`invalid`, `unsupported`).
bool kl_ssh_pins_preference(const kl_ssh_pins *pins, kl_buf *out, kl_failure *out_failure);
// The pin of this key, NULL: none; a revoked one before all others.
const kl_ssh_pin *kl_ssh_pins_find(const kl_ssh_pins *pins, const void *blob, size_t length);

// "SHA256:…" as ssh-keygen -l prints it, of a key blob.
void kl_ssh_fingerprint(char out[64], const void *blob, size_t length);
// The version of the linked libssh2: "1.10.0".
const char *kl_ssh_library(void);
// Whether the linked libssh2 can use RSA: 1.10 knows it with SHA-1 only, which OpenSSH refuses
// since 8.8; 1.11 knows rsa-sha2.
bool kl_ssh_rsa_works(void);

#endif
