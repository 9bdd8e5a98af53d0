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

// Everything is copied at the start.
typedef struct kl_curl_request {
    const char *method; // upper case
    const char *url;    // http or https
    const kl_curl_header *headers;
    size_t header_count;
    const char *body; // NULL: none
    size_t body_length;
    double connect_timeout;  // seconds, resolving and TLS included
    double timeout;          // seconds for everything
    const char *unix_socket; // NULL: by the URL's host
    const char *ca_file;     // NULL: the system's authorities
    size_t max_body;         // of the response
    long redirects;          // how many are followed; 0: none
    bool fresh_connection;   // a connection of its own, closed afterwards
    bool direct;             // no proxy, whatever the environment says
} kl_curl_request;

typedef struct kl_curl_response {
    long status;
    kl_buf headers; // "name\0value\0" for each, names in lower case
    kl_buf body;
    double seconds;
    long resent;     // how often it was sent again, on another connection, by itself
    bool maybe_sent; // false: not a byte of the request has left, so it had no effect
} kl_curl_response;

// Called once, from the loop. `failure` is NULL when there is a whole response; kinds: unreachable
// timeout tls protocol limit. Both are borrowed until kl_curl_drop.
typedef void (*kl_curl_fn)(void *ctx, const kl_curl_response *response, const kl_failure *failure);

// NULL: out of memory.
kl_curl *kl_curl_open(uv_loop_t *loop);
// Aborts what still runs, without calling anyone, and closes every connection. The transfers stay
// valid until they are dropped; the loop must run once more to free the rest.
void kl_curl_close(kl_curl *curl);
// Closes the kept connections, at once or when the last running request has ended.
void kl_curl_forget(kl_curl *curl);

// Starts a request. Never calls `done` before it returned. NULL and a failure (invalid,
// unsupported, limit): nothing was started. Returns owned; give it back with kl_curl_drop.
kl_curl_transfer *kl_curl_start(kl_curl *curl, const kl_curl_request *request, kl_curl_fn done,
                                void *ctx, kl_failure *out);
// Takes the transfer. If it still runs it is aborted at once and `done` will not be called.
void kl_curl_drop(kl_curl_transfer *transfer);

#endif
