// What a command printed: the last bytes of each stream, and on demand its lines in order.
#ifndef KL_IO_SSH_OUTPUT_H
#define KL_IO_SSH_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "io/ssh_channel.h"

typedef struct kl_ssh_output {
    kl_buf streams[2]; // by kl_ssh_stream; up to twice `max` while it grows
    size_t max;        // bytes kept of each
    bool truncated;    // earlier bytes were dropped
    bool by_line;      // whether lines are queued
    kl_buf partial[2]; // the unfinished line of each stream
    kl_buf lines;      // records: stream, length, text
    size_t lines_at;
} kl_ssh_output;

void kl_ssh_output_add(kl_ssh_output *output, kl_ssh_stream stream, const char *bytes,
                       size_t length);
// The output has ended: unfinished lines become lines, the streams are cut to `max`.
void kl_ssh_output_end(kl_ssh_output *output);
// The next line without its newline, borrowed until the next call; NULL if there is none.
const char *kl_ssh_output_line(kl_ssh_output *output, kl_ssh_stream *out_stream,
                               size_t *out_length);
// Bytes of lines that wait.
size_t kl_ssh_output_waiting(const kl_ssh_output *output);
void kl_ssh_output_free(kl_ssh_output *output);

#endif
