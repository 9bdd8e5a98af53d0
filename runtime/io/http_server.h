// An HTTP server on the event loop, by libmicrohttpd: no threads, requests wait for their answer.
#ifndef KL_IO_HTTP_SERVER_H
#define KL_IO_HTTP_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

#include "base/buf.h"
#include "base/failure.h"

typedef struct kl_http_server kl_http_server;
typedef struct kl_http_request kl_http_request;

typedef struct kl_http_server_options {
    const char *host;         // a numeric address; borrowed during the call
    int port;                 // 0: a free one
    const char *unix_socket;  // NULL, or a path to listen on instead; mode 0600, removed at the end
    size_t max_headers;       // bytes of the request line and the headers
    size_t max_body;          // bytes of a request's body
    size_t max_buffered;      // bytes of all requests' bodies together
    unsigned connections;     // at the same time; more wait in the backlog
    unsigned idle_timeout;    // seconds without progress, while sending or between requests
    unsigned request_timeout; // seconds from a connection's start, or an answer, to a whole request
    unsigned answer_timeout;  // seconds to take an answer, or what was written to a stream
    const char *cert;         // PEM, with its chain; NULL: no TLS
    const char *key;          // PEM; a secret, wiped at the end
} kl_http_server_options;

// What was asked; borrowed until the request is dropped.
typedef struct kl_http_asked {
    const char *method;
    const char *target; // as it was sent: path and query, not decoded
    const char *path;   // percent-decoded, without the query
    const char *peer;   // "127.0.0.1:43210", or "" for a unix socket
    kl_buf headers;     // "name\0value\0" for each, names in lower case
    kl_buf query;       // "name\0value\0" for each, percent-decoded
    kl_buf body;
} kl_http_asked;

// Takes a whole request, from the loop. Answer it or drop it.
typedef void (*kl_http_server_fn)(void *ctx, kl_http_request *request);

// Returns owned, or NULL and a failure (invalid, exists, denied, limit, io).
kl_http_server *kl_http_server_open(uv_loop_t *loop, const kl_http_server_options *options,
                                    kl_http_server_fn on_request, void *ctx, kl_failure *out);
// Ends every connection, after one attempt to send the answers that were given. Requests stay
// valid, but nobody gets their answer. The loop must run once more to free the rest.
void kl_http_server_close(kl_http_server *server);
int kl_http_server_port(const kl_http_server *server); // 0 for a unix socket

const kl_http_asked *kl_http_request_asked(const kl_http_request *request);
// Frees the bytes of the body, which the caller has taken over.
void kl_http_request_forget_body(kl_http_request *request);
// Answers, once. `headers` as in kl_http_asked; all is copied. False: the server or the peer is
// gone.
bool kl_http_request_answer(kl_http_request *request, unsigned status, const kl_buf *headers,
                            const char *body, size_t length);
// Answers with a file's bytes; takes `fd`.
bool kl_http_request_answer_file(kl_http_request *request, unsigned status, const kl_buf *headers,
                                 int fd, size_t length);

// Takes notice that a stream has room again, or that nobody takes it any more.
typedef void (*kl_http_moved_fn)(void *ctx);
// Answers with a stream: kl_http_request_write until kl_http_request_finish. Dropped without that,
// its end is cut off so that the peer notices.
bool kl_http_request_stream(kl_http_request *request, unsigned status, const kl_buf *headers,
                            kl_http_moved_fn moved, void *ctx);
// Sends more; copied. Wait for room before the next one, or memory grows. False: nobody takes it.
bool kl_http_request_write(kl_http_request *request, const char *bytes, size_t length);
bool kl_http_request_has_room(const kl_http_request *request);
// False: the peer or the server is gone.
bool kl_http_request_is_open(const kl_http_request *request);
void kl_http_request_finish(kl_http_request *request);
// Ends the connection instead of answering.
void kl_http_request_hang_up(kl_http_request *request);
bool kl_http_request_answered(const kl_http_request *request);
// Takes the request; without an answer the peer gets a 500.
void kl_http_request_drop(kl_http_request *request);

#endif
