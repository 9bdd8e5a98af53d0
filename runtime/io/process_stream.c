// The output of a child process: its end is kept, its lines are queued.
#include "io/process_internal.h"

#include "base/ending.h"

#include <stdlib.h>
#include <string.h>

enum {
    LINE_MAX_BYTES = 65536, // a longer line comes in pieces
    QUEUE_BYTES = 1 << 20,  // of lines nobody took: above it the program has to wait
};

static void close_stream(kl_process *self, int which)
{
    self->streams[which].open = false;
    kl_process_close_handle(&self->streams[which].pipe);
}

static void queue_line(kl_process *self, int which, const char *bytes, size_t length)
{
    if (self->draining && self->queued > 2 * QUEUE_BYTES)
        return; // nobody takes them
    line *item = malloc(sizeof *item + length);
    if (item == NULL)
        kl_out_of_memory();
    *item = (line){.stream = which, .length = length};
    if (length > 0)
        memcpy(item->bytes, bytes, length);
    *self->last = item;
    self->last = &item->next;
    self->queued += length + sizeof *item;
}

static void split_lines(kl_process *self, int which)
{
    kl_buf *partial = &self->streams[which].partial;
    size_t start = 0;
    for (;;) {
        size_t left = partial->length - start;
        const char *end = left > 0 ? memchr(partial->data + start, '\n', left) : NULL;
        size_t length = end != NULL ? (size_t)(end - partial->data) - start : left;
        if (length > LINE_MAX_BYTES) {
            length = LINE_MAX_BYTES;
            end = NULL;
        } else if (end == NULL) {
            break;
        }
        queue_line(self, which, partial->data + start, length);
        start += length + (end != NULL);
    }
    kl_buf_shift(partial, start);
}

static void keep_output(kl_process *self, int which, const char *bytes, size_t length)
{
    kl_buf *kept = &self->streams[which].kept;
    kl_buf_append(kept, bytes, length);
    if (kept->length > 2 * self->max_output + sizeof self->chunk) {
        kl_buf_shift(kept, kept->length - self->max_output);
        self->result.truncated = true;
    }
}

static void chunk_wanted(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
    (void)suggested;
    kl_process *self = handle->data;
    *out = uv_buf_init(self->chunk, sizeof self->chunk);
}

static void stream_read(uv_stream_t *pipe, ssize_t got, const uv_buf_t *buf)
{
    kl_process *self = pipe->data;
    int which = pipe == (uv_stream_t *)&self->streams[KL_PROCESS_OUT].pipe ? KL_PROCESS_OUT
                                                                           : KL_PROCESS_ERR;
    kl_buf *partial = &self->streams[which].partial;
    if (got > 0) {
        keep_output(self, which, buf->base, (size_t)got);
        if (!self->lines)
            return;
        kl_buf_append(partial, buf->base, (size_t)got);
        split_lines(self, which);
        if (self->queued > QUEUE_BYTES && !self->draining) {
            self->paused = true;
            for (int i = 0; i < 2; i++) {
                if (self->streams[i].open)
                    uv_read_stop((uv_stream_t *)&self->streams[i].pipe);
            }
        }
        if (self->first != NULL)
            kl_process_tell(self);
    } else if (got < 0) {
        if (partial->length > 0) {
            queue_line(self, which, partial->data, partial->length);
            kl_buf_free(partial);
        }
        close_stream(self, which);
        kl_process_advance(self);
    }
}

static void resume_reading(kl_process *self)
{
    if (!self->paused)
        return;
    self->paused = false;
    for (int i = 0; i < 2; i++) {
        if (self->streams[i].open)
            uv_read_start((uv_stream_t *)&self->streams[i].pipe, chunk_wanted, stream_read);
    }
}

static void trim(kl_process *self, int which, kl_buf *out)
{
    kl_buf *kept = &self->streams[which].kept;
    if (kept->length > self->max_output) {
        kl_buf_shift(kept, kept->length - self->max_output);
        self->result.truncated = true;
    }
    *out = *kept;
    *kept = (kl_buf){0};
}

bool kl_process_take_line(kl_process *self, kl_buf *out, int *out_stream)
{
    line *item = self->first;
    if (item == NULL)
        return false;
    out->length = 0;
    kl_buf_append(out, item->bytes, item->length);
    *out_stream = item->stream;
    self->first = item->next;
    if (self->first == NULL)
        self->last = &self->first;
    self->queued -= item->length + sizeof *item;
    free(item);
    if (self->queued < QUEUE_BYTES / 2)
        resume_reading(self);
    return true;
}

bool kl_process_has_line(const kl_process *self)
{
    return self->first != NULL;
}

void kl_process_drain(kl_process *self)
{
    self->draining = true;
    resume_reading(self);
}

const kl_buf *kl_process_errors(const kl_process *self)
{
    return self->ended ? &self->result.err : &self->streams[KL_PROCESS_ERR].kept;
}

void kl_process_start_reading(kl_process *self)
{
    for (int i = self->socket != 0 ? KL_PROCESS_ERR : KL_PROCESS_OUT; i < 2; i++) {
        self->streams[i].open = true;
        uv_read_start((uv_stream_t *)&self->streams[i].pipe, chunk_wanted, stream_read);
    }
}

void kl_process_close_streams(kl_process *self)
{
    close_stream(self, KL_PROCESS_OUT);
    close_stream(self, KL_PROCESS_ERR);
}

void kl_process_keep_result(kl_process *self)
{
    trim(self, KL_PROCESS_OUT, &self->result.out);
    trim(self, KL_PROCESS_ERR, &self->result.err);
}

void kl_process_free_streams(kl_process *self)
{
    while (self->first != NULL) {
        line *gone = self->first;
        self->first = gone->next;
        free(gone);
    }
    for (int i = 0; i < 2; i++) {
        kl_buf_free(&self->streams[i].kept);
        kl_buf_free(&self->streams[i].partial);
    }
}
