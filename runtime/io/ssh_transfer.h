// Files over an SSH session: each transfer is one command on the host, written beside its target,
// checked by sha256 there, and renamed into place.
#ifndef KL_IO_SSH_TRANSFER_H
#define KL_IO_SSH_TRANSFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "io/ssh_session.h"

typedef struct kl_ssh_transfer kl_ssh_transfer;

typedef struct kl_ssh_transferred {
    uint64_t bytes;
    uint64_t resumed; // of them, those that an earlier transfer had brought
    char sha256[65];  // of a tree: of the list of its files' sums
} kl_ssh_transferred;

// Called once, unless closed before; the transfer is gone afterwards. Kinds: not_found denied
// limit exists invalid io, and those of the session and the channel.
typedef void (*kl_ssh_transfer_fn)(void *ctx, const kl_ssh_transferred *result,
                                   const kl_failure *failure);

typedef struct kl_ssh_upload {
    const char *source;  // a path here, or NULL for `content`
    const char *content; // copied, and wiped at the end
    size_t length;
    const char *target;   // directories above it are made
    const char *mode;     // "0644"; not for trees
    const char *owner;    // "user", "user:group" or NULL
    bool resume;          // files: what arrived of an interrupted upload stays, and is gone on with
    bool replace;         // trees: what is at the target goes away; else files are added to it
    char *const *exclude; // trees: as kl_tar_tree_open takes it; borrowed during the call
    double timeout;
} kl_ssh_upload;

typedef struct kl_ssh_download {
    const char *source;
    const char *target;   // a path here
    const char *mode;     // files: "0644", or NULL: the source's, without set-id bits
    bool resume;          // files: what arrived of an interrupted one stays, and is gone on with
    bool replace;         // trees: what is at the target goes away; else nothing may be there
    char *const *exclude; // trees: patterns as of an upload, borrowed during the call; or NULL
    double timeout;
} kl_ssh_download;

// Each returns NULL and `out_failure` when it cannot start.
kl_ssh_transfer *kl_ssh_upload_file(kl_ssh_session *session, const kl_ssh_upload *upload,
                                    kl_ssh_transfer_fn done, void *ctx, kl_failure *out_failure);
kl_ssh_transfer *kl_ssh_upload_tree(kl_ssh_session *session, const kl_ssh_upload *upload,
                                    kl_ssh_transfer_fn done, void *ctx, kl_failure *out_failure);
kl_ssh_transfer *kl_ssh_download_file(kl_ssh_session *session, const kl_ssh_download *download,
                                      kl_ssh_transfer_fn done, void *ctx, kl_failure *out_failure);
// A source that is a directory: `code` 83 tells it from other things that are no file.
kl_ssh_transfer *kl_ssh_download_tree(kl_ssh_session *session, const kl_ssh_download *download,
                                      kl_ssh_transfer_fn done, void *ctx, kl_failure *out_failure);
// Bytes of files that went so far, and of how many: 0 when it is not known.
void kl_ssh_transfer_progress(const kl_ssh_transfer *transfer, uint64_t *out_bytes,
                              uint64_t *out_total);
// Gives up: `done` is not called; the host and this machine remove the unfinished copy.
void kl_ssh_transfer_close(kl_ssh_transfer *transfer);

#endif
