// rt.http: one HTTP request and its answer.
#include "prim/http.h"

#include "bridge/fail.h"
#include "bridge/op.h"
#include "bridge/scratch.h"
#include "prim/prims.h"

#include <curl/curl.h>
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

// lua_close closes it.
kl_curl *kl_http_pool(lua_State *L)
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

void kl_http_push_head(lua_State *L, const kl_curl_response *response)
{
    lua_createtable(L, 0, 6);
    lua_pushinteger(L, response->resent);
    lua_setfield(L, -2, "resent");
    lua_pushinteger(L, response->status);
    lua_setfield(L, -2, "status");
    push_headers(L, &response->headers);
    lua_setfield(L, -2, "headers");
}

int kl_http_fail(lua_State *L, const kl_failure *failure, bool maybe_sent)
{
    kl_fail(L, failure);
    lua_pushstring(L, maybe_sent ? "maybe" : "none");
    lua_setfield(L, -2, "effect");
    return 2;
}

static int request_push(lua_State *L, kl_op *op)
{
    request_op *self = (request_op *)op;
    if (kl_failed(&self->failure))
        return kl_http_fail(L, &self->failure, self->maybe_sent);
    const kl_curl_response *response = self->response;
    kl_http_push_head(L, response);
    lua_pushlstring(L, kl_buf_text(&response->body), response->body.length);
    lua_setfield(L, -2, "body");
    lua_pushnumber(L, response->seconds);
    lua_setfield(L, -2, "seconds");
    lua_pushnumber(L, response->http / 10.0);
    lua_setfield(L, -2, "http");
    return 1;
}

static const kl_op_class request_class = {"http.request", request_release, request_push,
                                          request_release};

static int http_request(lua_State *L)
{
    kl_curl_request request = {0};
    kl_http_options(L, &request);
    kl_curl *curl = kl_http_pool(L);
    request_op *self = kl_op_new(L, sizeof *self, &request_class);
    self->transfer = kl_curl_start(curl, &request, request_done, self, &self->failure);
    if (self->transfer == NULL)
        kl_op_settle(&self->op);
    return kl_op_wait(L, &self->op);
}

static int http_forget(lua_State *L)
{
    kl_curl_forget(kl_http_pool(L));
    return 0;
}

static int http_bound(lua_State *L)
{
    lua_Integer connections = luaL_checkinteger(L, 1), per_host = luaL_checkinteger(L, 2);
    luaL_argcheck(L, connections >= 1 && connections <= 10000, 1, "must be from 1 to 10000");
    luaL_argcheck(L, per_host >= 1 && per_host <= connections, 2,
                  "must be from 1 to the number of all connections");
    kl_curl_bound(kl_http_pool(L), (long)connections, (long)per_host);
    return 0;
}

static const struct {
    CURLUPart part;
    const char *name;
} url_parts[] = {{CURLUPART_URL, "url"},          {CURLUPART_SCHEME, "scheme"},
                 {CURLUPART_USER, "user"},        {CURLUPART_PASSWORD, "password"},
                 {CURLUPART_HOST, "host"},        {CURLUPART_PORT, "port"},
                 {CURLUPART_PATH, "path"},        {CURLUPART_QUERY, "query"},
                 {CURLUPART_FRAGMENT, "fragment"}};

// Sets the parts of the URL in the table on top. A part's text is freed before a push can raise.
static void set_url_parts(lua_State *L, CURLU *url)
{
    for (size_t i = 0; i < sizeof url_parts / sizeof *url_parts; i++) {
        char *text = NULL;
        unsigned flags = url_parts[i].part == CURLUPART_PORT ? CURLU_DEFAULT_PORT : 0;
        if (curl_url_get(url, url_parts[i].part, &text, flags) != CURLUE_OK)
            continue;
        kl_buf *copy = kl_scratch(L);
        kl_buf_puts(copy, text);
        curl_free(text);
        kl_scratch_push(L, copy);
        lua_setfield(L, -3, url_parts[i].name);
        lua_pop(L, 1);
    }
}

static void url_handle_close(void *self)
{
    CURLU **url = self;
    curl_url_cleanup(*url);
    *url = NULL;
}

static const kl_own_class url_class = {"rt.http.url", pool_methods, url_handle_close};

static int http_url(lua_State *L)
{
    const char *text = luaL_checkstring(L, 1), *relative = luaL_optstring(L, 2, NULL);
    lua_settop(L, 2);
    kl_http_pool(L); // libcurl is loaded with it
    CURLU **url = kl_own_new(L, sizeof *url, &url_class);
    *url = curl_url();
    CURLUcode code = curl_url_set(*url, CURLUPART_URL, text, CURLU_NON_SUPPORT_SCHEME);
    if (code == CURLUE_OK && relative != NULL)
        code = curl_url_set(*url, CURLUPART_URL, relative, CURLU_NON_SUPPORT_SCHEME);
    if (code != CURLUE_OK) {
        url_handle_close(url);
        return kl_fail_as(L, "invalid", "the URL cannot be read: %s", curl_url_strerror(code));
    }
    lua_newtable(L);
    set_url_parts(L, *url);
    url_handle_close(url);
    return 1;
}

static int http_date(lua_State *L)
{
    const char *text = luaL_checkstring(L, 1);
    kl_http_pool(L); // libcurl is loaded with it
    time_t seconds = curl_getdate(text, NULL);
    if (seconds < 0)
        return kl_fail_as(L, "invalid", "no date: %s", text);
    lua_pushinteger(L, (lua_Integer)seconds);
    return 1;
}

static const luaL_Reg http_functions[] = {{"request", http_request},
                                          {"open", kl_http_open},
                                          {"forget", http_forget},
                                          {"bound", http_bound},
                                          {"url", http_url},
                                          {"date", http_date},
                                          {NULL, NULL}};

static const luaL_Reg http_exchange_methods[] = {{"head", kl_http_exchange_head},
                                                 {"read", kl_http_exchange_read},
                                                 {"write", kl_http_exchange_write},
                                                 {"finish", kl_http_exchange_finish},
                                                 {NULL, NULL}};
const kl_own_class kl_http_exchange_class = {"rt.http.exchange", http_exchange_methods,
                                             kl_http_exchange_close};

KL_PRIM(http)
{
    luaL_newlib(L, http_functions);
    return 1;
}
