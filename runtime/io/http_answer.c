// The answer to a request that the HTTP server got: whole, a file, or a stream.
#include "io/http_internal.h"

#include <string.h>
#include <unistd.h>

enum {
    WINDOW = 256 * 1024, // bytes of a stream that wait for the peer
    BLOCK = 32 * 1024    // bytes that libmicrohttpd asks for at once
};

enum MHD_Result kl_http_answer_refuse(kl_http_request *request)
{
    struct MHD_Response *response =
        MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
    if (response == NULL)
        return MHD_NO;
    enum MHD_Result result = MHD_queue_response(request->connection, request->status, response);
    MHD_destroy_response(response);
    return result;
}

enum MHD_Result kl_http_answer_queue(kl_http_request *request)
{
    if (request->hang_up)
        return MHD_NO; // libmicrohttpd ends the connection
    request->queued = true;
    kl_http_server_expect(request->server, request->wire, KL_HTTP_TAKES);
    kl_http_server_allow(request->wire, request->length);
    enum MHD_Result result =
        MHD_queue_response(request->connection, request->status, request->response);
    MHD_destroy_response(request->response);
    request->response = NULL;
    return result;
}

bool kl_http_request_answered(const kl_http_request *request)
{
    return request->answered;
}

// After this the request may have been completed.
static void go_on(kl_http_request *request)
{
    kl_http_server *server = request->server;
    request->answered = true;
    kl_http_request_resume(request);
    if (server != NULL)
        kl_http_server_turn(server);
}

// Takes `response`, NULL when there is no memory for one.
static bool answer(kl_http_request *request, unsigned status, const kl_buf *headers,
                   struct MHD_Response *response, size_t length)
{
    request->status = status;
    request->length = length;
    request->response = response;
    request->hang_up = response == NULL;
    const char *at = kl_buf_text(headers), *end = at + headers->length;
    while (at < end && response != NULL) {
        const char *name = at, *value = name + strlen(name) + 1;
        at = value + strlen(value) + 1;
        MHD_add_response_header(response, name, value);
    }
    bool possible = !request->hang_up;
    go_on(request);
    return possible;
}

// Whether there is somebody to answer to.
static bool may_answer(kl_http_request *request)
{
    bool possible = !request->answered && request->connection != NULL;
    request->answered = true;
    return possible;
}

bool kl_http_request_answer(kl_http_request *request, unsigned status, const kl_buf *headers,
                            const char *body, size_t length)
{
    if (!may_answer(request))
        return false;
    struct MHD_Response *response =
        MHD_create_response_from_buffer(length, (void *)(uintptr_t)body, MHD_RESPMEM_MUST_COPY);
    return answer(request, status, headers, response, length);
}

bool kl_http_request_answer_file(kl_http_request *request, unsigned status, const kl_buf *headers,
                                 int fd, size_t length)
{
    bool possible = may_answer(request);
    struct MHD_Response *response = possible ? MHD_create_response_from_fd64(length, fd) : NULL;
    if (response == NULL)
        close(fd);
    return possible && answer(request, status, headers, response, length);
}

static size_t waiting_bytes(const kl_http_request *request)
{
    return request->stream.length - request->stream_at;
}

// libmicrohttpd has sent what it had and asks for more.
static ssize_t on_stream(void *ctx, uint64_t position, char *to, size_t room)
{
    (void)position;
    kl_http_request *request = ctx;
    size_t length = waiting_bytes(request);
    kl_http_server_moved(request->server);
    if (length == 0 && request->hang_up)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    if (length == 0 && request->finished)
        return MHD_CONTENT_READER_END_OF_STREAM;
    if (length == 0) {
        request->suspended = true;
        MHD_suspend_connection(request->connection);
        kl_http_server_expect(request->server, request->wire, KL_HTTP_WAITS);
        return 0;
    }
    if (length > room)
        length = room;
    memcpy(to, request->stream.data + request->stream_at, length);
    request->stream_at += length;
    if (waiting_bytes(request) == 0)
        request->stream.length = request->stream_at = 0;
    kl_http_server_expect(request->server, request->wire, KL_HTTP_TAKES);
    if (request->moved != NULL)
        request->moved(request->moved_ctx);
    return (ssize_t)length;
}

bool kl_http_request_stream(kl_http_request *request, unsigned status, const kl_buf *headers,
                            kl_http_moved_fn moved, void *ctx)
{
    request->streams = true;
    if (!may_answer(request))
        return false;
    request->moved = moved;
    request->moved_ctx = ctx;
    return answer(
        request, status, headers,
        MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK, on_stream, request, NULL), 0);
}

bool kl_http_request_is_open(const kl_http_request *request)
{
    return request->connection != NULL && !request->hang_up;
}

bool kl_http_request_has_room(const kl_http_request *request)
{
    return waiting_bytes(request) < WINDOW;
}

bool kl_http_request_write(kl_http_request *request, const char *bytes, size_t length)
{
    if (!kl_http_request_is_open(request))
        return false;
    kl_buf_append(&request->stream, bytes, length);
    if (length > 0)
        go_on(request);
    return kl_http_request_is_open(request);
}

void kl_http_request_finish(kl_http_request *request)
{
    if (request->finished)
        return;
    request->finished = true;
    if (kl_http_request_is_open(request))
        go_on(request);
}

void kl_http_request_hang_up(kl_http_request *request)
{
    if (request->answered && (!request->streams || request->finished))
        return;
    request->hang_up = true;
    go_on(request);
}
