// Measures how long the loop is held: the CPU time of its turns.
#include "prim/timer.h"

#include "bridge/op.h"
#include "bridge/own.h"

#include <stdlib.h>
#include <time.h>

// Outlives its Lua value until its handle is closed.
typedef struct meter {
    uv_prepare_t prepare; // runs once a turn
    double started;       // CPU seconds at the last turn
    double longest;
    unsigned long turns;
} meter;

typedef struct timer_meter {
    meter *io; // NULL once closed
} timer_meter;

// Of this thread alone, so that a machine that is busy with other things does not count.
static double cpu_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void turned(uv_prepare_t *prepare)
{
    meter *self = prepare->data;
    double now = cpu_seconds();
    if (now - self->started > self->longest && self->turns > 0)
        self->longest = now - self->started;
    self->started = now;
    self->turns++;
}

static void prepare_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static void meter_close(void *self)
{
    timer_meter *value = self;
    if (value->io != NULL)
        uv_close((uv_handle_t *)&value->io->prepare, prepare_closed);
    value->io = NULL;
}

static int meter_longest(lua_State *L);

static const luaL_Reg timer_meter_methods[] = {{"longest", meter_longest}, {NULL, NULL}};

static const kl_own_class meter_class = {"rt.timer.meter", timer_meter_methods, meter_close};

static int meter_longest(lua_State *L)
{
    const timer_meter *value = kl_own_check(L, 1, &meter_class);
    luaL_argcheck(L, value->io != NULL, 1, "the meter was closed");
    lua_pushnumber(L, value->io->longest);
    lua_pushinteger(L, (lua_Integer)value->io->turns);
    return 2;
}

int kl_timer_meter(lua_State *L)
{
    timer_meter *value = kl_own_new(L, sizeof *value, &meter_class);
    meter *self = calloc(1, sizeof *self);
    if (self == NULL)
        return luaL_error(L, "out of memory");
    uv_prepare_init(kl_loop(L), &self->prepare);
    uv_unref((uv_handle_t *)&self->prepare);
    self->prepare.data = self;
    uv_prepare_start(&self->prepare, turned);
    value->io = self;
    return 1;
}
