// What http_server.c and http_request.c share.
#ifndef KL_IO_HTTP_INTERNAL_H
#define KL_IO_HTTP_INTERNAL_H

#include <microhttpd.h>
#include <stdint.h>

#include "io/http_server.h"

// A client's connection, on which a request follows the other.
typedef struct kl_http_connection {
    struct kl_http_connection *next; // of the server's
    struct kl_http_connection *previous;
    int fd;
    uint64_t deadline; // of what the peer has to do, in the loop's milliseconds; 0: we are at it
} kl_http_connection;

struct kl_http_request {
    kl_http_server *server;            // NULL once the server has closed
    struct MHD_Connection *connection; // NULL once the peer is gone or has its answer
    struct MHD_Response *response;     // owned until it is queued
    kl_http_request *next;             // of the server's requests
    kl_http_request *previous;
    kl_http_connection *wire; // NULL as `connection`
    kl_http_asked asked;
    char *target;
    char *method;
    char *path;
    char peer[64];
    unsigned status;
    kl_buf stream; // written; sent up to `stream_at`
    size_t stream_at;
    size_t buffered; // bytes that the server counts for us
    size_t length;   // of the answer
    size_t received; // bytes of the body
    kl_http_moved_fn moved;
    void *moved_ctx;
    int lengths;    // how many headers say how long the body is,
    int codings;    // how it is coded,
    int hosts;      // and whom it is for
    bool begun;     // its headers are there
    bool streams;   // its answer comes in pieces
    bool finished;  // the stream is whole
    bool refused;   // answered by us, and never handed over
    bool given;     // handed over
    bool suspended; // waits for its answer
    bool answered;
    bool hang_up;
    bool queued;   // the answer is with libmicrohttpd
    bool has_user; // somebody was given it and has not dropped it
};

// libmicrohttpd's handlers; `ctx` is the server. The first makes the request.
void *kl_http_request_start(void *ctx, const char *target, struct MHD_Connection *connection);
enum MHD_Result kl_http_request_step(void *ctx, struct MHD_Connection *connection, const char *url,
                                     const char *method, const char *version, const char *upload,
                                     size_t *upload_size, void **state);
void kl_http_request_completed(void *ctx, struct MHD_Connection *connection, void **state,
                               enum MHD_RequestTerminationCode code);
// Lets it go on after its answer, or with its stream.
void kl_http_request_resume(kl_http_request *request);
// Lets it go on to its end, unanswered: the server closes.
void kl_http_request_abandon(kl_http_request *request);

// http_answer.c: hands the answer to libmicrohttpd.
enum MHD_Result kl_http_answer_queue(kl_http_request *request);
// Answers with the status alone.
enum MHD_Result kl_http_answer_refuse(kl_http_request *request);

// http_listen.c: a listening socket, or -1 and a failure.
int kl_http_listen(const kl_http_server_options *options, kl_failure *out);
int kl_http_listen_port(int fd); // 0 for a unix socket

// What a request needs of its server.
void kl_http_server_link(kl_http_server *server, kl_http_request *request);
void kl_http_server_unlink(kl_http_server *server, kl_http_request *request);
void kl_http_server_give(kl_http_server *server, kl_http_request *request);
size_t kl_http_server_max_body(const kl_http_server *server);
// Counts bytes of bodies in memory; false: there would be too many.
bool kl_http_server_buffer(kl_http_server *server, size_t more);
void kl_http_server_unbuffer(kl_http_server *server, size_t less);
// What the peer has to do next: send a request, take an answer, or nothing until we have answered.
typedef enum kl_http_turn { KL_HTTP_ASKS, KL_HTTP_TAKES, KL_HTTP_WAITS } kl_http_turn;
void kl_http_server_expect(const kl_http_server *server, kl_http_connection *wire,
                           kl_http_turn turn);
// Gives the peer more time, for so many bytes.
void kl_http_server_allow(kl_http_connection *wire, size_t bytes);
// Bytes came or went.
void kl_http_server_moved(kl_http_server *server);
// Runs libmicrohttpd as far as it gets without waiting. Not from its own callbacks.
void kl_http_server_turn(kl_http_server *server);

#endif
