// rt.http's exchanges: requests whose bodies go up and come down in pieces.
#include "prim/http.h"

#include "bridge/op.h"
#include "bridge/scratch.h"
#include "bridge/secret.h"

#include <string.h>

typedef struct wait_op wait_op;

typedef struct http_exchange {
    kl_curl_transfer *transfer; // owned; NULL once closed
    kl_failure failure;         // how it ended, once it has
    bool maybe_sent;
    bool ended;
    bool streams_up;
    bool finished;
    wait_op *reader; // who waits for the head or for bytes
    wait_op *writer; // who waits for room
} http_exchange;

struct wait_op {
    kl_op op;
    http_exchange *exchange; // NULL once it has closed
    wait_op **place;         // in the exchange
    bool (*ready)(const http_exchange *exchange);
};

static bool head_ready(const http_exchange *self)
{
    return self->ended || kl_curl_response_of(self->transfer)->head;
}

static bool bytes_ready(const http_exchange *self)
{
    return self->ended || kl_curl_response_of(self->transfer)->body.length > 0;
}

static bool room_ready(const http_exchange *self)
{
    return self->ended || kl_curl_has_room(self->transfer);
}

static void leave(wait_op *wait)
{
    if (wait->exchange != NULL && *wait->place == wait)
        *wait->place = NULL;
}

// Wakes who has what it waits for. Called by curl's callbacks: no Lua, no curl.
static void wake(wait_op *wait)
{
    if (wait == NULL || !wait->ready(wait->exchange))
        return;
    leave(wait);
    kl_op_settle(&wait->op);
}

static void exchange_moved(void *ctx)
{
    const http_exchange *self = ctx;
    if (self->transfer == NULL) // still being started
        return;
    wake(self->reader);
    wake(self->writer);
}

static void exchange_done(void *ctx, const kl_curl_response *response, const kl_failure *failure)
{
    http_exchange *self = ctx;
    self->ended = true;
    self->maybe_sent = response->maybe_sent;
    if (failure != NULL)
        self->failure = *failure;
    wake(self->reader);
    wake(self->writer);
}

static void abandon(wait_op *wait)
{
    if (wait == NULL)
        return;
    wait->exchange = NULL;
    kl_op_settle(&wait->op);
}

void kl_http_exchange_close(void *ctx)
{
    http_exchange *self = ctx;
    kl_curl_transfer *transfer = self->transfer;
    self->transfer = NULL;
    abandon(self->reader);
    abandon(self->writer);
    self->reader = self->writer = NULL;
    kl_curl_drop(transfer);
}

int kl_http_open(lua_State *L)
{
    kl_curl_request request = {.moved = exchange_moved};
    kl_failure failure = {0};
    kl_http_stream_options(L, &request);
    kl_curl *curl = kl_http_pool(L);
    http_exchange *self = kl_own_new(L, sizeof *self, &kl_http_exchange_class);
    self->streams_up = request.streams_up;
    self->transfer = kl_curl_start(curl, &request, exchange_done, self, &failure);
    return self->transfer != NULL ? 1 : kl_http_fail(L, &failure, false);
}

static http_exchange *check_open(lua_State *L)
{
    http_exchange *self = kl_own_check(L, 1, &kl_http_exchange_class);
    luaL_argcheck(L, self->transfer != NULL, 1, "the exchange was closed");
    return self;
}

static void wait_cancel(kl_op *op)
{
    leave((wait_op *)op);
}

// Makes a wait; one reader and one writer at a time. The exchange is at stack index 1. [-0, +1, e]
static wait_op *wait_new(lua_State *L, http_exchange *self, wait_op **place,
                         const kl_op_class *class, bool (*ready)(const http_exchange *))
{
    luaL_argcheck(L, *place == NULL, 1, "another task waits for the same");
    wait_op *wait = kl_op_new(L, sizeof *wait, class);
    wait->exchange = self;
    wait->place = place;
    wait->ready = ready;
    return wait;
}

static int wait_for(lua_State *L, wait_op *wait)
{
    if (wait->ready(wait->exchange))
        kl_op_settle(&wait->op);
    else
        *wait->place = wait;
    return kl_op_wait(L, &wait->op);
}

// The exchange of a wait that has ended, or NULL with nil and an error pushed.
static http_exchange *waited(lua_State *L, kl_op *op)
{
    http_exchange *self = ((wait_op *)op)->exchange;
    if (self != NULL && self->transfer != NULL)
        return self;
    kl_failure failure = {0};
    kl_failure_set(&failure, "stopped", 0, "the exchange was closed");
    kl_http_fail(L, &failure, true);
    return NULL;
}

static int head_push(lua_State *L, kl_op *op)
{
    const http_exchange *self = waited(L, op);
    if (self == NULL)
        return 2;
    const kl_curl_response *response = kl_curl_response_of(self->transfer);
    if (!response->head)
        return kl_http_fail(L, &self->failure, self->maybe_sent);
    kl_http_push_head(L, response);
    return 1;
}

static int read_push(lua_State *L, kl_op *op)
{
    const http_exchange *self = waited(L, op);
    if (self == NULL)
        return 2;
    if (kl_curl_response_of(self->transfer)->body.length > 0) {
        kl_buf *bytes = kl_scratch(L);
        kl_curl_read(self->transfer, bytes);
        kl_scratch_push(L, bytes);
        return 1;
    }
    if (kl_failed(&self->failure))
        return kl_http_fail(L, &self->failure, self->maybe_sent);
    lua_pushnil(L);
    return 1;
}

static int write_push(lua_State *L, kl_op *op)
{
    const http_exchange *self = waited(L, op);
    if (self == NULL)
        return 2;
    if (kl_failed(&self->failure))
        return kl_http_fail(L, &self->failure, self->maybe_sent);
    lua_pushboolean(L, !self->ended);
    return 1;
}

static const kl_op_class head_class = {"http.exchange.head", wait_cancel, head_push, wait_cancel};
static const kl_op_class read_class = {"http.exchange.read", wait_cancel, read_push, wait_cancel};
static const kl_op_class write_class = {"http.exchange.write", wait_cancel, write_push,
                                        wait_cancel};

int kl_http_exchange_head(lua_State *L)
{
    http_exchange *self = check_open(L);
    lua_settop(L, 1);
    return wait_for(L, wait_new(L, self, &self->reader, &head_class, head_ready));
}

int kl_http_exchange_read(lua_State *L)
{
    http_exchange *self = check_open(L);
    lua_settop(L, 1);
    return wait_for(L, wait_new(L, self, &self->reader, &read_class, bytes_ready));
}

int kl_http_exchange_write(lua_State *L)
{
    size_t length;
    http_exchange *self = check_open(L);
    const char *bytes = kl_secret_or_string(L, 2, &length);
    luaL_argcheck(L, self->streams_up, 1, "this request's body is no stream");
    luaL_argcheck(L, !self->finished, 1, "the body was finished");
    lua_settop(L, 2);
    wait_op *wait = wait_new(L, self, &self->writer, &write_class, room_ready);
    if (!self->ended)
        kl_curl_write(self->transfer, bytes, length);
    return wait_for(L, wait);
}

int kl_http_exchange_finish(lua_State *L)
{
    http_exchange *self = check_open(L);
    luaL_argcheck(L, self->streams_up, 1, "this request's body is no stream");
    self->finished = true;
    kl_curl_finish(self->transfer);
    return 0;
}
