// The bodies of an HTTP request and its answer: parts and files going up, streams both ways.
#include "io/curl_internal.h"

#include "base/ending.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { WINDOW = 256 * 1024 }; // bytes of a stream that wait for the other side

static bool open_file(kl_curl_part *part, const char *path, kl_failure *out)
{
    struct stat stat;
    part->path = kl_need(strdup(path));
    part->fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (part->fd < 0 || fstat(part->fd, &stat) != 0) {
        kl_failure_errno(out, errno, path);
        return false;
    }
    if (!S_ISREG(stat.st_mode)) {
        kl_failure_set(out, "invalid", 0, "%s: only a regular file can be a body", path);
        return false;
    }
    part->length = (size_t)stat.st_size;
    return true;
}

static bool copy_bytes(kl_curl_part *part, const kl_curl_piece *piece, kl_failure *out)
{
    part->bytes = malloc(piece->length + 1);
    if (part->bytes == NULL) {
        kl_failure_set(out, "limit", ENOMEM, "out of memory for a body of %zu bytes",
                       piece->length);
        return false;
    }
    if (piece->length > 0)
        memcpy(part->bytes, piece->bytes, piece->length);
    part->length = piece->length;
    return true;
}

static bool gather(kl_curl_source *source, const kl_curl_request *request, kl_failure *out)
{
    source->streams = request->streams_up;
    source->parts = calloc(request->piece_count + 1, sizeof *source->parts);
    if (source->parts == NULL) {
        kl_failure_set(out, "limit", ENOMEM, "out of memory");
        return false;
    }
    for (size_t i = 0; i < request->piece_count; i++) {
        const kl_curl_piece *piece = &request->pieces[i];
        kl_curl_part *part = &source->parts[source->count++];
        part->fd = -1;
        if (!(piece->file != NULL ? open_file(part, piece->file, out)
                                  : copy_bytes(part, piece, out)))
            return false;
    }
    return true;
}

void kl_curl_source_free(kl_curl_source *source)
{
    for (size_t i = 0; i < source->count; i++) {
        kl_curl_part *part = &source->parts[i];
        if (part->bytes != NULL)
            OPENSSL_cleanse(part->bytes, part->length);
        if (part->fd >= 0)
            close(part->fd);
        free(part->bytes);
        free(part->path);
    }
    free(source->parts);
    if (source->stream.data != NULL)
        OPENSSL_cleanse(source->stream.data, source->stream.capacity);
    kl_buf_free(&source->stream);
    *source = (kl_curl_source){0};
}

static void tell(const kl_curl_transfer *transfer)
{
    if (transfer->moved != NULL)
        transfer->moved(transfer->ctx);
}

// Returns how much of the part was put to `to`, or CURL_READFUNC_ABORT.
static size_t read_part(kl_curl_transfer *transfer, const kl_curl_part *part, size_t offset,
                        char *to, size_t room)
{
    size_t length = part->length - offset < room ? part->length - offset : room;
    if (part->bytes != NULL) {
        memcpy(to, part->bytes + offset, length);
        return length;
    }
    ssize_t got = pread(part->fd, to, length, (off_t)offset);
    if (got < 0)
        kl_failure_errno(&transfer->failure, errno, part->path);
    else if (got == 0)
        kl_failure_set(&transfer->failure, "io", 0, "%s became shorter while it was sent",
                       part->path);
    return got > 0 ? (size_t)got : CURL_READFUNC_ABORT;
}

static size_t read_parts(kl_curl_transfer *transfer, char *to, size_t room)
{
    kl_curl_source *source = &transfer->source;
    while (source->at < source->count && source->offset == source->parts[source->at].length) {
        source->at++;
        source->offset = 0;
    }
    if (source->at == source->count)
        return 0;
    size_t got = read_part(transfer, &source->parts[source->at], source->offset, to, room);
    if (got != CURL_READFUNC_ABORT)
        source->offset += got;
    return got;
}

static size_t waiting_bytes(const kl_curl_source *source)
{
    return source->stream.length - source->offset;
}

static size_t on_read(char *to, size_t size, size_t count, void *ctx)
{
    kl_curl_transfer *transfer = ctx;
    kl_curl_source *source = &transfer->source;
    if (!source->streams)
        return read_parts(transfer, to, size * count);
    size_t length = waiting_bytes(source);
    if (length == 0) {
        source->paused = !source->finished;
        return source->finished ? 0 : CURL_READFUNC_PAUSE;
    }
    if (length > size * count)
        length = size * count;
    memcpy(to, source->stream.data + source->offset, length);
    source->offset += length;
    if (waiting_bytes(source) == 0)
        source->offset = source->stream.length = 0;
    tell(transfer);
    return length;
}

// curl sends a body again, from its start, when a kept connection had ended.
static int on_seek(void *ctx, curl_off_t offset, int origin)
{
    kl_curl_source *source = &((kl_curl_transfer *)ctx)->source;
    if (source->streams || offset != 0 || origin != SEEK_SET)
        return CURL_SEEKFUNC_CANTSEEK;
    source->at = 0;
    source->offset = 0;
    return CURL_SEEKFUNC_OK;
}

static size_t on_body(char *bytes, size_t size, size_t count, void *ctx)
{
    kl_curl_transfer *transfer = ctx;
    kl_buf *body = &transfer->response.body;
    size_t length = size * count;
    if (transfer->over_limit || kl_failed(&transfer->failure))
        return 0; // what fails while a pause ends does not end the transfer
    if (transfer->streams_down && body->length >= WINDOW) {
        transfer->paused_down = true;
        return CURL_WRITEFUNC_PAUSE; // the same bytes come again
    }
    if (transfer->compressed && !transfer->begun && !kl_curl_unpack_begin(transfer))
        return 0;
    transfer->begun = true;
    if (transfer->unpack != NULL) {
        length = kl_curl_unpack(transfer, bytes, length,
                                transfer->streams_down ? (size_t)WINDOW : SIZE_MAX);
        tell(transfer);
        return length;
    }
    if (length > transfer->max_body - transfer->received) {
        transfer->over_limit = true;
        return 0;
    }
    transfer->received += length;
    kl_buf_append(body, bytes, length);
    tell(transfer);
    return length;
}

static void upload(CURL *easy, kl_curl_transfer *transfer, curl_off_t length)
{
    curl_easy_setopt(easy, CURLOPT_UPLOAD, 1L);
    curl_easy_setopt(easy, CURLOPT_INFILESIZE_LARGE, length);
    curl_easy_setopt(easy, CURLOPT_READFUNCTION, on_read);
    curl_easy_setopt(easy, CURLOPT_READDATA, transfer);
    curl_easy_setopt(easy, CURLOPT_SEEKFUNCTION, on_seek);
    curl_easy_setopt(easy, CURLOPT_SEEKDATA, transfer);
}

static bool is_one_of(const char *word, const char *const *list)
{
    while (*list != NULL && strcmp(word, *list) != 0)
        list++;
    return *list != NULL;
}

bool kl_curl_set_body(kl_curl_transfer *transfer, const kl_curl_request *request, kl_failure *out)
{
    CURL *easy = transfer->easy;
    kl_curl_source *source = &transfer->source;
    transfer->max_body = request->max_body;
    transfer->streams_down = request->streams_down;
    transfer->moved = request->moved;
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, transfer);
    if (!gather(source, request, out))
        return false;
    // These say "Content-Length: 0" when they have none.
    static const char *const with_body[] = {"POST", "PUT", "PATCH", NULL};
    if (source->streams) {
        upload(easy, transfer, request->up_length);
    } else if (source->count == 1 && source->parts[0].bytes != NULL) {
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)source->parts[0].length);
        curl_easy_setopt(easy, CURLOPT_POSTFIELDS, source->parts[0].bytes);
    } else if (source->count > 0) {
        curl_off_t total = 0;
        for (size_t i = 0; i < source->count; i++)
            total += (curl_off_t)source->parts[i].length;
        upload(easy, transfer, total);
    } else if (is_one_of(request->method, with_body)) {
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)0);
        curl_easy_setopt(easy, CURLOPT_POSTFIELDS, "");
    }
    return true;
}

// Tells curl which directions wait; it may call back at once.
static void set_pauses(const kl_curl_transfer *transfer)
{
    if (transfer->curl != NULL)
        curl_easy_pause(transfer->easy, (transfer->paused_down ? CURLPAUSE_RECV : 0) |
                                            (transfer->source.paused ? CURLPAUSE_SEND : 0));
}

static void resume_up(kl_curl_transfer *transfer)
{
    if (!transfer->source.paused)
        return;
    transfer->source.paused = false;
    set_pauses(transfer);
}

void kl_curl_write(kl_curl_transfer *transfer, const char *bytes, size_t length)
{
    kl_buf_append(&transfer->source.stream, bytes, length);
    if (length > 0)
        resume_up(transfer);
}

bool kl_curl_has_room(const kl_curl_transfer *transfer)
{
    return waiting_bytes(&transfer->source) < WINDOW;
}

void kl_curl_finish(kl_curl_transfer *transfer)
{
    transfer->source.finished = true;
    resume_up(transfer);
}

void kl_curl_read(kl_curl_transfer *transfer, kl_buf *out)
{
    kl_buf *body = &transfer->response.body;
    kl_buf_append(out, kl_buf_text(body), body->length);
    body->length = 0;
    if (!transfer->paused_down)
        return;
    transfer->paused_down = false;
    set_pauses(transfer);
}
