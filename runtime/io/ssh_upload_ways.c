// A file that goes over several channels at once where the round trip is long, for the host takes
// 2 MB of a channel a round trip. Each takes every so many-th slice.
#include "io/ssh_upload_internal.h"

#include "io/ssh_upload_script.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const kl_upload_way *way_end(const kl_file_upload *self)
{
    return self->ways + 1 + KL_UPLOAD_MORE;
}

static void end_way(kl_upload_way *way)
{
    if (way->channel != NULL)
        kl_ssh_channel_close(way->channel);
    way->channel = NULL;
}

void kl_upload_ways_decide(kl_file_upload *self, unsigned int count)
{
    self->count = count;
    snprintf(self->more, sizeof self->more, "%u\n", count - 1);
    for (kl_upload_way *way = self->ways + count; way < way_end(self); way++)
        end_way(way);
    kl_file_source_start(self->source, self->resumed,
                         count == 1 ? KL_UPLOAD_AHEAD : (int)(count + 1) * KL_FILE_SLICE);
    kl_ssh_channel_wake(self->transfer.channel);
}

// Once it is known which of the others are there, uses those before the first that is not.
static void way_settled(kl_upload_way *way, bool open)
{
    kl_file_upload *self = way->upload;
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
        kl_upload_ways_decide(self, count);
}

static void way_data(void *ctx, kl_ssh_stream stream, const char *bytes, size_t length)
{
    kl_upload_way *way = ctx;
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
    kl_upload_way *way = ctx;
    kl_file_upload *self = way->upload;
    way->channel = NULL;
    if (!way->settled) {
        way_settled(way, false);
    } else if ((failure != NULL || exit->code != 0) && self->transfer.channel != NULL) {
        self->broken = true;
        kl_ssh_channel_wake(self->transfer.channel);
    }
}

// Copies what is left of a piece.
static size_t send_piece(kl_upload_way *way, char *out, size_t size)
{
    kl_file_upload *self = way->upload;
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
static ssize_t pull_file(kl_upload_way *way, char *out, size_t size)
{
    kl_file_upload *self = way->upload;
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

ssize_t kl_upload_pull_text(const char *text, size_t *at, char *out, size_t size)
{
    size_t rest = strlen(text) - *at;
    if (rest > size)
        rest = size;
    memcpy(out, text + *at, rest);
    *at += rest;
    return (ssize_t)rest;
}

ssize_t kl_upload_way_pull(kl_upload_way *way, char *out, size_t size)
{
    kl_file_upload *self = way->upload;
    if (self->count == 0)
        return KL_SSH_LATER;
    if (self->broken)
        return 0;
    if (self->mark[0] != '\0' && self->more[way->count_at] != '\0')
        return kl_upload_pull_text(self->more, &way->count_at, out, size);
    return pull_file(way, out, size);
}

static ssize_t way_pull(void *ctx, char *out, size_t size, kl_failure *out_failure)
{
    (void)out_failure;
    return kl_upload_way_pull(ctx, out, size);
}

static const kl_ssh_channel_events way_events = {way_data, way_pull, way_done, NULL};

const char *kl_upload_conversion(const kl_file_upload *self)
{
    return self->sparse ? "notrunc,sparse" : "notrunc";
}

bool kl_upload_far(const kl_file_upload *self)
{
    return self->left >= KL_UPLOAD_ASKS &&
           kl_ssh_session_round_trip(self->transfer.session) >= KL_LONG_TRIP;
}

void kl_upload_ways_open(kl_file_upload *self)
{
    kl_failure failure;
    char there[24], size[24];
    snprintf(there, sizeof there, "%llu", (unsigned long long)self->resumed);
    snprintf(size, sizeof size, "%llu", (unsigned long long)self->size);
    for (int i = 1; i <= KL_UPLOAD_MORE; i++) {
        kl_upload_way *way = &self->ways[i];
        kl_buf command = {0};
        const char number[] = {(char)('0' + i), '\0'};
        const char *words[] = {
            self->mark, number, self->part, there, size, kl_upload_conversion(self), NULL};
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

void kl_upload_ways_free(kl_file_upload *self)
{
    for (kl_upload_way *way = self->ways; way < way_end(self); way++) {
        end_way(way);
        kl_buf_free(&way->said);
        free(way->piece);
    }
}
