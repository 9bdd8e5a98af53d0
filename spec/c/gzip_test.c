// gzip.c: whatever goes in, of any size and in any pieces, comes out again.
#include "io/gzip.h"

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

typedef enum kind { ZEROS, TEXT, NOISE, TURNS } kind;

typedef struct source {
    kind what;
    size_t left;
    size_t at;
    size_t most; // bytes a call
    uint32_t seed;
    uLong sum;
} source;

static char byte_of(source *self)
{
    self->seed = self->seed * 1664525 + 1013904223;
    bool noise = self->what == NOISE || (self->what == TURNS && self->at / 20000000 % 2 == 1);
    return noise                 ? (char)(self->seed >> 24)
           : self->what == ZEROS ? 0
                                 : "a line of text\n"[self->at % 15];
}

static ssize_t give(void *ctx, char *out, size_t size, kl_failure *out_failure)
{
    source *self = ctx;
    (void)out_failure;
    size_t n = size < self->most ? size : self->most;
    n = n < self->left ? n : self->left;
    for (size_t i = 0; i < n; i++, self->at++)
        out[i] = byte_of(self);
    self->left -= n;
    self->sum = crc32(self->sum, (unsigned char *)out, (unsigned int)n);
    return (ssize_t)n;
}

// Packs and unpacks it; returns the packed length.
static size_t both_ways(kind what, size_t length, size_t most, size_t room)
{
    source from = {.what = what, .left = length, .most = most, .sum = crc32(0, NULL, 0)};
    kl_failure failure = {0};
    kl_gzip *gzip = kl_gzip_open(give, &from);
    z_stream back = {0};
    assert(inflateInit2(&back, 15 + 16) == Z_OK);
    char *packed = malloc(room);
    static unsigned char plain[65536];
    uLong sum = crc32(0, NULL, 0);
    ssize_t n;
    int rc = Z_OK;
    while ((n = kl_gzip_read(gzip, packed, room, &failure)) > 0) {
        back.next_in = (unsigned char *)packed;
        back.avail_in = (unsigned int)n;
        do {
            back.next_out = plain;
            back.avail_out = sizeof plain;
            rc = inflate(&back, Z_NO_FLUSH);
            assert(rc == Z_OK || rc == Z_STREAM_END || rc == Z_BUF_ERROR);
            sum = crc32(sum, plain, (unsigned int)(sizeof plain - back.avail_out));
        } while (back.avail_out == 0);
    }
    assert(n == 0 && rc == Z_STREAM_END);
    assert(back.total_out == length && sum == from.sum);
    size_t total = back.total_in;
    inflateEnd(&back);
    kl_gzip_close(gzip);
    free(packed);
    return total;
}

static ssize_t refuse(void *ctx, char *out, size_t size, kl_failure *out_failure)
{
    (void)ctx;
    (void)out;
    (void)size;
    kl_failure_set(out_failure, "io", 5, "no more");
    return -1;
}

int main(void)
{
    const size_t lengths[] = {0, 1, 1000, 65535, 65536, 131072, 1000000, 9000000};
    const size_t rooms[] = {1024, 32700, 262144};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
        for (size_t j = 0; j < sizeof rooms / sizeof *rooms; j++)
            for (kind what = ZEROS; what <= TURNS; what++)
                both_ways(what, lengths[i], j == 0 ? 100 : 65536, rooms[j]);
    assert(both_ways(TEXT, 9000000, 65536, 32700) < 200000);
    assert(both_ways(NOISE, 9000000, 65536, 32700) < 9010000);
    assert(both_ways(TURNS, 60000000, 65536, 32700) < 40000000); // it tries again

    kl_failure failure = {0};
    char out[1024];
    kl_gzip *gzip = kl_gzip_open(refuse, NULL);
    assert(kl_gzip_read(gzip, out, sizeof out, &failure) == -1);
    assert(strcmp(failure.kind, "io") == 0);
    kl_gzip_close(gzip);
    puts("gzip: ok");
    return 0;
}
