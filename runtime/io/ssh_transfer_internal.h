// What ssh_transfer.c, ssh_upload.c and ssh_download.c share.
#ifndef KL_IO_SSH_TRANSFER_INTERNAL_H
#define KL_IO_SSH_TRANSFER_INTERNAL_H

#include "base/buf.h"
#include "io/sha256.h"
#include "io/ssh_channel.h"
#include "io/ssh_transfer.h"

// Exit statuses of the scripts.
enum { KL_TRANSFER_DIFFERS = 80, KL_TRANSFER_NOT_FOUND = 81, KL_TRANSFER_NO_FILE = 82 };

typedef struct kl_ssh_transfer_kind {
    const char *verb; // "upload to"
    // Standard input of the script, as in kl_ssh_channel_events. May be NULL.
    ssize_t (*pull)(kl_ssh_transfer *transfer, char *out, size_t size, kl_failure *out_failure);
    // Bytes of its standard output. May be NULL. False: `out_failure`.
    bool (*data)(kl_ssh_transfer *transfer, const char *bytes, size_t length,
                 kl_failure *out_failure);
    // The script ended well: calls kl_ssh_transfer_end or kl_ssh_transfer_fail, now or later.
    void (*finish)(kl_ssh_transfer *transfer);
    // Bytes that went so far, and of how many: 0 when it is not known.
    void (*progress)(const kl_ssh_transfer *transfer, uint64_t *out_bytes, uint64_t *out_total);
    // Releases what its own members hold.
    void (*free)(kl_ssh_transfer *transfer);
} kl_ssh_transfer_kind;

// First member of each kind's own struct.
struct kl_ssh_transfer {
    const kl_ssh_transfer_kind *kind;
    kl_ssh_channel *channel; // NULL: ended
    kl_ssh_transfer_fn done;
    void *ctx;
    char *subject; // owned; "10.0.0.2:22: upload to /opt/app"
    kl_buf errors; // what the script said
};

// Starts the script with its words; on failure frees the transfer and returns NULL. `path` is the
// remote one, for messages.
kl_ssh_transfer *kl_ssh_transfer_start(kl_ssh_transfer *transfer, kl_ssh_session *session,
                                       const char *path, const char *script,
                                       const char *const words[], double timeout,
                                       kl_failure *out_failure);
void kl_ssh_transfer_free(kl_ssh_transfer *transfer);
// Each frees the transfer and calls its `done`.
void kl_ssh_transfer_end(kl_ssh_transfer *transfer, const kl_ssh_transferred *result);
void kl_ssh_transfer_fail(kl_ssh_transfer *transfer, const kl_failure *cause);
// Fills with a name that nobody else uses, for a file beside a target.
void kl_ssh_transfer_token(char out[17]);

#endif
