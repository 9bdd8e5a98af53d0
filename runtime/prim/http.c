// rt.http: one HTTP request and its answer.
#include "prim/prims.h"

#include "bridge/fail.h"
#include "bridge/op.h"
#include "bridge/opts.h"
#include "bridge/own.h"
#include "bridge/secret.h"
#include "io/curl_multi.h"

#include <string.h>

static const char pool_key; // its address is the registry's key of the state's pool

typedef struct http_pool {
    kl_curl *curl;
} http_pool;

typedef struct request_op {
    kl_op op;
    kl_curl_transfer *transfer; // owned; NULL once it was given back
    const kl_curl_response *response;
    kl_failure failure;
    bool maybe_sent;
} request_op;

static void pool_close(void *self)
{
    http_pool *pool = self;
    kl_curl *curl = pool->curl;
    pool->curl = NULL;
    if (curl != NULL)
        kl_curl_close(curl);
}

static const luaL_Reg pool_methods[] = {{NULL, NULL}};
static const kl_own_class pool_class = {"rt.http.pool", pool_methods, pool_close};

// The state's pool, made at its first use; lua_close closes it.
static kl_curl *pool_of(lua_State *L)
{
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &pool_key) == LUA_TNIL) {
        http_pool *made = kl_own_new(L, sizeof *made, &pool_class);
        lua_rawsetp(L, LUA_REGISTRYINDEX, &pool_key);
        made->curl = kl_curl_open(kl_loop(L));
        lua_rawgetp(L, LUA_REGISTRYINDEX, &pool_key);
        lua_remove(L, -2);
    }
    const http_pool *pool = kl_own_check(L, -1, &pool_class);
    lua_pop(L, 1);
    if (pool->curl == NULL)
        luaL_error(L, "the Lua state closes, or is out of memory");
    return pool->curl;
}

static void request_release(kl_op *op)
{
    request_op *self = (request_op *)op;
    kl_curl_transfer *transfer = self->transfer;
    self->transfer = NULL;
    kl_curl_drop(transfer);
}

static void request_done(void *ctx, const kl_curl_response *response, const kl_failure *failure)
{
    request_op *self = ctx;
    self->response = response;
    self->maybe_sent = response->maybe_sent;
    if (failure != NULL)
        self->failure = *failure;
    kl_op_settle(&self->op);
}

// Pushes the headers; a name that came several times has its values joined by ", " (RFC 9110, 5.3).
static void push_headers(lua_State *L, const kl_buf *headers)
{
    lua_newtable(L);
    const char *at = kl_buf_text(headers), *end = at + headers->length;
    while (at < end) {
        const char *name = at, *value = name + strlen(name) + 1;
        at = value + strlen(value) + 1;
        if (lua_getfield(L, -1, name) == LUA_TSTRING) {
            lua_pushfstring(L, "%s, %s", lua_tostring(L, -1), value);
            lua_replace(L, -2);
        } else {
            lua_pop(L, 1);
            lua_pushstring(L, value);
        }
        lua_setfield(L, -2, name);
    }
}

static int request_push(lua_State *L, kl_op *op)
{
    request_op *self = (request_op *)op;
    if (kl_failed(&self->failure)) {
        kl_fail(L, &self->failure);
        lua_pushstring(L, self->maybe_sent ? "maybe" : "none");
        lua_setfield(L, -2, "effect");
        return 2;
    }
    const kl_curl_response *response = self->response;
    lua_createtable(L, 0, 5);
    lua_pushinteger(L, response->resent);
    lua_setfield(L, -2, "resent");
    lua_pushinteger(L, response->status);
    lua_setfield(L, -2, "status");
    push_headers(L, &response->headers);
    lua_setfield(L, -2, "headers");
    lua_pushlstring(L, kl_buf_text(&response->body), response->body.length);
    lua_setfield(L, -2, "body");
    lua_pushnumber(L, response->seconds);
    lua_setfield(L, -2, "seconds");
    return 1;
}

static const kl_op_class request_class = {"http.request", request_release, request_push,
                                          request_release};

static bool is_token(const char *text)
{
    static const char token[] = "!#$%&'*+-.^_`|~0123456789" // RFC 9110, 5.6.2
                                "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    return text[0] != '\0' && strspn(text, token) == strlen(text);
}

// Checks the header whose name and value are on top of the stack. [-0, +0, e]
static kl_curl_header check_header(lua_State *L, bool *out_secret)
{
    size_t length;
    if (lua_type(L, -2) != LUA_TSTRING || !is_token(lua_tostring(L, -2)))
        luaL_error(L, "option 'headers' has a name that is none of a header");
    const char *name = lua_tostring(L, -2);
    const char *value = kl_secret_bytes(L, -1, &length);
    *out_secret |= value != NULL;
    if (value == NULL && lua_type(L, -1) == LUA_TSTRING)
        value = lua_tolstring(L, -1, &length);
    if (value == NULL)
        luaL_error(L, "header '%s' must be a string or a secret, not a %s", name,
                   luaL_typename(L, -1));
    if (strlen(value) != length || strpbrk(value, "\r\n") != NULL)
        luaL_error(L, "the value of header '%s' has a line break or a zero byte", name);
    return (kl_curl_header){name, value};
}

// Leaves two values on the stack: the table and the list that `out` points to. [-0, +2, e]
static void read_headers(kl_opts *opts, kl_curl_request *out)
{
    lua_State *L = opts->L;
    bool secret = false;
    if (!kl_opts_table(opts, "headers")) {
        lua_pushnil(L);
        return;
    }
    int table = lua_gettop(L);
    size_t count = 0;
    for (lua_pushnil(L); lua_next(L, table) != 0; lua_pop(L, 1))
        count++;
    kl_curl_header *list = lua_newuserdatauv(L, (count + 1) * sizeof *list, 0);
    out->headers = list;
    for (lua_pushnil(L); lua_next(L, table) != 0; lua_pop(L, 1))
        list[out->header_count++] = check_header(L, &secret);
    if (secret && out->redirects > 0)
        luaL_error(L, "option 'redirects': a secret header must not follow one");
}

static void read_limits(lua_State *L, kl_opts *opts, kl_curl_request *out)
{
    out->connect_timeout = kl_opts_number(opts, "connect_timeout", 10);
    out->timeout = kl_opts_number(opts, "timeout", 60);
    luaL_argcheck(L, out->connect_timeout >= 0.001 && out->connect_timeout < 1e6, 1,
                  "option 'connect_timeout' is out of range");
    luaL_argcheck(L, out->timeout >= 0.001 && out->timeout < 1e6, 1,
                  "option 'timeout' is out of range");
    lua_Integer max_body = kl_opts_integer(opts, "max_body", 64 * 1024 * 1024);
    luaL_argcheck(L, max_body >= 0 && max_body <= 1024 * 1024 * 1024, 1,
                  "option 'max_body' must be from 0 to 1 GiB");
    out->max_body = (size_t)max_body;
    lua_Integer redirects = kl_opts_integer(opts, "redirects", 0);
    luaL_argcheck(L, redirects >= 0 && redirects <= 20, 1,
                  "option 'redirects' must be from 0 to 20");
    out->redirects = (long)redirects;
}

static void read_method(lua_State *L, kl_opts *opts, kl_curl_request *out)
{
    out->method = kl_opts_string(opts, "method", "GET");
    bool upper = out->method[0] != '\0' &&
                 strspn(out->method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == strlen(out->method);
    luaL_argcheck(L, upper && strcmp(out->method, "CONNECT") != 0, 1,
                  "option 'method' must be a method in upper case, and not CONNECT");
    bool reads = strcmp(out->method, "GET") == 0 || strcmp(out->method, "HEAD") == 0;
    luaL_argcheck(L, out->redirects == 0 || reads, 1,
                  "option 'redirects': only GET and HEAD follow them");
    out->body = kl_opts_bytes(opts, "body", &out->body_length);
    luaL_argcheck(L, out->body == NULL || strcmp(out->method, "HEAD") != 0, 1,
                  "option 'body': HEAD has none");
}

static void read_options(lua_State *L, kl_curl_request *out)
{
    kl_opts opts;
    luaL_checktype(L, 1, LUA_TTABLE);
    kl_opts_begin(L, 1, &opts);
    out->url = kl_opts_need_string(&opts, "url");
    out->unix_socket = kl_opts_string(&opts, "unix_socket", NULL);
    out->ca_file = kl_opts_string(&opts, "ca_file", NULL);
    out->fresh_connection = kl_opts_boolean(&opts, "fresh_connection", false);
    out->direct = kl_opts_boolean(&opts, "direct", false);
    read_limits(L, &opts, out);
    read_method(L, &opts, out);
    read_headers(&opts, out);
    kl_opts_end(&opts);
}

static int http_request(lua_State *L)
{
    kl_curl_request request = {0};
    read_options(L, &request);
    kl_curl *curl = pool_of(L);
    request_op *self = kl_op_new(L, sizeof *self, &request_class);
    self->transfer = kl_curl_start(curl, &request, request_done, self, &self->failure);
    if (self->transfer == NULL)
        kl_op_settle(&self->op);
    return kl_op_wait(L, &self->op);
}

static int http_forget(lua_State *L)
{
    kl_curl_forget(pool_of(L));
    return 0;
}

static const luaL_Reg http_functions[] = {
    {"request", http_request}, {"forget", http_forget}, {NULL, NULL}};

KL_PRIM(http)
{
    luaL_newlib(L, http_functions);
    return 1;
}
