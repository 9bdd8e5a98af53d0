// What a command printed.
#include "io/ssh_output.h"

#include <string.h>

// A "line" without end is handed on in pieces.
#define LINE_MAX_BYTES ((size_t)64 * 1024)
#define COMPACT_BYTES ((size_t)512 * 1024)

typedef struct line_head {
    size_t length;
    kl_ssh_stream stream;
} line_head;

static void keep_last(kl_ssh_output *output, kl_buf *stream)
{
    if (stream->length <= output->max)
        return;
    kl_buf_shift(stream, stream->length - output->max);
    output->truncated = true;
}

static void queue_line(kl_ssh_output *output, kl_ssh_stream stream, const char *text, size_t length)
{
    if (output->lines_at == output->lines.length)
        output->lines_at = output->lines.length = 0;
    if (output->lines_at > COMPACT_BYTES) {
        kl_buf_shift(&output->lines, output->lines_at);
        output->lines_at = 0;
    }
    line_head head = {.length = length, .stream = stream};
    kl_buf_append(&output->lines, &head, sizeof head);
    kl_buf_append(&output->lines, text, length);
}

static void end_line(kl_ssh_output *output, kl_ssh_stream stream)
{
    kl_buf *partial = &output->partial[stream];
    queue_line(output, stream, kl_buf_text(partial), partial->length);
    partial->length = 0;
}

static void split_lines(kl_ssh_output *output, kl_ssh_stream stream, const char *bytes,
                        size_t length)
{
    while (length > 0) {
        const char *newline = memchr(bytes, '\n', length);
        size_t piece = newline != NULL ? (size_t)(newline - bytes) : length;
        kl_buf_append(&output->partial[stream], bytes, piece);
        if (newline != NULL)
            piece++;
        bytes += piece;
        length -= piece;
        if (newline != NULL || output->partial[stream].length >= LINE_MAX_BYTES)
            end_line(output, stream);
    }
}

void kl_ssh_output_add(kl_ssh_output *output, kl_ssh_stream stream, const char *bytes,
                       size_t length)
{
    kl_buf *kept = &output->streams[stream];
    kl_buf_append(kept, bytes, length);
    if (kept->length > 2 * output->max) // not at every call: it moves memory
        keep_last(output, kept);
    if (output->by_line)
        split_lines(output, stream, bytes, length);
}

void kl_ssh_output_end(kl_ssh_output *output)
{
    for (int i = 0; i < 2; i++) {
        keep_last(output, &output->streams[i]);
        if (output->partial[i].length > 0)
            end_line(output, (kl_ssh_stream)i);
    }
}

const char *kl_ssh_output_line(kl_ssh_output *output, kl_ssh_stream *out_stream, size_t *out_length)
{
    if (output->lines_at == output->lines.length)
        return NULL;
    line_head head;
    memcpy(&head, output->lines.data + output->lines_at, sizeof head);
    const char *text = output->lines.data + output->lines_at + sizeof head;
    output->lines_at += sizeof head + head.length;
    *out_stream = head.stream;
    *out_length = head.length;
    return text;
}

size_t kl_ssh_output_waiting(const kl_ssh_output *output)
{
    return output->lines.length - output->lines_at;
}

void kl_ssh_output_free(kl_ssh_output *output)
{
    for (int i = 0; i < 2; i++) {
        kl_buf_free(&output->streams[i]);
        kl_buf_free(&output->partial[i]);
    }
    kl_buf_free(&output->lines);
    output->lines_at = 0;
}
