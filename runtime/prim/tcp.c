// rt.tcp: tells whether a TCP port answers.
#include "prim/prims.h"

#include "bridge/fail.h"
#include "bridge/op.h"
#include "bridge/opts.h"
#include "io/dial.h"

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

static const luaL_Reg tcp_functions[] = {{"reach", tcp_reach}, {NULL, NULL}};

KL_PRIM(tcp)
{
    luaL_newlib(L, tcp_functions);
    return 1;
}
