// rt.timer: waits without blocking the loop, and the two clocks.
#include "prim/prims.h"

#include "bridge/op.h"

#include <time.h>

typedef struct sleep_op {
    kl_op op; // first: a kl_op * is a sleep_op *
    uv_timer_t timer;
} sleep_op;

static void sleep_closed(uv_handle_t *handle)
{
    kl_op_drop(handle->data);
}

static void sleep_stop(kl_op *op)
{
    uv_close((uv_handle_t *)&((sleep_op *)op)->timer, sleep_closed);
}

static void sleep_fired(uv_timer_t *timer)
{
    sleep_stop(timer->data);
    kl_op_settle(timer->data);
}

static int sleep_push(lua_State *L, kl_op *op)
{
    (void)L;
    (void)op;
    return 0;
}

static const kl_op_class sleep_class = {"timer.sleep", sleep_stop, sleep_push, NULL};

static int timer_sleep(lua_State *L)
{
    lua_Number seconds = luaL_checknumber(L, 1);
    luaL_argcheck(L, seconds >= 0 && seconds < 1e9, 1, "seconds must be between 0 and 1e9");

    sleep_op *self = kl_op_new(L, sizeof *self, &sleep_class);
    uv_timer_init(kl_loop(L), &self->timer);
    self->timer.data = kl_op_hold(&self->op);
    uv_update_time(kl_loop(L));
    uv_timer_start(&self->timer, sleep_fired, (uint64_t)(seconds * 1e3 + 0.5), 0);
    return kl_op_wait(L, &self->op);
}

static int timer_now(lua_State *L)
{
    lua_pushnumber(L, (lua_Number)uv_hrtime() / 1e9);
    return 1;
}

static int timer_time(lua_State *L)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    lua_pushnumber(L, (lua_Number)now.tv_sec + (lua_Number)now.tv_nsec / 1e9);
    return 1;
}

static const luaL_Reg timer_functions[] = {
    {"sleep", timer_sleep}, {"now", timer_now}, {"time", timer_time}, {NULL, NULL}};

KL_PRIM(timer)
{
    luaL_newlib(L, timer_functions);
    return 1;
}
