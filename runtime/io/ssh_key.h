// A user's SSH keys: from the text of a private key, or held by an ssh-agent.
#ifndef KL_IO_SSH_KEY_H
#define KL_IO_SSH_KEY_H

#include <openssl/types.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/failure.h"

// Shared by reference; does not change once made.
typedef struct kl_ssh_key {
    int references;
    EVP_PKEY *pair; // NULL: the agent signs
    char *agent;    // path of the agent's socket, NULL: none
    char type[32];  // of the key itself: "ssh-ed25519"
    kl_buf blob;    // what is shown to the host: the public key or its certificate
    kl_buf public;  // the public key
    char comment[96];
} kl_ssh_key;

// Reads a private key: OpenSSH's format, PKCS#8, PKCS#1 or SEC1. NULL and `out_failure`: `locked`
// when it is encrypted and `passphrase` is NULL; `auth` for a wrong passphrase and for what is no
// private key; `unsupported`. Never quotes the key. Where it is known also from a locked key,
// `out_public` (may be NULL) gets "<type> <base64>". Takes a second of CPU for an encrypted key:
// run it in a thread.
kl_ssh_key *kl_ssh_key_read(const char *text, size_t length, const char *passphrase,
                            kl_buf *out_public, kl_failure *out_failure);
// Makes the key of an agent's identity.
kl_ssh_key *kl_ssh_key_of_agent(const char *agent, const void *blob, size_t length,
                                const char *comment, size_t comment_length);
// Lets the key show a certificate, the text of a *-cert.pub, before anyone else holds the key.
// False: `invalid`, or not of this key.
bool kl_ssh_key_certify(kl_ssh_key *key, const char *text, kl_failure *out_failure);
kl_ssh_key *kl_ssh_key_hold(kl_ssh_key *key);
void kl_ssh_key_drop(kl_ssh_key *key);

// Whether the linked libssh2 can log in with it. False: `out_failure` says why in one sentence with
// the way out (`unsupported`).
bool kl_ssh_key_usable(const kl_ssh_key *key, kl_failure *out_failure);
// Signs what libssh2 wants signed, with the algorithm that the data name; without the name before
// the signature. Only for keys with a pair. False: it cannot.
bool kl_ssh_key_sign(const kl_ssh_key *key, kl_buf *out, const void *data, size_t length);
// "<type> <base64>" of a blob.
void kl_ssh_key_line(kl_buf *out, const void *blob, size_t length);

#endif
