// What the files of rt.http share.
#ifndef KL_PRIM_HTTP_H
#define KL_PRIM_HTTP_H

#include <lua.h>

#include "bridge/own.h"
#include "io/curl_multi.h"

// Reads the options at argument 1 and leaves what they borrow on the stack. [-0, +n, e]
void kl_http_options(lua_State *L, kl_curl_request *out);
// The same for an exchange: its body may be a stream, its answer is one. [-0, +n, e]
void kl_http_stream_options(lua_State *L, kl_curl_request *out);
// The state's pool of connections, made at its first use. [-0, +0, e]
kl_curl *kl_http_pool(lua_State *L);
// Pushes a table with status, headers, http and resent. [-0, +1, e]
void kl_http_push_head(lua_State *L, const kl_curl_response *response);
// Pushes nil and the error with its `effect`; returns 2. [-0, +2, e]
int kl_http_fail(lua_State *L, const kl_failure *failure, bool maybe_sent);

// rt.http.open and the methods of what it gives (http_exchange.c).
extern const kl_own_class kl_http_exchange_class;
void kl_http_exchange_close(void *self);
int kl_http_open(lua_State *L);
int kl_http_exchange_head(lua_State *L);
int kl_http_exchange_read(lua_State *L);
int kl_http_exchange_write(lua_State *L);
int kl_http_exchange_finish(lua_State *L);

#endif
