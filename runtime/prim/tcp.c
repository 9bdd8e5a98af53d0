// rt.tcp: tells whether a TCP port answers, what a name stands for.
#include "prim/prims.h"

#include "bridge/fail.h"
#include "bridge/op.h"
#include "bridge/opts.h"
#include "io/dial.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <string.h>
#include <unistd.h>

typedef struct reach_op {
    kl_op op;
    uv_timer_t timer; // holds a reference until it has closed
    kl_dial *dial;    // NULL once it has ended
    uint64_t started;
    uint64_t ended;
    kl_failure failure;
} reach_op;

static void timer_closed(uv_handle_t *handle)
{
    kl_op_drop(handle->data);
}

static void reach_stop(kl_op *op)
{
    reach_op *self = (reach_op *)op;
    if (self->dial != NULL)
        kl_dial_cancel(self->dial);
    self->dial = NULL;
    if (!uv_is_closing((uv_handle_t *)&self->timer))
        uv_close((uv_handle_t *)&self->timer, timer_closed);
}

static void reached(void *ctx, int fd, const kl_failure *failure)
{
    reach_op *self = ctx;
    self->dial = NULL; // gone after this call
    self->ended = uv_hrtime();
    self->failure = failure != NULL ? *failure : (kl_failure){0};
    if (fd >= 0)
        close(fd);
    reach_stop(&self->op);
    kl_op_settle(&self->op);
}

static void expired(uv_timer_t *timer)
{
    reach_op *self = timer->data;
    reach_stop(&self->op);
    kl_op_settle(&self->op);
}

static int reach_push(lua_State *L, kl_op *op)
{
    const reach_op *self = (reach_op *)op;
    if (kl_failed(&self->failure))
        return kl_fail(L, &self->failure);
    lua_createtable(L, 0, 1);
    lua_pushnumber(L, (lua_Number)(self->ended - self->started) / 1e9);
    lua_setfield(L, -2, "seconds");
    return 1;
}

static const kl_op_class reach_class = {"tcp.reach", reach_stop, reach_push, NULL};

static int tcp_reach(lua_State *L)
{
    kl_opts opts;
    luaL_checktype(L, 1, LUA_TTABLE);
    kl_opts_begin(L, 1, &opts);
    const char *host = kl_opts_need_string(&opts, "host");
    lua_Integer port = kl_opts_integer(&opts, "port", 0);
    lua_Number timeout = kl_opts_number(&opts, "timeout", 10);
    kl_opts_end(&opts);
    luaL_argcheck(L, strlen(host) < 256, 1, "option 'host' is too long");
    luaL_argcheck(L, port > 0 && port < 65536, 1, "option 'port' must be from 1 to 65535");
    luaL_argcheck(L, timeout > 0 && timeout < 1e6, 1, "option 'timeout' is out of range");

    reach_op *self = kl_op_new(L, sizeof *self, &reach_class);
    kl_failure_set(&self->failure, "timeout", 0, "%s:%d: no answer in %g s", host, (int)port,
                   timeout);
    uv_loop_t *loop = kl_loop(L);
    self->started = uv_hrtime();
    uv_timer_init(loop, &self->timer);
    self->timer.data = kl_op_hold(&self->op);
    uv_update_time(loop);
    uv_timer_start(&self->timer, expired, (uint64_t)(timeout * 1e3 + 0.5), 0);
    self->dial = kl_dial_start(loop, host, (int)port, reached, self);
    return kl_op_wait(L, &self->op);
}

typedef struct look_up_op {
    kl_op op;
    uv_getaddrinfo_t request; // holds a reference until it has ended
    char name[256];
    kl_failure failure;
} look_up_op;

static void look_up_cancel(kl_op *op)
{
    uv_cancel((uv_req_t *)&((look_up_op *)op)->request);
}

static void look_up_free(kl_op *op)
{
    look_up_op *self = (look_up_op *)op;
    if (self->request.addrinfo != NULL)
        uv_freeaddrinfo(self->request.addrinfo);
    self->request.addrinfo = NULL;
}

static void looked_up(uv_getaddrinfo_t *request, int status, struct addrinfo *found)
{
    look_up_op *self = request->data;
    (void)found; // the request keeps it
    if (status != 0)
        kl_failure_set(&self->failure,
                       status == UV_EAI_NONAME || status == UV_EAI_NODATA ? "not_found"
                                                                          : "unreachable",
                       status, "%s: %s", self->name, uv_strerror(status));
    kl_op_settle(&self->op);
    kl_op_drop(&self->op);
}

static int look_up_push(lua_State *L, kl_op *op)
{
    const look_up_op *self = (look_up_op *)op;
    if (kl_failed(&self->failure))
        return kl_fail(L, &self->failure);
    const char *name = self->request.addrinfo->ai_canonname;
    lua_createtable(L, 0, 1);
    lua_pushstring(L, name != NULL ? name : self->name);
    lua_setfield(L, -2, "canonical");
    return 1;
}

static const kl_op_class look_up_class = {"tcp.look_up", look_up_cancel, look_up_push,
                                          look_up_free};

static int tcp_look_up(lua_State *L)
{
    size_t length;
    const char *name = luaL_checklstring(L, 1, &length);
    luaL_argcheck(L, length < sizeof((look_up_op *)0)->name, 1, "the name is too long");
    look_up_op *self = kl_op_new(L, sizeof *self, &look_up_class);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_CANONNAME};
    memcpy(self->name, name, length + 1);
    self->request.data = kl_op_hold(&self->op);
    int rc = uv_getaddrinfo(kl_loop(L), &self->request, looked_up, self->name, NULL, &hints);
    if (rc != 0)
        looked_up(&self->request, rc, NULL);
    return kl_op_wait(L, &self->op);
}

static int tcp_address(lua_State *L)
{
    const char *text = luaL_checkstring(L, 1);
    unsigned char address[sizeof(struct in6_addr)];
    char shown[INET6_ADDRSTRLEN];
    int family = strchr(text, ':') != NULL ? AF_INET6 : AF_INET;
    if (inet_pton(family, text, address) != 1)
        return 0;
    lua_pushstring(L, inet_ntop(family, address, shown, sizeof shown));
    return 1;
}

static const luaL_Reg tcp_functions[] = {
    {"reach", tcp_reach}, {"look_up", tcp_look_up}, {"address", tcp_address}, {NULL, NULL}};

KL_PRIM(tcp)
{
    luaL_newlib(L, tcp_functions);
    return 1;
}
