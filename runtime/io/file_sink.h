// A file that bytes arrive for: written beside its target by a thread of the loop's pool, so that a
// slow disk holds nobody up, and renamed into place when all are there.
#ifndef KL_IO_FILE_SINK_H
#define KL_IO_FILE_SINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

#include "base/failure.h"

typedef struct kl_file_sink kl_file_sink;

// Called from the loop, never from within a call of these functions.
typedef struct kl_file_sink_events {
    // It is open; what an interrupted one had written is read again, `there` bytes.
    void (*opened)(void *ctx, uint64_t there);
    // It takes more, after kl_file_sink_write said that it has enough.
    void (*drained)(void *ctx);
    // Once: it is in its place for good, or what went wrong. The sink is still to be closed.
    void (*ended)(void *ctx, const kl_failure *failure);
} kl_file_sink_events;

typedef struct kl_file_sink_options {
    const char *target; // copied
    const char *name;   // of the unfinished file: the target's with ".kiln-part-" and this; copied
    bool keep;          // the unfinished file stays, for the next sink of that name to go on with
    bool passing;       // the file goes when the sink is closed; until then it is locked
    bool sparse;        // zeros become holes
    uint64_t size;      // that it is to have; more than that is there: it begins anew
} kl_file_sink_options;

typedef struct kl_file_sink_end {
    const char *sum; // sha256 in hex that it must have
    mode_t mode;
    int64_t changed; // time of its last change, seconds since 1970
} kl_file_sink_end;

kl_file_sink *kl_file_sink_open(uv_loop_t *loop, const kl_file_sink_options *options,
                                const kl_file_sink_events *events, void *ctx);
// Takes a copy of the bytes. False: it has enough until `drained`.
bool kl_file_sink_write(kl_file_sink *sink, const char *bytes, size_t length);
// All bytes were given: when they are on the disk and have this sum, puts the file in its place,
// and removes what else was left unfinished for the same target.
void kl_file_sink_finish(kl_file_sink *sink, const kl_file_sink_end *end);
// Lets it go, with the unfinished file unless that is kept. No event comes any more.
void kl_file_sink_close(kl_file_sink *sink);

#endif
