// What ssh_transfer.c, ssh_upload.c and ssh_download.c share.
#ifndef KL_IO_SSH_TRANSFER_INTERNAL_H
#define KL_IO_SSH_TRANSFER_INTERNAL_H

#include "base/buf.h"
#include "io/sha256.h"
#include "io/ssh_channel.h"
#include "io/ssh_transfer.h"

// Exit statuses of the scripts.
enum {
    KL_TRANSFER_DIFFERS = 80,
    KL_TRANSFER_NOT_FOUND = 81,
    KL_TRANSFER_NO_FILE = 82,
    KL_TRANSFER_IS_TREE = 83
};

// Seconds from which the 2 MB a round trip, of a channel that libssh2 or sshd opens, are too few:
// at 10 ms they are 200 MB/s. Less would be taken for long where a host is busy.
#define KL_LONG_TRIP 0.01

// And from which trees travel packed: it saves more than it costs.
#define KL_PACKING_TRIP 0.01

// Bytes that a login shell may say before a script does.
enum { KL_TRANSFER_NOISE = 65536 };

// First in a trap of EXIT: a signal that comes while the shell ends would end the trap, too.
#define KL_UNDISTURBED "trap \"\" HUP INT PIPE TERM; "

// `sum`: of standard input, as sha256sum says it; openssl is ten times as fast.
#define KL_SUM                                                                                     \
    "sum() {\n"                                                                                    \
    "  if command -v openssl > /dev/null\n"                                                        \
    "  then openssl dgst -sha256 -r\n"                                                             \
    "  else sha256sum\n"                                                                           \
    "  fi\n"                                                                                       \
    "}\n"

// A script that loses its connection reads an early end, fails, and removes what it wrote.
#define KL_UPLOAD_START                                                                            \
    "set -eu\n"                                                                                    \
    "export LC_ALL=C\n"                                                                            \
    "trap '" KL_UNDISTURBED "[ \"$keep\" = 1 ] || rm -rf -- \"$p\"' EXIT\n"                        \
    "trap 'exit 1' HUP INT PIPE TERM\n"                                                            \
    "umask 022\n"                                                                                  \
    "case $t in */*) mkdir -p -- \"${t%/*}/\" ;; esac\n"

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
    kl_ssh_session *session;
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
// Appends a text for /bin/sh: the script with its words, ended by NULL.
void kl_ssh_transfer_command(kl_buf *out, const char *script, const char *const words[]);
// Finds the rest of the line that begins with the mark and ends in the bytes: whatever a login
// shell said before. NULL: it is not there yet; else `out_after` is the number of bytes up to its
// end, which is 0 now.
char *kl_ssh_transfer_marked(kl_buf *bytes, const char *mark, size_t *out_after);
// Says that a login shell says too much before the mark. False.
bool kl_ssh_transfer_noisy(kl_failure *out_failure);
// Lets the host send as much as the round trip needs.
void kl_ssh_transfer_widen(const kl_ssh_transfer *transfer);

#endif
