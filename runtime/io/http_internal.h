// What http_server.c and http_request.c share.
#ifndef KL_IO_HTTP_INTERNAL_H
#define KL_IO_HTTP_INTERNAL_H

#include <microhttpd.h>

#include "io/http_server.h"

struct kl_http_request {
    kl_http_server *server;            // NULL once the server has closed
    struct MHD_Connection *connection; // NULL once the peer is gone or has its answer
    struct MHD_Response *response;     // owned until it is queued
    kl_http_request *next;             // of the server's requests
    kl_http_request *previous;
    kl_http_asked asked;
    char *method;
    char *path;
    unsigned status;
    bool refused;   // answered by us before it was handed over
    bool given;     // handed over
    bool suspended; // waits for its answer
    bool answered;
    bool hang_up;
    bool queued;   // the answer is with libmicrohttpd
    bool has_user; // somebody was given it and has not dropped it
};

// libmicrohttpd's handlers; `ctx` is the server.
enum MHD_Result kl_http_request_step(void *ctx, struct MHD_Connection *connection, const char *url,
                                     const char *method, const char *version, const char *upload,
                                     size_t *upload_size, void **state);
void kl_http_request_completed(void *ctx, struct MHD_Connection *connection, void **state,
                               enum MHD_RequestTerminationCode code);
// Lets it go on after its answer.
void kl_http_request_resume(kl_http_request *request);

// What a request needs of its server.
void kl_http_server_link(kl_http_server *server, kl_http_request *request);
void kl_http_server_unlink(kl_http_server *server, kl_http_request *request);
void kl_http_server_give(kl_http_server *server, kl_http_request *request);
size_t kl_http_server_max_body(const kl_http_server *server);
// Runs libmicrohttpd as far as it gets without waiting. Not from its own callbacks.
void kl_http_server_turn(kl_http_server *server);

#endif
