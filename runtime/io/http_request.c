// A request that the HTTP server got: gathered and handed over.
#include "io/http_internal.h"

#include "base/ending.h"

#include <ctype.h>
#include <netdb.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

enum { DRAIN_MAX = 16 << 20 }; // bytes of a refused body that are taken all the same

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
    kl_http_request *request = ctx;
    append_zero_terminated(&request->asked.headers, name, name_length, true);
    append_zero_terminated(&request->asked.headers, value, value_length, false);
    request->lengths += strcasecmp(name, MHD_HTTP_HEADER_CONTENT_LENGTH) == 0;
    request->codings += strcasecmp(name, MHD_HTTP_HEADER_TRANSFER_ENCODING) == 0;
    request->hosts += strcasecmp(name, MHD_HTTP_HEADER_HOST) == 0;
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
    kl_buf_free(&request->stream);
    free(request->target);
    free(request->method);
    free(request->path);
    free(request);
}

static void describe_peer(kl_http_request *request)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(request->connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    const struct sockaddr *address = info != NULL ? info->client_addr : NULL;
    char host[46], port[8];
    if (address == NULL || (address->sa_family != AF_INET && address->sa_family != AF_INET6))
        return;
    socklen_t size =
        address->sa_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
    if (getnameinfo(address, size, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        return;
    bool v6 = address->sa_family == AF_INET6;
    snprintf(request->peer, sizeof request->peer, v6 ? "[%s]:%s" : "%s:%s", host, port);
}

// The request line is there. Whatever becomes of it, kl_http_request_completed will be called.
void *kl_http_request_start(void *ctx, const char *target, struct MHD_Connection *connection)
{
    kl_http_request *request = calloc(1, sizeof *request);
    if (request == NULL)
        return NULL;
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    request->wire = info->socket_context;
    request->connection = connection;
    request->target = kl_need(strdup(target));
    request->server = ctx;
    describe_peer(request);
    kl_http_server_link(ctx, request);
    return request;
}

static bool gather_head(kl_http_request *request, const char *path, const char *method)
{
    request->begun = true;
    request->method = kl_need(strdup(method));
    request->path = kl_need(strdup(path));
    request->asked.method = request->method;
    request->asked.target = request->target;
    request->asked.path = request->path;
    request->asked.peer = request->peer;
    MHD_get_connection_values_n(request->connection, MHD_HEADER_KIND, keep_header, request);
    MHD_get_connection_values_n(request->connection, MHD_GET_ARGUMENT_KIND, keep_argument,
                                &request->asked.query);
    return request->method != NULL && request->path != NULL && request->target != NULL;
}

// Answers without asking anybody. A client that is cut off while it sends does not see the answer:
// so a body that is not too long is taken first, and thrown away.
static enum MHD_Result refuse(kl_http_request *request, unsigned status, unsigned long long length)
{
    request->status = status;
    request->refused = true;
    if (length > 0 && length <= DRAIN_MAX)
        return MHD_YES;
    request->queued = true;
    return kl_http_answer_refuse(request);
}

// A proxy before us may have read it otherwise (RFC 9112, 6.3 and 3.2); a decoded path would end at
// its zero byte. A target is never empty (RFC 9112, 3.2), but libmicrohttpd passes one that begins
// with a zero byte as an empty text.
static bool is_ambiguous(const kl_http_request *request)
{
    return request->lengths + request->codings > 1 || request->hosts > 1 ||
           request->target[0] == '\0' || strstr(request->target, "%00") != NULL;
}

// The headers are there. A body that is announced as too long is not kept.
static enum MHD_Result begin(kl_http_server *server, kl_http_request *request, const char *path,
                             const char *method)
{
    if (!gather_head(request, path, method))
        return MHD_NO;
    if (is_ambiguous(request))
        return refuse(request, MHD_HTTP_BAD_REQUEST, 0);
    const char *text = MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND,
                                                   MHD_HTTP_HEADER_CONTENT_LENGTH);
    unsigned long long length = text != NULL ? strtoull(text, NULL, 10) : 0;
    if (length > kl_http_server_max_body(server))
        return refuse(request, MHD_HTTP_CONTENT_TOO_LARGE, length);
    if (!kl_http_server_buffer(server, (size_t)length))
        return refuse(request, MHD_HTTP_SERVICE_UNAVAILABLE, length);
    request->buffered = (size_t)length;
    return MHD_YES;
}

// Its length was not announced, and it turns out too long.
static enum MHD_Result overrun(kl_http_request *request, unsigned status)
{
    request->status = status;
    request->refused = true;
    kl_http_request_forget_body(request);
    return MHD_YES;
}

static enum MHD_Result receive(kl_http_server *server, kl_http_request *request, const char *bytes,
                               size_t length)
{
    kl_buf *body = &request->asked.body;
    request->received += length;
    if (request->refused)
        return request->received <= kl_http_server_max_body(server) + DRAIN_MAX ? MHD_YES : MHD_NO;
    if (length > kl_http_server_max_body(server) - body->length)
        return overrun(request, MHD_HTTP_CONTENT_TOO_LARGE);
    if (body->length + length > request->buffered) {
        if (!kl_http_server_buffer(server, length))
            return overrun(request, MHD_HTTP_SERVICE_UNAVAILABLE);
        request->buffered += length;
    }
    kl_buf_append(body, bytes, length);
    kl_http_server_allow(request->wire, length);
    return MHD_YES;
}

static enum MHD_Result hand_over(kl_http_server *server, kl_http_request *request)
{
    request->given = true;
    request->has_user = true;
    request->suspended = true;
    MHD_suspend_connection(request->connection);
    kl_http_server_expect(server, request->wire, KL_HTTP_WAITS);
    kl_http_server_give(server, request);
    return MHD_YES;
}

enum MHD_Result kl_http_request_step(void *ctx, struct MHD_Connection *connection, const char *url,
                                     const char *method, const char *version, const char *upload,
                                     size_t *upload_size, void **state)
{
    (void)connection;
    (void)version;
    kl_http_server *server = ctx;
    kl_http_request *request = *state;
    if (request == NULL)
        return MHD_NO;
    kl_http_server_moved(server);
    if (!request->begun)
        return begin(server, request, url, method);
    if (request->queued)
        return MHD_YES;
    if (*upload_size > 0) {
        size_t length = *upload_size;
        *upload_size = 0;
        return receive(server, request, upload, length);
    }
    if (request->refused) {
        request->queued = true;
        return kl_http_answer_refuse(request);
    }
    if (request->answered)
        return kl_http_answer_queue(request);
    return request->given ? MHD_YES : hand_over(server, request);
}

void kl_http_request_completed(void *ctx, struct MHD_Connection *connection, void **state,
                               enum MHD_RequestTerminationCode code)
{
    (void)ctx;
    kl_http_request *request = *state;
    if (request == NULL)
        return;
    *state = NULL;
    if (request->streams && code == MHD_REQUEST_TERMINATED_WITH_ERROR && request->wire != NULL) {
        // libmicrohttpd would close the connection only when its time is over.
        shutdown(request->wire->fd, SHUT_RDWR);
        MHD_set_connection_option(connection, MHD_CONNECTION_OPTION_TIMEOUT, 1U);
    }
    kl_http_server *server = request->server;
    kl_http_request_forget_body(request);
    kl_http_server_expect(server, request->wire, KL_HTTP_ASKS);
    kl_http_server_unlink(server, request);
    request->server = NULL;
    request->connection = NULL;
    request->wire = NULL;
    request->suspended = false;
    if (request->moved != NULL)
        request->moved(request->moved_ctx);
    release(request);
}

const kl_http_asked *kl_http_request_asked(const kl_http_request *request)
{
    return &request->asked;
}

void kl_http_request_forget_body(kl_http_request *request)
{
    kl_buf_free(&request->asked.body);
    if (request->server != NULL)
        kl_http_server_unbuffer(request->server, request->buffered);
    request->buffered = 0;
}

void kl_http_request_resume(kl_http_request *request)
{
    if (!request->suspended)
        return;
    request->suspended = false;
    MHD_resume_connection(request->connection);
}

void kl_http_request_abandon(kl_http_request *request)
{
    if (!request->suspended) // libmicrohttpd does not stop with a waiting request
        return;
    request->hang_up = true;
    kl_http_request_resume(request);
}

void kl_http_request_drop(kl_http_request *request)
{
    if (!request->answered && request->connection != NULL) {
        const kl_buf none = {0};
        kl_http_request_answer(request, MHD_HTTP_INTERNAL_SERVER_ERROR, &none, "", 0);
    }
    if (request->streams && !request->finished)
        kl_http_request_hang_up(request);
    request->moved = NULL;
    request->has_user = false;
    release(request);
}
