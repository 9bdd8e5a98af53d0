// What ssh_key.c, ssh_key_openssh.c and ssh_sign.c share.
#ifndef KL_IO_SSH_KEY_INTERNAL_H
#define KL_IO_SSH_KEY_INTERNAL_H

#include "io/ssh_blob.h"
#include "io/ssh_key.h"

// ssh_key_openssh.c
// Reads an openssh-key-v1 container (OpenSSH's PROTOCOL.key). Fills pair, public, comment.
bool kl_ssh_key_openssh(kl_ssh_key *key, const void *data, size_t length, const char *passphrase,
                        kl_failure *out_failure);

// ssh_sign.c
// The algorithm that the data to be signed name (RFC 4252 section 7), borrowed.
kl_ssh_string kl_ssh_sign_algorithm(const void *data, size_t length);

#endif
