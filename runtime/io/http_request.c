// A request that the HTTP server got: gathered, handed over, answered.
#include "io/http_internal.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static void append_zero_terminated(kl_buf *out, const char *bytes, size_t length, bool lower)
{
    size_t clean = bytes != NULL ? strnlen(bytes, length) : 0; // nothing after a zero byte
    kl_buf_append(out, bytes, clean);
    for (size_t i = out->length - clean; lower && i < out->length; i++)
        out->data[i] = (char)tolower((unsigned char)out->data[i]);
    kl_buf_append(out, "", 1);
}

static enum MHD_Result keep_header(void *ctx, enum MHD_ValueKind kind, const char *name,
                                   size_t name_length, const char *value, size_t value_length)
{
    (void)kind;
    append_zero_terminated(ctx, name, name_length, true);
    append_zero_terminated(ctx, value, value_length, false);
    return MHD_YES;
}

static enum MHD_Result keep_argument(void *ctx, enum MHD_ValueKind kind, const char *name,
                                     size_t name_length, const char *value, size_t value_length)
{
    (void)kind;
    append_zero_terminated(ctx, name, name_length, false);
    append_zero_terminated(ctx, value, value_length, false);
    return MHD_YES;
}

static void release(kl_http_request *request)
{
    if (request->has_user || request->connection != NULL)
        return;
    if (request->response != NULL)
        MHD_destroy_response(request->response);
    kl_buf_free(&request->asked.headers);
    kl_buf_free(&request->asked.query);
    kl_buf_free(&request->asked.body);
    free(request->method);
    free(request->path);
    free(request);
}

static kl_http_request *request_new(kl_http_server *server, struct MHD_Connection *connection,
                                    const char *url, const char *method)
{
    kl_http_request *request = calloc(1, sizeof *request);
    if (request == NULL)
        return NULL;
    request->connection = connection;
    request->method = strdup(method);
    request->path = strdup(url);
    request->asked.method = request->method;
    request->asked.path = request->path;
    request->server = server;
    kl_http_server_link(server, request);
    MHD_get_connection_values_n(connection, MHD_HEADER_KIND, keep_header, &request->asked.headers);
    MHD_get_connection_values_n(connection, MHD_GET_ARGUMENT_KIND, keep_argument,
                                &request->asked.query);
    return request;
}

static enum MHD_Result refuse(kl_http_request *request, unsigned status)
{
    request->refused = true;
    struct MHD_Response *response =
        MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
    if (response == NULL)
        return MHD_NO;
    enum MHD_Result result = MHD_queue_response(request->connection, status, response);
    MHD_destroy_response(response);
    return result;
}

// The headers are there. A body that is announced as too long is not even received.
static enum MHD_Result begin(kl_http_server *server, struct MHD_Connection *connection,
                             const char *url, const char *method, void **state)
{
    kl_http_request *request = request_new(server, connection, url, method);
    if (request == NULL)
        return MHD_NO;
    *state = request;
    const char *length =
        MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_LENGTH);
    if (length != NULL && strtoull(length, NULL, 10) > kl_http_server_max_body(server))
        return refuse(request, MHD_HTTP_CONTENT_TOO_LARGE);
    return MHD_YES;
}

static enum MHD_Result queue_answer(kl_http_request *request)
{
    if (request->hang_up)
        return MHD_NO; // libmicrohttpd ends the connection
    request->queued = true;
    enum MHD_Result result =
        MHD_queue_response(request->connection, request->status, request->response);
    MHD_destroy_response(request->response);
    request->response = NULL;
    return result;
}

enum MHD_Result kl_http_request_step(void *ctx, struct MHD_Connection *connection, const char *url,
                                     const char *method, const char *version, const char *upload,
                                     size_t *upload_size, void **state)
{
    (void)version;
    kl_http_server *server = ctx;
    kl_http_request *request = *state;
    if (request == NULL)
        return begin(server, connection, url, method, state);
    if (request->refused || request->queued)
        return MHD_YES;
    if (*upload_size > 0) {
        if (*upload_size > kl_http_server_max_body(server) - request->asked.body.length)
            return MHD_NO;
        kl_buf_append(&request->asked.body, upload, *upload_size);
        *upload_size = 0;
        return MHD_YES;
    }
    if (request->answered)
        return queue_answer(request);
    if (request->given)
        return MHD_YES;
    request->given = true;
    request->has_user = true;
    request->suspended = true;
    MHD_suspend_connection(connection);
    kl_http_server_give(server, request);
    return MHD_YES;
}

void kl_http_request_completed(void *ctx, struct MHD_Connection *connection, void **state,
                               enum MHD_RequestTerminationCode code)
{
    (void)ctx;
    (void)connection;
    (void)code;
    kl_http_request *request = *state;
    if (request == NULL)
        return;
    *state = NULL;
    if (request->server != NULL)
        kl_http_server_unlink(request->server, request);
    request->server = NULL;
    request->connection = NULL;
    request->suspended = false;
    release(request);
}

const kl_http_asked *kl_http_request_asked(const kl_http_request *request)
{
    return &request->asked;
}

bool kl_http_request_answered(const kl_http_request *request)
{
    return request->answered;
}

void kl_http_request_resume(kl_http_request *request)
{
    if (!request->suspended)
        return;
    request->suspended = false;
    MHD_resume_connection(request->connection);
}

static void go_on(kl_http_request *request)
{
    kl_http_server *server = request->server;
    request->answered = true;
    kl_http_request_resume(request);
    if (server != NULL)
        kl_http_server_turn(server);
}

bool kl_http_request_answer(kl_http_request *request, unsigned status, const kl_buf *headers,
                            const char *body, size_t length)
{
    if (request->answered || request->connection == NULL) {
        request->answered = true;
        return false;
    }
    request->status = status;
    request->response =
        MHD_create_response_from_buffer(length, (void *)(uintptr_t)body, MHD_RESPMEM_MUST_COPY);
    request->hang_up = request->response == NULL;
    const char *at = kl_buf_text(headers), *end = at + headers->length;
    while (at < end && request->response != NULL) {
        const char *name = at, *value = name + strlen(name) + 1;
        at = value + strlen(value) + 1;
        MHD_add_response_header(request->response, name, value);
    }
    bool possible = !request->hang_up;
    go_on(request); // the request may have been completed
    return possible;
}

void kl_http_request_hang_up(kl_http_request *request)
{
    if (request->answered)
        return;
    request->hang_up = true;
    go_on(request);
}

void kl_http_request_drop(kl_http_request *request)
{
    if (!request->answered && request->connection != NULL) {
        const kl_buf none = {0};
        kl_http_request_answer(request, MHD_HTTP_INTERNAL_SERVER_ERROR, &none, "", 0);
    }
    request->has_user = false;
    release(request);
}
