// Uploads of a file or of bytes.
#include "io/ssh_upload_internal.h"

#include "base/ending.h"
#include "io/ssh_upload_script.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool file_data(kl_ssh_transfer *transfer, const char *bytes, size_t length,
                      kl_failure *out_failure)
{
    kl_file_upload *self = (kl_file_upload *)transfer;
    size_t after;
    if (!self->asks)
        return true;
    kl_buf_append(&self->answer, bytes, length);
    const char *line = kl_ssh_transfer_marked(&self->answer, self->mark, &after);
    if (line == NULL && self->answer.length <= KL_TRANSFER_NOISE)
        return true;
    unsigned long long there = 0;
    int more = 0;
    if (line == NULL || sscanf(line, "%llu %d", &there, &more) != 2 || there > self->size) {
        kl_failure_set(out_failure, "protocol", 0, "the host does not say how much it has: '%.60s'",
                       line != NULL ? line : self->answer.data);
        return false;
    }
    self->asks = false;
    self->resumed = there;
    self->left -= there;
    if (more == 1 && kl_upload_far(self))
        kl_upload_ways_open(self);
    else
        kl_upload_ways_decide(self, 1);
    return true;
}

// The next bytes of the content.
static ssize_t pull_content(kl_file_upload *self, char *out, size_t size)
{
    if (size > self->left)
        size = (size_t)self->left;
    memcpy(out, self->content.data + self->content_at, size);
    self->content_at += size;
    self->left -= size;
    return (ssize_t)size;
}

static ssize_t file_pull(kl_ssh_transfer *transfer, char *out, size_t size, kl_failure *out_failure)
{
    kl_file_upload *self = (kl_file_upload *)transfer;
    (void)out_failure;
    if (self->source == NULL && self->left > 0)
        return pull_content(self, out, size);
    if (self->source != NULL && self->sum[0] == '\0') {
        ssize_t n = kl_upload_way_pull(&self->ways[0], out, size);
        if (n != 0 || self->broken)
            return n;
        snprintf(self->sum, sizeof self->sum, "%s\n", kl_file_source_sum(self->source));
    }
    return kl_upload_pull_text(self->sum, &self->sum_at, out, size);
}

static void source_ready(void *ctx)
{
    kl_file_upload *self = ctx;
    if (self->transfer.channel != NULL)
        kl_ssh_channel_wake(self->transfer.channel);
}

static void source_failed(void *ctx, const kl_failure *failure)
{
    kl_ssh_transfer_fail(ctx, failure);
}

static const kl_file_source_events source_events = {source_ready, source_failed};

static void file_finish(kl_ssh_transfer *transfer)
{
    const kl_file_upload *self = (const kl_file_upload *)transfer;
    kl_ssh_transferred result = {.bytes = self->size, .resumed = self->resumed};
    snprintf(result.sha256, sizeof result.sha256, "%.64s", self->sum);
    kl_ssh_transfer_end(transfer, &result);
}

static void file_progress(const kl_ssh_transfer *transfer, uint64_t *out_bytes, uint64_t *out_total)
{
    const kl_file_upload *self = (const kl_file_upload *)transfer;
    *out_bytes = self->size - self->left;
    *out_total = self->size;
}

static void file_free(kl_ssh_transfer *transfer)
{
    kl_file_upload *self = (kl_file_upload *)transfer;
    kl_upload_ways_free(self);
    if (self->source != NULL)
        kl_file_source_close(self->source);
    if (self->content.data != NULL)
        OPENSSL_cleanse(self->content.data, self->content.capacity);
    kl_buf_free(&self->content);
    kl_buf_free(&self->answer);
    free(self->part);
}

static const kl_ssh_transfer_kind file_kind = {"upload to", file_pull,     file_data,
                                               file_finish, file_progress, file_free};

// A name beside the target that the next upload of the same file finds: by path, size and time.
static void name_to_resume(char out[32], const char *source, const struct stat *stat)
{
    char sum[65];
    kl_buf text = {0};
    char *path = realpath(source, NULL);
    kl_buf_printf(&text, "%s %lld %lld.%09ld", path != NULL ? path : source,
                  (long long)stat->st_size, (long long)stat->st_mtim.tv_sec, stat->st_mtim.tv_nsec);
    kl_sha256_of(text.data, text.length, sum);
    snprintf(out, 32, "kiln-part-%.16s", sum);
    kl_buf_free(&text);
    free(path);
}

static bool open_source(kl_file_upload *self, const char *source, struct stat *out_stat,
                        kl_failure *out_failure)
{
    int file = open(source, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file < 0 || fstat(file, out_stat) != 0)
        kl_failure_errno(out_failure, errno, source);
    else if (!S_ISREG(out_stat->st_mode))
        kl_failure_set(out_failure, "invalid", 0, "%s is not a regular file%s", source,
                       S_ISDIR(out_stat->st_mode) ? "; a directory goes by upload_tree" : "");
    else {
        self->size = (uint64_t)out_stat->st_size;
        self->source = kl_file_source_open(kl_ssh_session_loop(self->transfer.session), file,
                                           self->size, &source_events, self);
        return true;
    }
    if (file >= 0)
        close(file);
    return false;
}

static kl_file_upload *new_upload(kl_ssh_session *session, kl_ssh_transfer_fn done, void *ctx)
{
    kl_file_upload *self = calloc(1, sizeof *self);
    if (self == NULL)
        kl_out_of_memory();
    self->transfer =
        (kl_ssh_transfer){.kind = &file_kind, .session = session, .done = done, .ctx = ctx};
    for (int i = 0; i <= KL_UPLOAD_MORE; i++)
        self->ways[i].upload = self;
    return self;
}

kl_ssh_transfer *kl_ssh_upload_file(kl_ssh_session *session, const kl_ssh_upload *upload,
                                    kl_ssh_transfer_fn done, void *ctx, kl_failure *out_failure)
{
    kl_file_upload *self = new_upload(session, done, ctx);
    struct stat stat;
    char size[24], token[17], beside[32];
    if (upload->source == NULL) {
        kl_buf_append(&self->content, upload->content, upload->length);
        self->size = upload->length;
        kl_sha256_of(upload->content, upload->length, self->sum);
        self->sum[64] = '\n';
    } else if (!open_source(self, upload->source, &stat, out_failure)) {
        kl_ssh_transfer_free(&self->transfer);
        return NULL;
    }
    // Its holes stay holes there. What is whole keeps its zeros: swapon wants a file without holes.
    self->sparse = self->source != NULL && stat.st_blocks < stat.st_size / 512;
    self->left = self->size;
    snprintf(size, sizeof size, "%llu", (unsigned long long)self->size);
    kl_ssh_transfer_token(token); // hidden from globs like *.conf, found by whoever cleans up
    snprintf(beside, sizeof beside, "kiln-%s", token);
    if (upload->resume && self->source != NULL)
        name_to_resume(beside, upload->source, &stat);
    self->asks = self->source != NULL && (upload->resume || self->size >= KL_UPLOAD_ASKS);
    if (self->asks)
        kl_ssh_transfer_token(self->mark);
    else
        self->count = 1;
    if (self->source != NULL && !self->asks)
        kl_file_source_start(self->source, 0, KL_UPLOAD_AHEAD);
    kl_buf part = {0};
    kl_buf_printf(&part, "%s.%s", upload->target, beside);
    self->part = part.data;
    const char *words[] = {upload->target,
                           size,
                           upload->mode,
                           upload->owner != NULL ? upload->owner : "",
                           beside,
                           upload->resume ? "1" : "0",
                           self->mark,
                           kl_upload_conversion(self),
                           kl_upload_far(self) ? "1" : "0",
                           NULL};
    return kl_ssh_transfer_start(&self->transfer, session, upload->target, kl_ssh_upload_script,
                                 words, upload->timeout, out_failure);
}
