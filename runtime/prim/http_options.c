// rt.http's options.
#include "prim/http.h"

#include "bridge/opts.h"
#include "bridge/secret.h"

#include <lauxlib.h>
#include <string.h>

static bool is_token(const char *text)
{
    static const char token[] = "!#$%&'*+-.^_`|~0123456789" // RFC 9110, 5.6.2
                                "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    return text[0] != '\0' && strspn(text, token) == strlen(text);
}

// Checks the header whose name and value are on top of the stack. [-0, +0, e]
static kl_curl_header check_header(lua_State *L)
{
    size_t length;
    if (lua_type(L, -2) != LUA_TSTRING || !is_token(lua_tostring(L, -2)))
        luaL_error(L, "option 'headers' has a name that is none of a header");
    const char *name = lua_tostring(L, -2);
    const char *value = kl_secret_bytes(L, -1, &length);
    if (value == NULL && lua_type(L, -1) == LUA_TSTRING)
        value = lua_tolstring(L, -1, &length);
    if (value == NULL)
        luaL_error(L, "header '%s' must be a string or a secret, not a %s", name,
                   luaL_typename(L, -1));
    if (strlen(value) != length || strpbrk(value, "\r\n") != NULL)
        luaL_error(L, "the value of header '%s' has a line break or a zero byte", name);
    return (kl_curl_header){name, value};
}

// Leaves the table and the list that `out` points to. [-0, +n, e]
static void read_headers(kl_opts *opts, kl_curl_request *out)
{
    lua_State *L = opts->L;
    if (!kl_opts_table(opts, "headers"))
        return;
    int table = lua_gettop(L);
    size_t count = 0;
    for (lua_pushnil(L); lua_next(L, table) != 0; lua_pop(L, 1))
        count++;
    kl_curl_header *list = lua_newuserdatauv(L, (count + 1) * sizeof *list, 0);
    out->headers = list;
    for (lua_pushnil(L); lua_next(L, table) != 0; lua_pop(L, 1))
        list[out->header_count++] = check_header(L);
}

// A part of a body: text, a secret, or { file = path }; on top of the stack. [-0, +0, e]
static kl_curl_piece check_piece(lua_State *L)
{
    kl_curl_piece piece = {0};
    if (lua_istable(L, -1)) {
        if (lua_getfield(L, -1, "file") != LUA_TSTRING)
            luaL_error(L, "option 'body': a part is text, a secret or { file = path }");
        piece.file = lua_tostring(L, -1); // the table keeps it
        lua_pop(L, 1);
        return piece;
    }
    piece.bytes = kl_secret_bytes(L, -1, &piece.length);
    if (piece.bytes == NULL && lua_type(L, -1) == LUA_TSTRING)
        piece.bytes = lua_tolstring(L, -1, &piece.length);
    if (piece.bytes == NULL)
        luaL_error(L, "option 'body' must be text, a secret or a list of parts, not a %s",
                   luaL_typename(L, -1));
    return piece;
}

// Leaves the body and the list that `out` points to. [-0, +n, e]
static void read_body(kl_opts *opts, kl_curl_request *out)
{
    lua_State *L = opts->L;
    int type = kl_opts_value(opts, "body");
    if (type == LUA_TNIL)
        return;
    luaL_argcheck(L, strcmp(out->method, "HEAD") != 0, 1, "option 'body': HEAD has none");
    int body = lua_gettop(L);
    lua_Integer count = type == LUA_TTABLE ? luaL_len(L, body) : 1;
    luaL_argcheck(L, count >= 1, 1, "option 'body' is a list without parts");
    kl_curl_piece *list = lua_newuserdatauv(L, (size_t)count * sizeof *list, 0);
    for (lua_Integer i = 1; i <= count; i++) {
        if (type == LUA_TTABLE)
            lua_geti(L, body, i);
        else
            lua_pushvalue(L, body);
        list[i - 1] = check_piece(L);
        lua_pop(L, 1);
    }
    out->pieces = list;
    out->piece_count = (size_t)count;
}

static double seconds(kl_opts *opts, const char *key, double otherwise, double least)
{
    double value = kl_opts_number(opts, key, otherwise);
    if (!(value >= least && value < 1e6))
        luaL_error(opts->L, "option '%s' is out of range", key);
    return value;
}

static void read_limits(kl_opts *opts, kl_curl_request *out)
{
    bool streams = out->streams_down;
    out->connect_timeout = seconds(opts, "connect_timeout", 10, 0.001);
    out->timeout = seconds(opts, "timeout", streams ? 24 * 3600 : 60, 0.001);
    out->stall_timeout = seconds(opts, "stall_timeout", streams ? 60 : 0, 0);
    const lua_Integer gigabyte = 1024 * 1024 * 1024,
                      most = streams ? 1024 * 1024 * gigabyte : gigabyte;
    lua_Integer max_body = kl_opts_integer(opts, "max_body", streams ? most : 64 * 1024 * 1024);
    if (max_body < 0 || max_body > most)
        luaL_error(opts->L, "option 'max_body' must be from 0 to %s", streams ? "1 PiB" : "1 GiB");
    out->max_body = (size_t)max_body;
}

// A secret or text without a zero byte, or NULL.
static const char *read_text(kl_opts *opts, const char *key)
{
    size_t length;
    const char *text = kl_opts_bytes(opts, key, &length);
    if (text != NULL && strlen(text) != length)
        luaL_error(opts->L, "option '%s' has a zero byte", key);
    return text;
}

static void one_of(lua_State *L, bool both, const char *name)
{
    if (both)
        luaL_error(L, "option '%s' or '%s_file', not both", name, name);
}

static void read_tls(kl_opts *opts, kl_curl_tls *out)
{
    lua_State *L = opts->L;
    out->ca_file = kl_opts_string(opts, "ca_file", NULL);
    out->ca = kl_opts_bytes(opts, "ca", &out->ca_length);
    out->cert_file = kl_opts_string(opts, "cert_file", NULL);
    out->cert = kl_opts_bytes(opts, "cert", &out->cert_length);
    out->key_file = kl_opts_string(opts, "key_file", NULL);
    out->key = kl_opts_bytes(opts, "key", &out->key_length);
    out->key_password = read_text(opts, "key_password");
    one_of(L, out->ca != NULL && out->ca_file != NULL, "ca");
    one_of(L, out->cert != NULL && out->cert_file != NULL, "cert");
    one_of(L, out->key != NULL && out->key_file != NULL, "key");
    bool cert = out->cert != NULL || out->cert_file != NULL;
    bool key = out->key != NULL || out->key_file != NULL;
    luaL_argcheck(L, cert == key, 1, "a client's certificate and its key come together");
}

static void read_connection(kl_opts *opts, kl_curl_request *out)
{
    lua_State *L = opts->L;
    out->unix_socket = kl_opts_string(opts, "unix_socket", NULL);
    out->proxy = read_text(opts, "proxy");
    out->no_proxy = kl_opts_string(opts, "no_proxy", NULL);
    out->direct = kl_opts_boolean(opts, "direct", false);
    out->fresh_connection = kl_opts_boolean(opts, "fresh_connection", false);
    out->compressed = kl_opts_boolean(opts, "compressed", false);
    out->http2 = kl_opts_boolean(opts, "http2", false);
    luaL_argcheck(L, out->proxy == NULL || !out->direct, 1, "option 'proxy' or 'direct', not both");
    luaL_argcheck(L, out->no_proxy == NULL || out->proxy != NULL, 1,
                  "option 'no_proxy' goes with 'proxy'");
    read_tls(opts, &out->tls);
}

static bool is_idempotent(const char *method)
{
    static const char *const list[] = {"GET", "HEAD", "PUT", "DELETE",
                                       "OPTIONS"}; // RFC 9110, 9.2.2
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        if (strcmp(method, list[i]) == 0)
            return true;
    }
    return false;
}

static void read_method(kl_opts *opts, kl_curl_request *out)
{
    out->method = kl_opts_string(opts, "method", "GET");
    bool upper = out->method[0] != '\0' &&
                 strspn(out->method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == strlen(out->method);
    luaL_argcheck(opts->L, upper && strcmp(out->method, "CONNECT") != 0, 1,
                  "option 'method' must be a method in upper case, and not CONNECT");
    out->idempotent = kl_opts_boolean(opts, "idempotent", is_idempotent(out->method));
}

static void read_common(kl_opts *opts, kl_curl_request *out)
{
    out->url = kl_opts_need_string(opts, "url");
    read_method(opts, out);
    read_limits(opts, out);
    read_connection(opts, out);
    read_body(opts, out);
    read_headers(opts, out);
}

void kl_http_options(lua_State *L, kl_curl_request *out)
{
    kl_opts opts;
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_checkstack(L, 20, "too many values");
    kl_opts_begin(L, 1, &opts);
    read_common(&opts, out);
    kl_opts_end(&opts);
}

void kl_http_stream_options(lua_State *L, kl_curl_request *out)
{
    kl_opts opts;
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_checkstack(L, 20, "too many values");
    kl_opts_begin(L, 1, &opts);
    out->streams_down = true;
    out->streams_up = kl_opts_boolean(&opts, "streams", false);
    out->up_length = kl_opts_integer(&opts, "length", -1);
    luaL_argcheck(L, out->up_length >= -1, 1, "option 'length' must not be negative");
    read_common(&opts, out);
    kl_opts_end(&opts);
    luaL_argcheck(L, !out->streams_up || out->piece_count == 0, 1,
                  "option 'body' or 'streams', not both");
    luaL_argcheck(L, !out->streams_up || strcmp(out->method, "HEAD") != 0, 1,
                  "option 'streams': HEAD has no body");
}
