// Downloads of one file.
#include "io/ssh_transfer_internal.h"

#include "base/ending.h"
#include "io/file_sink.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { SUM_LENGTH = 64 };

// Says what the file is, after a mark: a login shell may have said something before. Sends as much
// as the file has now, though it may grow, and then its sum, taken at the same time; where one of
// the two read something else, the sum tells.
static const char script[] = "export LC_ALL=C\n"
                             "[ -e \"$1\" ] || { echo 'no such file on the host' >&2; exit 81; }\n"
                             "[ ! -d \"$1\" ] || { echo 'a directory, not a file' >&2; exit 83; }\n"
                             "[ -f \"$1\" ] || { echo 'not a regular file' >&2; exit 82; }\n"
                             "set -eu\n" KL_SUM ": < \"$1\"\n" // may it be read?
                             "file=$(stat -L -c '%s %a %Y %b %B' -- \"$1\")\n"
                             "size=${file%% *} there=0\n"
                             "printf '\\n%s %s\\n' \"$2\" \"$file\"\n"
                             "[ \"$3\" = 0 ] || read -r there\n"
                             "dd if=\"$1\" bs=131072 iflag=skip_bytes,count_bytes skip=\"$there\" "
                             "count=$((size - there)) status=none &\n"
                             "reader=$!\n"
                             "sum=$(head -c \"$size\" < \"$1\" | sum)\n"
                             "wait \"$reader\"\n"
                             "echo \"${sum%% *}\"\n";

typedef struct file_download {
    kl_ssh_transfer transfer;
    char *source; // owned
    char *target; // owned
    char mark[17];
    long mode; // -1: the source's
    bool resume;
    kl_buf head; // what came before the file's bytes, until the mark's line is there
    bool begun;  // it was
    uint64_t size;
    int64_t changed;
    uint64_t left;
    kl_file_sink *sink; // NULL: not begun
    bool open;          // the sink knows what is there
    char there[24];     // what the host is told of that
    size_t there_at;
    uint64_t resumed;
    char sum[SUM_LENGTH + 1]; // the host's
    size_t sum_length;
} file_download;

static void sink_opened(void *ctx, uint64_t there)
{
    file_download *self = ctx;
    self->open = true;
    self->resumed = there;
    self->left -= there;
    snprintf(self->there, sizeof self->there, "%llu\n", (unsigned long long)there);
    if (self->transfer.channel != NULL)
        kl_ssh_channel_wake(self->transfer.channel);
}

static void sink_drained(void *ctx)
{
    file_download *self = ctx;
    if (self->transfer.channel != NULL)
        kl_ssh_channel_pause(self->transfer.channel, false);
}

static void sink_ended(void *ctx, const kl_failure *failure)
{
    file_download *self = ctx;
    if (failure != NULL) {
        kl_ssh_transfer_fail(&self->transfer, failure);
        return;
    }
    kl_ssh_transferred result = {.bytes = self->size, .resumed = self->resumed};
    memcpy(result.sha256, self->sum, sizeof self->sum);
    kl_ssh_transfer_end(&self->transfer, &result);
}

static const kl_file_sink_events sink_events = {sink_opened, sink_drained, sink_ended};

// The unfinished file's name: the next download of the same file finds it, or nobody does.
static void name_part(const file_download *self, char out[17])
{
    char sum[65];
    if (!self->resume) {
        kl_ssh_transfer_token(out);
        return;
    }
    kl_buf text = {0};
    kl_buf_printf(&text, "%s %llu %lld", self->source, (unsigned long long)self->size,
                  (long long)self->changed);
    kl_sha256_of(text.data, text.length, sum);
    snprintf(out, 17, "%.16s", sum);
    kl_buf_free(&text);
}

// The line after the mark: size, mode, time, blocks and their size.
static bool begin(file_download *self, const char *line, kl_failure *out_failure)
{
    unsigned long long size, blocks, block;
    long long changed;
    unsigned int mode;
    if (sscanf(line, "%llu %o %lld %llu %llu", &size, &mode, &changed, &blocks, &block) != 5) {
        kl_failure_set(out_failure, "protocol", 0, "the host describes the file as '%.60s'", line);
        return false;
    }
    struct stat there;
    if (stat(self->target, &there) == 0 && S_ISDIR(there.st_mode)) {
        kl_failure_errno(out_failure, EISDIR, self->target);
        return false;
    }
    self->begun = true;
    self->size = self->left = size;
    self->changed = changed;
    if (self->mode < 0)
        self->mode = (long)(mode & 0777);
    kl_ssh_transfer_widen(&self->transfer);
    char name[17];
    name_part(self, name);
    kl_file_sink_options options = {.target = self->target,
                                    .name = name,
                                    .keep = self->resume,
                                    .sparse = blocks * block < size,
                                    .size = size};
    self->sink = kl_file_sink_open(kl_ssh_session_loop(self->transfer.session), &options,
                                   &sink_events, self);
    return true;
}

// Takes bytes up to the mark's line; what follows it belongs to the file. Their number, or -1.
static ssize_t take_head(file_download *self, const char *bytes, size_t length,
                         kl_failure *out_failure)
{
    size_t before = self->head.length, after = 0;
    kl_buf_append(&self->head, bytes, length);
    const char *line = kl_ssh_transfer_marked(&self->head, self->mark, &after);
    if (line != NULL)
        return begin(self, line, out_failure) ? (ssize_t)(after - before) : -1;
    if (self->head.length <= KL_TRANSFER_NOISE)
        return (ssize_t)length;
    kl_ssh_transfer_noisy(out_failure);
    return -1;
}

static bool download_data(kl_ssh_transfer *transfer, const char *bytes, size_t length,
                          kl_failure *out_failure)
{
    file_download *self = (file_download *)transfer;
    if (!self->begun) {
        ssize_t taken = take_head(self, bytes, length, out_failure);
        if (taken < 0)
            return false;
        bytes += taken;
        length -= (size_t)taken;
    }
    size_t body = length < self->left ? length : (size_t)self->left;
    if (body > 0 && !kl_file_sink_write(self->sink, bytes, body))
        kl_ssh_channel_pause(transfer->channel, true);
    self->left -= body;
    size_t rest = length - body, room = SUM_LENGTH - self->sum_length;
    rest = rest < room ? rest : room;
    memcpy(self->sum + self->sum_length, bytes + body, rest);
    self->sum_length += rest;
    return true;
}

static ssize_t download_pull(kl_ssh_transfer *transfer, char *out, size_t size,
                             kl_failure *out_failure)
{
    file_download *self = (file_download *)transfer;
    (void)out_failure;
    if (!self->resume)
        return 0;
    if (!self->open)
        return KL_SSH_LATER;
    size_t rest = strlen(self->there) - self->there_at;
    rest = rest < size ? rest : size;
    memcpy(out, self->there + self->there_at, rest);
    self->there_at += rest;
    return (ssize_t)rest;
}

static void download_finish(kl_ssh_transfer *transfer)
{
    file_download *self = (file_download *)transfer;
    if (self->begun && self->left == 0 && self->sum_length == SUM_LENGTH) {
        kl_file_sink_end end = {
            .sum = self->sum, .mode = (mode_t)self->mode, .changed = self->changed};
        kl_file_sink_finish(self->sink, &end);
        return;
    }
    kl_failure failure;
    kl_failure_set(&failure, self->begun ? "io" : "protocol", 0, "%s",
                   self->begun ? "the file shrank while it was read"
                               : "the command's output did not arrive");
    kl_ssh_transfer_fail(transfer, &failure);
}

static void download_progress(const kl_ssh_transfer *transfer, uint64_t *out_bytes,
                              uint64_t *out_total)
{
    const file_download *self = (const file_download *)transfer;
    *out_bytes = self->size - self->left;
    *out_total = self->size;
}

static void download_free(kl_ssh_transfer *transfer)
{
    file_download *self = (file_download *)transfer;
    if (self->sink != NULL)
        kl_file_sink_close(self->sink);
    kl_buf_free(&self->head);
    free(self->source);
    free(self->target);
}

static const kl_ssh_transfer_kind download_kind = {
    "download of", download_pull, download_data, download_finish, download_progress, download_free};

kl_ssh_transfer *kl_ssh_download_file(kl_ssh_session *session, const kl_ssh_download *download,
                                      kl_ssh_transfer_fn done, void *ctx, kl_failure *out_failure)
{
    file_download *self = calloc(1, sizeof *self);
    if (self == NULL)
        kl_out_of_memory();
    self->transfer = (kl_ssh_transfer){.kind = &download_kind, .done = done, .ctx = ctx};
    self->source = kl_need(strdup(download->source));
    self->target = kl_need(strdup(download->target));
    self->mode = download->mode != NULL ? strtol(download->mode, NULL, 8) : -1;
    self->resume = download->resume;
    kl_ssh_transfer_token(self->mark);
    const char *words[] = {download->source, self->mark, self->resume ? "1" : "0", NULL};
    kl_ssh_transfer *transfer = kl_ssh_transfer_start(
        &self->transfer, session, download->source, script, words, download->timeout, out_failure);
    return transfer;
}
