// What the files of rt.httpd share.
#ifndef KL_PRIM_HTTPD_H
#define KL_PRIM_HTTPD_H

#include <lua.h>

#include "bridge/own.h"
#include "io/http_server.h"

typedef struct kl_httpd_request {
    kl_http_request *io;     // NULL once closed
    struct write_op *writer; // waits for room in the stream
    bool streams;
    bool finished;
} kl_httpd_request;

extern const kl_own_class kl_httpd_request_class;
void kl_httpd_request_close(void *self);

// The methods of a request (httpd_request.c).
int kl_httpd_respond(lua_State *L);
int kl_httpd_start(lua_State *L);
int kl_httpd_write(lua_State *L);
int kl_httpd_finish(lua_State *L);
int kl_httpd_hang_up(lua_State *L);
int kl_httpd_is_open(lua_State *L);

#endif
