// HTTP requests on the event loop: libcurl's multi interface, one for a loop.
#ifndef KL_IO_CURL_MULTI_H
#define KL_IO_CURL_MULTI_H

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

#include "base/buf.h"
#include "base/failure.h"

typedef struct kl_curl kl_curl;                   // the connections of a loop
typedef struct kl_curl_transfer kl_curl_transfer; // one request

typedef struct kl_curl_header {
    const char *name;
    const char *value; // may be a secret: it is copied, wiped at the end, never in a message
} kl_curl_header;

// A part of a request's body.
typedef struct kl_curl_piece {
    const char *bytes; // may be a secret: it is copied and wiped at the end
    size_t length;
    const char *file; // instead of bytes: a whole regular file, read while it is sent
} kl_curl_piece;

// Whom to trust and who to be. Files are read when a connection is made; texts are PEM.
typedef struct kl_curl_tls {
    const char *ca_file; // NULL, and no `ca`: the system's authorities
    const char *ca;
    size_t ca_length;
    const char *cert_file; // of the client
    const char *cert;
    size_t cert_length;
    const char *key_file;
    const char *key; // may be a secret
    size_t key_length;
    const char *key_password; // NULL: none
} kl_curl_tls;

// Takes notice that a stream has moved: its head is there, it has bytes to read or room to write.
// From the loop, or from kl_curl_read and kl_curl_write.
typedef void (*kl_curl_moved_fn)(void *ctx);

// Everything is copied at the start.
typedef struct kl_curl_request {
    const char *method; // upper case
    const char *url;    // http or https
    bool idempotent;    // sent twice it does the same as once (RFC 9110, 9.2.2)
    const kl_curl_header *headers;
    size_t header_count;
    const kl_curl_piece *pieces; // the body, in a row
    size_t piece_count;          // 0: none
    bool streams_up;             // the body comes by kl_curl_write instead
    long long up_length;         // of such a body; -1: not known, so it goes in chunks
    bool streams_down;           // the answer's body is taken by kl_curl_read
    kl_curl_moved_fn moved;      // of a stream; NULL otherwise
    double connect_timeout;      // seconds, resolving and TLS included
    double timeout;              // seconds for everything
    double stall_timeout;        // seconds without a byte; 0: as long as `timeout`
    const char *unix_socket;     // NULL: by the URL's host
    kl_curl_tls tls;
    const char *proxy;     // NULL: the environment's; may be a secret
    const char *no_proxy;  // hosts asked without the explicit proxy; NULL: none
    size_t max_body;       // of the response, after decompression
    bool compressed;       // asks for compression, gives the body without it
    bool http2;            // where the server of an https URL speaks it
    bool fresh_connection; // a connection of its own, closed afterwards
    bool direct;           // no proxy, whatever the environment says
} kl_curl_request;

typedef struct kl_curl_response {
    long status;
    bool head;      // status and headers are whole
    kl_buf headers; // "name\0value\0" for each, names in lower case
    kl_buf body;    // of a stream: what was not read yet
    double seconds;
    int http;        // version: 10, 11, 20
    long resent;     // how often it was sent again, on another connection, by itself
    bool maybe_sent; // false: not a byte of the request has left, so it had no effect
} kl_curl_response;

// Called once, from the loop. `failure` is NULL when there is a whole response; kinds: unreachable
// timeout tls protocol limit io. Both are borrowed until kl_curl_drop.
typedef void (*kl_curl_fn)(void *ctx, const kl_curl_response *response, const kl_failure *failure);

// NULL: out of memory.
kl_curl *kl_curl_open(uv_loop_t *loop);
// Aborts what still runs, without calling anyone, and closes every connection. The transfers stay
// valid until they are dropped; the loop must run once more to free the rest.
void kl_curl_close(kl_curl *curl);
// Closes the kept connections, at once or when the last running request has ended.
void kl_curl_forget(kl_curl *curl);

// How many connections there may be at the same time, and to one host; more requests wait for their
// turn, within their deadlines.
void kl_curl_bound(kl_curl *curl, long connections, long per_host);

// Starts a request. Never calls `done` before it returned. NULL and a failure (invalid,
// unsupported, limit, and a file's): nothing was started. Returns owned; give it back with
// kl_curl_drop.
kl_curl_transfer *kl_curl_start(kl_curl *curl, const kl_curl_request *request, kl_curl_fn done,
                                void *ctx, kl_failure *out);
// Takes the transfer. If it still runs it is aborted at once and `done` will not be called.
void kl_curl_drop(kl_curl_transfer *transfer);

// The answer so far: whole after `done`, of a stream before it.
const kl_curl_response *kl_curl_response_of(const kl_curl_transfer *transfer);
// Appends to a streamed body; copied. Wait for room before the next one, or memory grows.
void kl_curl_write(kl_curl_transfer *transfer, const char *bytes, size_t length);
bool kl_curl_has_room(const kl_curl_transfer *transfer);
// The streamed body is whole.
void kl_curl_finish(kl_curl_transfer *transfer);
// Moves what has come of a streamed body to `out`, and lets more come.
void kl_curl_read(kl_curl_transfer *transfer, kl_buf *out);

#endif
