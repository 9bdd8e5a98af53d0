// What a host says before encryption begins: lines, its version, the algorithms it offers.
#ifndef KL_IO_SSH_OFFER_H
#define KL_IO_SSH_OFFER_H

#include <stdbool.h>

#include "base/buf.h"
#include "io/ssh_blob.h"

typedef struct kl_ssh_offer {
    kl_ssh_string line; // the last one with text before its version: why it refuses, perhaps
    bool spoke;         // its version is there
    bool listed;        // and its lists, each as "a,b,c":
    kl_ssh_string key_exchange;
    kl_ssh_string host_keys;
    kl_ssh_string ciphers;
    kl_ssh_string macs;
} kl_ssh_offer;

// Reads the first bytes of a connection; the strings are borrowed from them.
void kl_ssh_offer_read(kl_ssh_offer *out, const kl_buf *bytes);
// Whether two lists have a name in common.
bool kl_ssh_offer_common(kl_ssh_string list, const char *other);

#endif
