// Uploads of a file or of bytes: over several channels at once where the round trip is long, for
// the host takes 2 MB of a channel a round trip. Each takes every so many-th slice.
#include "io/ssh_transfer_internal.h"

#include "base/ending.h"
#include "io/file_source.h"
#include "io/ssh_upload_script.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define WORTH_ASKING (16 * 1024 * 1024) // bytes from which the sum is taken as they come
#define MORE 3                          // channels besides the first
#define AHEAD 2                         // pieces; with several channels, a slice more than they are

// The channels: the first one's is the script's.
typedef struct upload_way {
    struct file_upload *upload;
    kl_ssh_channel *channel; // of the others; NULL: ended
    bool settled;            // of the others: it is open, or will not be
    bool open;
    kl_buf said;
    size_t count_at;      // what it was told of how many there are
    kl_file_piece *piece; // being sent
    size_t at;
} upload_way;

typedef struct file_upload {
    kl_ssh_transfer transfer;
    kl_file_source *source; // NULL: from `content`
    kl_buf content;
    size_t content_at;
    uint64_t size;
    uint64_t left;
    char mark[17]; // empty: the host is not asked
    bool asks;     // it has not answered
    kl_buf answer;
    uint64_t resumed;
    char *part; // the unfinished file there
    bool sparse;
    upload_way ways[1 + MORE];
    unsigned int count; // of ways that are used; 0: not decided
    char more[4];       // what the host is told of that
    bool broken;        // one of them failed: the others end, and the script says what it knows
    char sum[66];       // hex and a newline, once known
    size_t sum_at;
} file_upload;

static const upload_way *way_end(const file_upload *self)
{
    return self->ways + 1 + MORE;
}

static void end_way(upload_way *way)
{
    if (way->channel != NULL)
        kl_ssh_channel_close(way->channel);
    way->channel = NULL;
}

static void decide(file_upload *self, unsigned int count)
{
    self->count = count;
    snprintf(self->more, sizeof self->more, "%u\n", count - 1);
    for (upload_way *way = self->ways + count; way < way_end(self); way++)
        end_way(way);
    kl_file_source_start(self->source, self->resumed,
                         count == 1 ? AHEAD : (int)(count + 1) * KL_FILE_SLICE);
    kl_ssh_channel_wake(self->transfer.channel);
}

// Once it is known which of the others are there, uses those before the first that is not.
static void way_settled(upload_way *way, bool open)
{
    file_upload *self = way->upload;
    way->settled = true;
    way->open = open;
    unsigned int count = 1;
    for (way = self->ways + 1; way < way_end(self); way++) {
        if (!way->settled)
            return;
        if (way->open && count == (unsigned int)(way - self->ways))
            count++;
    }
    if (self->count == 0 && self->transfer.channel != NULL)
        decide(self, count);
}

static void way_data(void *ctx, kl_ssh_stream stream, const char *bytes, size_t length)
{
    upload_way *way = ctx;
    size_t after;
    if (stream != KL_SSH_OUT || way->settled)
        return;
    kl_buf_append(&way->said, bytes, length);
    if (kl_ssh_transfer_marked(&way->said, way->upload->mark, &after) != NULL) {
        way_settled(way, true);
    } else if (way->said.length > KL_TRANSFER_NOISE) {
        end_way(way);
        way_settled(way, false);
    }
}

static void way_done(void *ctx, const kl_ssh_exit *exit, const kl_failure *failure)
{
    upload_way *way = ctx;
    file_upload *self = way->upload;
    way->channel = NULL;
    if (!way->settled) {
        way_settled(way, false);
    } else if (way->open && (failure != NULL || exit->code != 0) &&
               self->transfer.channel != NULL) {
        self->broken = true;
        kl_ssh_channel_wake(self->transfer.channel);
    }
}

// Copies what is left of a piece.
static size_t send_piece(upload_way *way, char *out, size_t size)
{
    file_upload *self = way->upload;
    kl_file_piece *piece = way->piece;
    size_t length = piece->length - way->at;
    if (length > size)
        length = size;
    memcpy(out, piece->bytes + way->at, length);
    way->at += length;
    self->left -= length;
    if (way->at == piece->length) {
        kl_file_source_give(self->source, piece);
        way->piece = NULL;
    }
    return length;
}

// The next bytes of the file for this way; 0: it has had all of its. As many as there is room for:
// a rest would be a packet of its own.
static ssize_t pull_file(upload_way *way, char *out, size_t size)
{
    file_upload *self = way->upload;
    size_t length = 0;
    while (length < size) {
        if (way->piece == NULL) {
            way->at = 0;
            way->piece =
                kl_file_source_take(self->source, self->count, (unsigned int)(way - self->ways));
        }
        if (way->piece == NULL)
            break;
        length += send_piece(way, out + length, size - length);
    }
    if (length > 0)
        return (ssize_t)length;
    return kl_file_source_sum(self->source) != NULL ? 0 : KL_SSH_LATER;
}

static ssize_t pull_text(const char *text, size_t *at, char *out, size_t size)
{
    size_t rest = strlen(text) - *at;
    if (rest > size)
        rest = size;
    memcpy(out, text + *at, rest);
    *at += rest;
    return (ssize_t)rest;
}

// What a way gets: how many there are, then its bytes of the file.
static ssize_t pull_way(upload_way *way, char *out, size_t size)
{
    file_upload *self = way->upload;
    if (self->count == 0)
        return KL_SSH_LATER;
    if (self->broken)
        return 0;
    if (self->mark[0] != '\0' && self->more[way->count_at] != '\0')
        return pull_text(self->more, &way->count_at, out, size);
    return pull_file(way, out, size);
}

static ssize_t way_pull(void *ctx, char *out, size_t size, kl_failure *out_failure)
{
    (void)out_failure;
    return pull_way(ctx, out, size);
}

static const kl_ssh_channel_events way_events = {way_data, way_pull, way_done, NULL};

static const char *conversion(const file_upload *self)
{
    return self->sparse ? "notrunc,sparse" : "notrunc";
}

static bool far_away(const file_upload *self)
{
    return self->left >= WORTH_ASKING &&
           kl_ssh_session_round_trip(self->transfer.session) >= KL_LONG_TRIP;
}

// Opens the other channels, if the host has room for them now.
static void open_more(file_upload *self)
{
    kl_failure failure;
    char there[24], size[24];
    snprintf(there, sizeof there, "%llu", (unsigned long long)self->resumed);
    snprintf(size, sizeof size, "%llu", (unsigned long long)self->size);
    for (int i = 1; i <= MORE; i++) {
        upload_way *way = &self->ways[i];
        kl_buf command = {0};
        const char number[] = {(char)('0' + i), '\0'};
        const char *words[] = {self->mark, number, self->part, there, size, conversion(self), NULL};
        kl_ssh_transfer_command(&command, kl_ssh_upload_more_script, words);
        way->channel = kl_ssh_channel_exec(self->transfer.session, command.data, 0, &way_events,
                                           way, &failure);
        kl_buf_free(&command);
        if (way->channel != NULL)
            kl_ssh_channel_want_spare(way->channel);
        else
            way_settled(way, false);
    }
}

static bool file_data(kl_ssh_transfer *transfer, const char *bytes, size_t length,
                      kl_failure *out_failure)
{
    file_upload *self = (file_upload *)transfer;
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
    if (more == 1 && far_away(self))
        open_more(self);
    else
        decide(self, 1);
    return true;
}

// The next bytes of the content.
static ssize_t pull_content(file_upload *self, char *out, size_t size)
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
    file_upload *self = (file_upload *)transfer;
    (void)out_failure;
    if (self->source == NULL && self->left > 0)
        return pull_content(self, out, size);
    if (self->source != NULL && self->sum[0] == '\0') {
        ssize_t n = pull_way(&self->ways[0], out, size);
        if (n != 0 || self->broken)
            return n;
        snprintf(self->sum, sizeof self->sum, "%s\n", kl_file_source_sum(self->source));
    }
    return pull_text(self->sum, &self->sum_at, out, size);
}

static void source_ready(void *ctx)
{
    file_upload *self = ctx;
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
    const file_upload *self = (const file_upload *)transfer;
    kl_ssh_transferred result = {.bytes = self->size, .resumed = self->resumed};
    snprintf(result.sha256, sizeof result.sha256, "%.64s", self->sum);
    kl_ssh_transfer_end(transfer, &result);
}

static void file_progress(const kl_ssh_transfer *transfer, uint64_t *out_bytes, uint64_t *out_total)
{
    const file_upload *self = (const file_upload *)transfer;
    *out_bytes = self->size - self->left;
    *out_total = self->size;
}

static void file_free(kl_ssh_transfer *transfer)
{
    file_upload *self = (file_upload *)transfer;
    for (upload_way *way = self->ways; way < way_end(self); way++) {
        end_way(way);
        kl_buf_free(&way->said);
        free(way->piece);
    }
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

static bool open_source(file_upload *self, const char *source, struct stat *out_stat,
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

static file_upload *new_upload(kl_ssh_session *session, kl_ssh_transfer_fn done, void *ctx)
{
    file_upload *self = calloc(1, sizeof *self);
    if (self == NULL)
        kl_out_of_memory();
    self->transfer =
        (kl_ssh_transfer){.kind = &file_kind, .session = session, .done = done, .ctx = ctx};
    for (upload_way *way = self->ways; way < way_end(self); way++)
        way->upload = self;
    return self;
}

kl_ssh_transfer *kl_ssh_upload_file(kl_ssh_session *session, const kl_ssh_upload *upload,
                                    kl_ssh_transfer_fn done, void *ctx, kl_failure *out_failure)
{
    file_upload *self = new_upload(session, done, ctx);
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
    self->asks = self->source != NULL && (upload->resume || self->size >= WORTH_ASKING);
    if (self->asks)
        kl_ssh_transfer_token(self->mark);
    else
        self->count = 1;
    if (self->source != NULL && !self->asks)
        kl_file_source_start(self->source, 0, AHEAD);
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
                           conversion(self),
                           far_away(self) ? "1" : "0",
                           NULL};
    return kl_ssh_transfer_start(&self->transfer, session, upload->target, kl_ssh_upload_script,
                                 words, upload->timeout, out_failure);
}
