// What curl_multi.c and curl_transfer.c share.
#ifndef KL_IO_CURL_INTERNAL_H
#define KL_IO_CURL_INTERNAL_H

#include <curl/curl.h>

#include "io/curl_multi.h"

struct kl_curl_transfer {
    kl_curl *curl; // NULL: not running (not added, ended or aborted)
    kl_curl_transfer *next;
    kl_curl_transfer *previous;
    CURL *easy;
    struct curl_slist *headers;
    char *body; // owned
    size_t body_length;
    size_t max_body;
    char *where; // "GET http://host/path": no query, no user, for messages
    kl_curl_fn done;
    void *ctx;
    kl_curl_response response;
    kl_failure failure;
    char error[CURL_ERROR_SIZE];
    size_t header_bytes;
    long attempts;   // how often curl was about to send the request
    bool repeatable; // sending it twice has the effect of sending it once (RFC 9110, 9.2.2)
    bool over_limit;
    bool lost; // a kept connection broke and the request must not be sent again
};

// Makes a transfer that is not added to a multi yet. NULL and a failure if it cannot be.
kl_curl_transfer *kl_curl_transfer_new(const kl_curl_request *request, kl_failure *out);
// Fills response and failure from curl's verdict.
void kl_curl_transfer_ended(kl_curl_transfer *transfer, CURLcode result);
// Frees it, wiping what may be secret. Not while it is in a multi.
void kl_curl_transfer_free(kl_curl_transfer *transfer);

#endif
