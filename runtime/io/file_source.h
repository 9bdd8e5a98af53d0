// A file that is read ahead in pieces by a thread of the loop's pool, with its sum: neither a slow
// disk nor the sum holds the loop up.
#ifndef KL_IO_FILE_SOURCE_H
#define KL_IO_FILE_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/failure.h"

#define KL_FILE_PIECE (256 * 1024) // the sum, and who takes it, find it in a processor's cache
#define KL_FILE_SLICE 16           // pieces

typedef struct kl_file_source kl_file_source;

// KL_FILE_PIECE bytes of the file; the last one is shorter.
typedef struct kl_file_piece {
    struct kl_file_piece *next;
    uint64_t index; // from 0, after what was skipped
    size_t length;
    char bytes[];
} kl_file_piece;

// Called from the loop, never from within a call of these functions.
typedef struct kl_file_source_events {
    // There is another piece, or the sum.
    void (*ready)(void *ctx);
    // Once: it cannot be read to its end. The source is still to be closed.
    void (*failed)(void *ctx, const kl_failure *failure);
} kl_file_source_events;

// Reads `size` bytes of an open file, which the source owns then. Nothing is read before
// kl_file_source_start.
kl_file_source *kl_file_source_open(uv_loop_t *loop, int file, uint64_t size,
                                    const kl_file_source_events *events, void *ctx);
// Reads `skip` bytes for the sum alone, then gives pieces, at most `ahead` of them at once.
void kl_file_source_start(kl_file_source *source, uint64_t skip, int ahead);
// Takes the first piece of those whose slice modulo `ways` is `way`; the caller gives it back or
// frees it. NULL: none yet.
kl_file_piece *kl_file_source_take(kl_file_source *source, unsigned int ways, unsigned int way);
// Gives back a piece that was taken.
void kl_file_source_give(kl_file_source *source, kl_file_piece *piece);
// The sha256 in hex of everything, NULL before the last byte is read.
const char *kl_file_source_sum(const kl_file_source *source);
// Lets it go. No event comes any more.
void kl_file_source_close(kl_file_source *source);

#endif
