// rt.httpd: an HTTP server whose requests are accepted and answered by tasks.
#include "prim/httpd.h"

#include "bridge/fail.h"
#include "bridge/op.h"
#include "bridge/opts.h"
#include "prim/prims.h"

#include <stdlib.h>
#include <string.h>

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

static int server_accept(lua_State *L);
static int server_port(lua_State *L);

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

static const luaL_Reg httpd_request_methods[] = {{"respond", kl_httpd_respond},
                                                 {"start", kl_httpd_start},
                                                 {"write", kl_httpd_write},
                                                 {"finish", kl_httpd_finish},
                                                 {"hang_up", kl_httpd_hang_up},
                                                 {"is_open", kl_httpd_is_open},
                                                 {NULL, NULL}};
const kl_own_class kl_httpd_request_class = {"rt.httpd.request", httpd_request_methods,
                                             kl_httpd_request_close};

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
    kl_own_check(L, 1, &kl_httpd_request_class);
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

static void set_text(lua_State *L, const char *field, const char *text)
{
    lua_pushstring(L, text);
    lua_setfield(L, -2, field);
}

static int accept_push(lua_State *L, kl_op *op)
{
    accept_op *self = (accept_op *)op;
    if (self->request == NULL)
        return kl_fail_as(L, "stopped", "the HTTP server has closed");
    kl_httpd_request *request = kl_own_new(L, sizeof *request, &kl_httpd_request_class);
    request->io = self->request;
    self->request = NULL;
    extend_class(L);
    const kl_http_asked *asked = kl_http_request_asked(request->io);
    lua_createtable(L, 0, 7);
    set_text(L, "method", asked->method);
    set_text(L, "target", asked->target);
    set_text(L, "path", asked->path);
    set_text(L, "peer", asked->peer);
    set_pairs(L, "query", &asked->query, false);
    set_pairs(L, "headers", &asked->headers, true);
    lua_pushlstring(L, kl_buf_text(&asked->body), asked->body.length);
    lua_setfield(L, -2, "body");
    kl_http_request_forget_body(request->io);
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
    kl_op_idle(&self->op);
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

static lua_Integer bounded(kl_opts *opts, const char *key, lua_Integer otherwise, lua_Integer least,
                           lua_Integer most)
{
    lua_Integer value = kl_opts_integer(opts, key, otherwise);
    if (value < least || value > most)
        luaL_error(opts->L, "option '%s' must be from %I to %I", key, least, most);
    return value;
}

// A text of the options without a zero byte, or NULL.
static const char *pem(kl_opts *opts, const char *key)
{
    size_t length;
    const char *text = kl_opts_bytes(opts, key, &length);
    if (text != NULL && strlen(text) != length)
        luaL_error(opts->L, "option '%s' has a zero byte", key);
    return text;
}

static void read_options(kl_opts *opts, kl_http_server_options *out)
{
    const lua_Integer gigabyte = 1024 * 1024 * 1024;
    out->host = kl_opts_string(opts, "host", "127.0.0.1");
    out->port = (int)bounded(opts, "port", 0, 0, 65535);
    out->unix_socket = kl_opts_string(opts, "unix_socket", NULL);
    out->max_headers = (size_t)bounded(opts, "max_headers", 32768, 1024, 1024 * 1024);
    out->max_body = (size_t)bounded(opts, "max_body", 16 << 20, 0, gigabyte);
    out->max_buffered = (size_t)bounded(opts, "max_buffered", 256 << 20, 0, 64 * gigabyte);
    out->connections = (unsigned)bounded(opts, "connections", 256, 1, 10000);
    out->idle_timeout = (unsigned)bounded(opts, "idle_timeout", 30, 1, 3600);
    out->request_timeout = (unsigned)bounded(opts, "request_timeout", 60, 1, 86400);
    out->answer_timeout = (unsigned)bounded(opts, "answer_timeout", 60, 1, 86400);
    out->cert = pem(opts, "cert");
    out->key = pem(opts, "key");
    luaL_argcheck(opts->L, (out->cert == NULL) == (out->key == NULL), 1,
                  "options 'cert' and 'key' come together");
}

static int httpd_listen(lua_State *L)
{
    kl_http_server_options options = {0};
    kl_failure failure = {0};
    kl_opts opts;
    lua_settop(L, 1);
    kl_opts_begin(L, 1, &opts);
    read_options(&opts, &options);
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
