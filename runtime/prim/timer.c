// rt.timer: waits without blocking the loop, and the two clocks, real or virtual.
#include "prim/timer.h"

#include "bridge/op.h"
#include "bridge/virtual.h"
#include "prim/prims.h"

#include <time.h>

typedef struct sleep_op {
    kl_op op; // first: a kl_op * is a sleep_op *
    bool virtual;
    uv_timer_t timer;   // in real time
    kl_sleeper sleeper; // in virtual time
} sleep_op;

// What time() tells is this much more than the seconds of virtual time, or of the monotonic clock.
static double virtual_epoch, virtual_origin;

static void sleep_closed(uv_handle_t *handle)
{
    kl_op_drop(handle->data);
}

static void sleep_stop(kl_op *op)
{
    sleep_op *self = (sleep_op *)op;
    if (self->virtual)
        kl_virtual_cancel(&self->sleeper);
    else
        uv_close((uv_handle_t *)&self->timer, sleep_closed);
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
    double elapsed;
    self->virtual = kl_virtual_elapsed(&elapsed, L);
    if (self->virtual) {
        kl_virtual_sleep(&self->sleeper, &self->op, seconds);
        return kl_op_wait(L, &self->op);
    }
    uv_timer_init(kl_loop(L), &self->timer);
    self->timer.data = kl_op_hold(&self->op);
    uv_update_time(kl_loop(L));
    uv_timer_start(&self->timer, sleep_fired, (uint64_t)(seconds * 1e3 + 0.5), 0);
    return kl_op_wait(L, &self->op);
}

static double real_now(void)
{
    return (double)uv_hrtime() / 1e9;
}

static double real_time(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static int timer_now(lua_State *L)
{
    double elapsed;
    bool virtual = kl_virtual_elapsed(&elapsed, L);
    lua_pushnumber(L, virtual ? virtual_origin + elapsed : real_now());
    return 1;
}

static int timer_time(lua_State *L)
{
    double elapsed;
    bool virtual = kl_virtual_elapsed(&elapsed, L);
    lua_pushnumber(L, virtual ? virtual_epoch + elapsed : real_time());
    return 1;
}

static int timer_virtual(lua_State *L)
{
    lua_Number start = luaL_optnumber(L, 1, real_time());
    luaL_argcheck(L, start >= 0 && start < 1e11, 1, "the time of day must be from 0 to 1e11");
    if (!kl_virtual_begin(L))
        return luaL_error(L, "time is virtual already");
    virtual_epoch = start;
    virtual_origin = real_now();
    return 0;
}

static int timer_real(lua_State *L)
{
    kl_virtual_end(L);
    return 0;
}

static const luaL_Reg timer_functions[] = {{"sleep", timer_sleep},
                                           {"now", timer_now},
                                           {"time", timer_time},
                                           {"virtual", timer_virtual},
                                           {"real", timer_real},
                                           {"meter", kl_timer_meter},
                                           {NULL, NULL}};

KL_PRIM(timer)
{
    luaL_newlib(L, timer_functions);
    return 1;
}
