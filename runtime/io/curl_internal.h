// What curl_multi.c and curl_transfer.c share.
#ifndef KL_IO_CURL_INTERNAL_H
#define KL_IO_CURL_INTERNAL_H

#include <curl/curl.h>
#include <stdint.h>

#include "io/curl_multi.h"

typedef struct kl_curl_part { // of a body
    char *bytes;              // owned; NULL: the file
    size_t length;
    int fd; // owned
    char *path;
} kl_curl_part;

// A request's body: parts that can be sent again, or a stream that cannot.
typedef struct kl_curl_source {
    kl_curl_part *parts;
    size_t count;
    size_t at; // the part that is sent, and where in it
    size_t offset;
    kl_buf stream; // written and not sent
    bool streams;
    bool finished;
    bool paused; // curl waits for more of the stream
} kl_curl_source;

typedef struct kl_curl_unpacking kl_curl_unpacking;

struct kl_curl_transfer {
    kl_curl *curl; // NULL: not running (not added, ended or aborted)
    kl_curl_transfer *next;
    kl_curl_transfer *previous;
    CURL *easy; // owned while it is set
    struct curl_slist *headers;
    kl_curl_source source;
    size_t max_body;
    size_t received;           // bytes of the body, unpacked
    bool compressed;           // it may come packed
    bool begun;                // it has come, in part
    kl_curl_unpacking *unpack; // NULL: it comes as it is
    bool streams_down;
    bool paused_down; // curl waits until the body so far is read
    kl_curl_moved_fn moved;
    char *where; // "GET http://host/path": no query, no user, for messages
    kl_curl_fn done;
    void *ctx;
    kl_curl_response response;
    kl_failure failure;
    char error[CURL_ERROR_SIZE];
    size_t header_bytes;
    uint64_t due;    // when it must have ended, in the loop's milliseconds
    long attempts;   // how often curl was about to send the request
    bool repeatable; // may be sent again on another connection
    bool over_limit;
    bool lost; // a kept connection broke and the request must not be sent again
};

// Makes a transfer that is not added to a multi yet; takes `easy`, a cleared handle or NULL. NULL
// and a failure if it cannot be.
kl_curl_transfer *kl_curl_transfer_new(const kl_curl_request *request, CURL *easy, kl_failure *out);
// Fills response and failure from curl's verdict.
void kl_curl_transfer_ended(kl_curl_transfer *transfer, CURLcode result);
// Frees it, wiping what may be secret. Not while it is in a multi.
void kl_curl_transfer_free(kl_curl_transfer *transfer);

// curl_options.c: how the connection is made. False: out of memory.
bool kl_curl_set_connection(CURL *easy, const kl_curl_request *request);

// curl_body.c: makes the request's body and hands it to curl; receives the answer's. False and a
// failure: a file, or out of memory.
bool kl_curl_set_body(kl_curl_transfer *transfer, const kl_curl_request *request, kl_failure *out);
void kl_curl_source_free(kl_curl_source *source);

// curl_unpack.c: before the first byte of a body that may come packed. False and the transfer's
// failure: it comes in a way that was not asked for.
bool kl_curl_unpack_begin(kl_curl_transfer *transfer);
// Adds to the answer's body, up to `window` bytes and a piece of 32 KB. Returns what a write
// callback of libcurl does.
size_t kl_curl_unpack(kl_curl_transfer *transfer, char *bytes, size_t length, size_t window);
// Whether nothing is missing at the end.
bool kl_curl_unpack_whole(const kl_curl_transfer *transfer);
void kl_curl_unpack_free(kl_curl_transfer *transfer);

#endif
