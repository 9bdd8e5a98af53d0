// rt.httpd: an HTTP server whose requests are accepted and answered by tasks.
#include "prim/prims.h"

#include "bridge/fail.h"
#include "bridge/op.h"
#include "bridge/opts.h"
#include "bridge/own.h"
#include "bridge/scratch.h"
#include "io/http_server.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

typedef struct pending { // a request that nobody has accepted yet
    kl_http_request *request;
    struct pending *next;
} pending;

typedef struct httpd_server {
    kl_http_server *io; // NULL once closed
    pending *first;
    pending **last;
    struct accept_op *waiters;
} httpd_server;

typedef struct accept_op {
    kl_op op;
    httpd_server *server; // NULL once it has closed, or gave a request
    struct accept_op *next;
    kl_http_request *request; // owned until it is pushed
} accept_op;

typedef struct httpd_request {
    kl_http_request *io; // NULL once closed
} httpd_request;

static int server_accept(lua_State *L);
static int server_port(lua_State *L);
static int request_respond(lua_State *L);
static int request_hang_up(lua_State *L);

static kl_http_request *take_pending(httpd_server *server)
{
    pending *entry = server->first;
    if (entry == NULL)
        return NULL;
    kl_http_request *request = entry->request;
    server->first = entry->next;
    if (server->first == NULL)
        server->last = &server->first;
    free(entry);
    return request;
}

static void server_close(void *self)
{
    httpd_server *server = self;
    if (server->io == NULL)
        return;
    kl_http_server_close(server->io);
    server->io = NULL;
    kl_http_request *request;
    while ((request = take_pending(server)) != NULL)
        kl_http_request_drop(request);
    for (accept_op *waiter = server->waiters; waiter != NULL; waiter = waiter->next) {
        waiter->server = NULL;
        kl_op_settle(&waiter->op);
    }
    server->waiters = NULL;
}

static const luaL_Reg httpd_server_methods[] = {
    {"accept", server_accept}, {"port", server_port}, {NULL, NULL}};
static const kl_own_class server_class = {"rt.httpd.server", httpd_server_methods, server_close};

static void request_close(void *self)
{
    httpd_request *request = self;
    kl_http_request *io = request->io;
    request->io = NULL;
    if (io != NULL)
        kl_http_request_drop(io);
}

static const luaL_Reg httpd_request_methods[] = {
    {"respond", request_respond}, {"hang_up", request_hang_up}, {NULL, NULL}};
static const kl_own_class request_class = {"rt.httpd.request", httpd_request_methods,
                                           request_close};

static void on_request(void *ctx, kl_http_request *request)
{
    httpd_server *server = ctx;
    accept_op *waiter = server->waiters;
    if (waiter != NULL) {
        server->waiters = waiter->next;
        waiter->server = NULL;
        waiter->request = request;
        kl_op_settle(&waiter->op);
        return;
    }
    pending *entry = calloc(1, sizeof *entry);
    if (entry == NULL) {
        kl_http_request_drop(request);
        return;
    }
    entry->request = request;
    *server->last = entry;
    server->last = &entry->next;
}

static void accept_release(kl_op *op)
{
    accept_op *self = (accept_op *)op;
    if (self->server != NULL) {
        accept_op **at = &self->server->waiters;
        while (*at != self)
            at = &(*at)->next;
        *at = self->next;
        self->server = NULL;
    }
    if (self->request != NULL)
        kl_http_request_drop(self->request);
    self->request = NULL;
}

// Fields of the request first, then its methods (upvalue 1).
static int request_index(lua_State *L)
{
    kl_own_check(L, 1, &request_class);
    lua_getiuservalue(L, 1, 1);
    lua_pushvalue(L, 2);
    if (lua_istable(L, -2) && lua_rawget(L, -2) != LUA_TNIL)
        return 1;
    lua_pushvalue(L, 2);
    lua_rawget(L, lua_upvalueindex(1));
    return 1;
}

// Makes the fields of the userdata on top reachable, once for the class. [-0, +0, e]
static void extend_class(lua_State *L)
{
    lua_getmetatable(L, -1);
    if (lua_getfield(L, -1, "__index") == LUA_TTABLE) {
        lua_pushcclosure(L, request_index, 1);
        lua_setfield(L, -2, "__index");
        lua_pop(L, 1);
    } else {
        lua_pop(L, 2);
    }
}

// Sets t[field] of the table on top to a map of the pairs; a repeated name has its values joined by
// ", ", or keeps the first. [-0, +0, e]
static void set_pairs(lua_State *L, const char *field, const kl_buf *pairs, bool join)
{
    lua_newtable(L);
    const char *at = kl_buf_text(pairs), *end = at + pairs->length;
    while (at < end) {
        const char *name = at, *value = name + strlen(name) + 1;
        at = value + strlen(value) + 1;
        if (lua_getfield(L, -1, name) == LUA_TNIL)
            lua_pushstring(L, value);
        else if (join)
            lua_pushfstring(L, "%s, %s", lua_tostring(L, -1), value);
        else
            lua_pushvalue(L, -1);
        lua_setfield(L, -3, name);
        lua_pop(L, 1);
    }
    lua_setfield(L, -2, field);
}

static int accept_push(lua_State *L, kl_op *op)
{
    accept_op *self = (accept_op *)op;
    if (self->request == NULL)
        return kl_fail_as(L, "stopped", "the HTTP server has closed");
    httpd_request *request = kl_own_new(L, sizeof *request, &request_class);
    request->io = self->request;
    self->request = NULL;
    extend_class(L);
    const kl_http_asked *asked = kl_http_request_asked(request->io);
    lua_createtable(L, 0, 5);
    lua_pushstring(L, asked->method);
    lua_setfield(L, -2, "method");
    lua_pushstring(L, asked->path);
    lua_setfield(L, -2, "path");
    set_pairs(L, "query", &asked->query, false);
    set_pairs(L, "headers", &asked->headers, true);
    lua_pushlstring(L, kl_buf_text(&asked->body), asked->body.length);
    lua_setfield(L, -2, "body");
    lua_setiuservalue(L, -2, 1);
    return 1;
}

static const kl_op_class accept_class = {"httpd.accept", accept_release, accept_push,
                                         accept_release};

static int server_accept(lua_State *L)
{
    httpd_server *server = kl_own_check(L, 1, &server_class);
    lua_settop(L, 1); // the server stays there while we wait
    accept_op *self = kl_op_new(L, sizeof *self, &accept_class);
    self->request = take_pending(server);
    if (self->request != NULL || server->io == NULL) {
        kl_op_settle(&self->op);
    } else {
        self->server = server;
        accept_op **at = &server->waiters;
        while (*at != NULL)
            at = &(*at)->next;
        *at = self;
    }
    return kl_op_wait(L, &self->op);
}

static int server_port(lua_State *L)
{
    const httpd_server *server = kl_own_check(L, 1, &server_class);
    luaL_argcheck(L, server->io != NULL, 1, "the server has closed");
    lua_pushinteger(L, kl_http_server_port(server->io));
    return 1;
}

// Headers that only the server itself can set right.
static bool is_framing(const char *name)
{
    return strcasecmp(name, "content-length") == 0 || strcasecmp(name, "transfer-encoding") == 0;
}

// Appends the options' headers to `out`. [-0, +1, e]
static void read_headers(kl_opts *opts, kl_buf *out)
{
    lua_State *L = opts->L;
    if (!kl_opts_table(opts, "headers"))
        return;
    for (lua_pushnil(L); lua_next(L, -2) != 0; lua_pop(L, 1)) {
        bool text = lua_type(L, -2) == LUA_TSTRING && lua_type(L, -1) == LUA_TSTRING;
        if (!text)
            luaL_error(L, "option 'headers' must map names to strings");
        size_t name_length, value_length;
        const char *name = lua_tolstring(L, -2, &name_length);
        const char *value = lua_tolstring(L, -1, &value_length);
        if (strcspn(name, "\r\n\t: ") != name_length || name_length == 0 || is_framing(name))
            luaL_error(L, "option 'headers': '%s' cannot be set", name);
        if (strcspn(value, "\r\n") != value_length)
            luaL_error(L, "the value of header '%s' has a line break or a zero byte", name);
        kl_buf_append(out, name, name_length + 1);
        kl_buf_append(out, value, value_length + 1);
    }
}

static int request_respond(lua_State *L)
{
    const httpd_request *request = kl_own_check(L, 1, &request_class);
    luaL_argcheck(L, request->io != NULL, 1, "the request was dropped");
    luaL_argcheck(L, !kl_http_request_answered(request->io), 1, "the request has its response");
    lua_settop(L, 2);
    kl_buf *headers = kl_scratch(L);
    kl_opts opts;
    kl_opts_begin(L, 2, &opts);
    lua_Integer status = kl_opts_integer(&opts, "status", 200);
    luaL_argcheck(L, status >= 200 && status <= 599, 2, "option 'status' must be from 200 to 599");
    size_t length;
    const char *body = kl_opts_bytes(&opts, "body", &length);
    read_headers(&opts, headers);
    kl_opts_end(&opts);
    bool possible = kl_http_request_answer(request->io, (unsigned)status, headers,
                                           body != NULL ? body : "", length);
    kl_buf_free(headers);
    lua_pushboolean(L, possible);
    return 1;
}

static int request_hang_up(lua_State *L)
{
    const httpd_request *request = kl_own_check(L, 1, &request_class);
    luaL_argcheck(L, request->io != NULL, 1, "the request was dropped");
    kl_http_request_hang_up(request->io);
    return 0;
}

static lua_Integer bounded(kl_opts *opts, const char *key, lua_Integer otherwise, lua_Integer least,
                           lua_Integer most)
{
    lua_Integer value = kl_opts_integer(opts, key, otherwise);
    if (value < least || value > most)
        luaL_error(opts->L, "option '%s' must be from %I to %I", key, least, most);
    return value;
}

static int httpd_listen(lua_State *L)
{
    kl_http_server_options options = {0};
    kl_failure failure = {0};
    kl_opts opts;
    lua_settop(L, 1);
    kl_opts_begin(L, 1, &opts);
    options.host = kl_opts_string(&opts, "host", "127.0.0.1");
    options.port = (int)bounded(&opts, "port", 0, 0, 65535);
    options.unix_socket = kl_opts_string(&opts, "unix_socket", NULL);
    options.max_headers = (size_t)bounded(&opts, "max_headers", 32768, 1024, 1024 * 1024);
    options.max_body = (size_t)bounded(&opts, "max_body", 16 << 20, 0, 1024 * 1024 * 1024);
    options.connections = (unsigned)bounded(&opts, "connections", 256, 1, 10000);
    options.idle_timeout = (unsigned)bounded(&opts, "idle_timeout", 30, 1, 3600);
    kl_opts_end(&opts);
    httpd_server *server = kl_own_new(L, sizeof *server, &server_class);
    server->last = &server->first;
    server->io = kl_http_server_open(kl_loop(L), &options, on_request, server, &failure);
    return server->io != NULL ? 1 : kl_fail(L, &failure);
}

static const luaL_Reg httpd_functions[] = {{"listen", httpd_listen}, {NULL, NULL}};

KL_PRIM(httpd)
{
    luaL_newlib(L, httpd_functions);
    return 1;
}
