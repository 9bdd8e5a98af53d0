// A stream of bytes, packed as gzip on its way: the fastest level, or none where that is in vain.
#include "io/gzip.h"

#include "base/ending.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <zlib.h>

#define TURN (128 * 1024)       // plain bytes a call
#define TRIAL (1024 * 1024)     // after so many it is judged
#define REST (16 * 1024 * 1024) // and so many go as they are when they did not get smaller
#define GZIP_FORMAT (15 + 16)   // zlib's number for a gzip header and the largest window

struct kl_gzip {
    kl_gzip_source source;
    void *ctx;
    z_stream stream;
    bool read_all;
    bool ended;
    bool flushing;
    int level;
    uint64_t judged_in, judged_out; // where the present level began
    unsigned char in[TURN / 2];
};

kl_gzip *kl_gzip_open(kl_gzip_source source, void *ctx)
{
    kl_gzip *gzip = kl_need(calloc(1, sizeof *gzip));
    gzip->source = source;
    gzip->ctx = ctx;
    gzip->level = 1;
    if (deflateInit2(&gzip->stream, gzip->level, Z_DEFLATED, GZIP_FORMAT, 8, Z_DEFAULT_STRATEGY) !=
        Z_OK)
        kl_out_of_memory();
    return gzip;
}

// Changes the level when the bytes since the last change tell that the other one is better. What
// is under way is written out first, so there must be room.
static void judge(kl_gzip *gzip)
{
    z_stream *stream = &gzip->stream;
    uint64_t in = stream->total_in - gzip->judged_in, out = stream->total_out - gzip->judged_out;
    int level = gzip->level;
    if (level == 1 && in >= TRIAL)
        level = out > in / 20 * 19 ? 0 : 1;
    else if (level == 0 && in >= REST)
        level = 1;
    else
        return;
    if (level != gzip->level && deflateParams(stream, level, Z_DEFAULT_STRATEGY) != Z_OK)
        return; // no room; the next call tries again
    gzip->level = level;
    gzip->judged_in = stream->total_in;
    gzip->judged_out = stream->total_out;
}

static bool refill(kl_gzip *gzip, size_t *budget, kl_failure *out_failure)
{
    size_t size = *budget < sizeof gzip->in ? *budget : sizeof gzip->in;
    ssize_t n = gzip->source(gzip->ctx, (char *)gzip->in, size, out_failure);
    if (n < 0)
        return false;
    gzip->read_all = n == 0;
    gzip->stream.next_in = gzip->in;
    gzip->stream.avail_in = (unsigned int)n;
    *budget -= (size_t)n;
    return true;
}

ssize_t kl_gzip_read(kl_gzip *gzip, char *out, size_t size, kl_failure *out_failure)
{
    z_stream *stream = &gzip->stream;
    size_t budget = TURN;
    stream->next_out = (unsigned char *)out;
    stream->avail_out = (unsigned int)size;
    if (!gzip->flushing && !gzip->read_all)
        judge(gzip);
    while (stream->avail_out > 0 && !gzip->ended) {
        if (stream->avail_in == 0 && !gzip->read_all && !gzip->flushing) {
            if (budget == 0 && stream->avail_out < size)
                break;
            gzip->flushing = budget == 0; // or a call would end without a byte
            if (budget > 0 && !refill(gzip, &budget, out_failure))
                return -1;
        }
        int how = gzip->flushing ? Z_SYNC_FLUSH : gzip->read_all ? Z_FINISH : Z_NO_FLUSH;
        gzip->ended = deflate(stream, how) == Z_STREAM_END;
        if (stream->avail_out > 0)
            gzip->flushing = false;
    }
    return (ssize_t)(size - stream->avail_out);
}

void kl_gzip_close(kl_gzip *gzip)
{
    deflateEnd(&gzip->stream);
    free(gzip);
}
