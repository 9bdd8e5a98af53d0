// Downloads of one file.
#include "io/ssh_transfer_internal.h"

#include "base/ending.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

// The sum goes to standard error; a file that changes between the two reads fails the check.
static const char script[] = "export LC_ALL=C\n"
                             "[ -e \"$1\" ] || { echo 'no such file on the host' >&2; exit 81; }\n"
                             "[ -f \"$1\" ] || { echo 'not a regular file' >&2; exit 82; }\n"
                             "if command -v openssl > /dev/null\n" // ten times as fast
                             "then openssl dgst -sha256 -r < \"$1\" >&2\n"
                             "else sha256sum < \"$1\" >&2\n"
                             "fi && exec cat -- \"$1\"\n";

typedef struct file_download {
    kl_ssh_transfer transfer;
    char *target; // owned
    char *beside; // owned; the unfinished copy, NULL once renamed
    int file;
    uint64_t bytes;
    kl_sha256 sha;
} file_download;

static bool write_all(int file, const char *bytes, size_t length)
{
    while (length > 0) {
        ssize_t n = write(file, bytes, length);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return false;
        bytes += n;
        length -= (size_t)n;
    }
    return true;
}

static bool download_data(kl_ssh_transfer *transfer, const char *bytes, size_t length,
                          kl_failure *out_failure)
{
    file_download *self = (file_download *)transfer;
    if (!write_all(self->file, bytes, length)) {
        kl_failure_errno(out_failure, errno, self->target);
        return false;
    }
    kl_sha256_add(&self->sha, bytes, length);
    self->bytes += length;
    return true;
}

static bool download_finish(kl_ssh_transfer *transfer, kl_ssh_transferred *out,
                            kl_failure *out_failure)
{
    file_download *self = (file_download *)transfer;
    kl_sha256_hex(&self->sha, out->sha256);
    out->bytes = self->bytes;
    if (strncmp(kl_buf_text(&transfer->errors), out->sha256, 64) != 0) {
        kl_failure_set(out_failure, "io", 0, "the bytes that arrived have another sha256");
        return false;
    }
    if (fchmod(self->file, 0644) != 0 || rename(self->beside, self->target) != 0) {
        kl_failure_errno(out_failure, errno, self->target);
        return false;
    }
    free(self->beside);
    self->beside = NULL;
    return true;
}

static void download_progress(const kl_ssh_transfer *transfer, uint64_t *out_bytes,
                              uint64_t *out_total)
{
    *out_bytes = ((const file_download *)transfer)->bytes;
    *out_total = 0;
}

static void download_free(kl_ssh_transfer *transfer)
{
    file_download *self = (file_download *)transfer;
    if (self->file >= 0)
        close(self->file);
    if (self->beside != NULL && self->file >= 0)
        unlink(self->beside);
    free(self->beside);
    free(self->target);
    kl_sha256_free(&self->sha);
}

static const kl_ssh_transfer_kind download_kind = {
    "download of", NULL, download_data, download_finish, download_progress, download_free};

kl_ssh_transfer *kl_ssh_download_file(kl_ssh_session *session, const kl_ssh_download *download,
                                      kl_ssh_transfer_fn done, void *ctx, kl_failure *out_failure)
{
    file_download *self = calloc(1, sizeof *self);
    char token[17];
    kl_buf beside = {0};
    if (self == NULL)
        kl_out_of_memory();
    kl_ssh_transfer_token(token);
    kl_buf_printf(&beside, "%s.kiln-%s", download->target, token);
    self->transfer = (kl_ssh_transfer){.kind = &download_kind, .done = done, .ctx = ctx};
    self->target = kl_need(strdup(download->target));
    self->beside = beside.data;
    self->file = open(self->beside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (self->file < 0) {
        kl_failure_errno(out_failure, errno, self->target);
        kl_ssh_transfer_free(&self->transfer);
        return NULL;
    }
    kl_sha256_start(&self->sha);
    const char *words[] = {download->source, NULL};
    return kl_ssh_transfer_start(&self->transfer, session, download->source, script, words,
                                 download->timeout, out_failure);
}
