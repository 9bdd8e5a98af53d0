// SSH keys as text: the pinned host key, and what libssh2 can do with a user's private key.
#ifndef KL_IO_SSH_KEY_H
#define KL_IO_SSH_KEY_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/failure.h"

typedef struct kl_ssh_pin {
    char type[32]; // "ssh-ed25519"
    kl_buf blob;   // the key as it travels, RFC 4253 section 6.6
} kl_ssh_pin;

// Reads "<type> <base64> [comment]". False: `out_failure` says why (`invalid`, `unsupported`).
bool kl_ssh_pin_parse(kl_ssh_pin *out, const char *text, kl_failure *out_failure);
void kl_ssh_pin_free(kl_ssh_pin *pin);
// The algorithms to ask the host for, so that it proves the pinned key and no other.
const char *kl_ssh_pin_preference(const kl_ssh_pin *pin);

// Whether the linked libssh2 can sign with this private key (PEM text). False: `out_failure` says
// why in one sentence with the way out (`unsupported`, `auth`). Never quotes the key.
bool kl_ssh_key_usable(const char *text, size_t length, kl_failure *out_failure);

// "SHA256:…" as ssh-keygen -l prints it, of a key blob.
void kl_ssh_fingerprint(char out[64], const void *blob, size_t length);

#endif
