// rt.proc's interrupts: Ctrl-C and its like, told once, obeyed at once the second time.
#include "prim/proc.h"

#include "bridge/op.h"
#include "bridge/own.h"
#include "bridge/sched.h"
#include "io/interrupt.h"

#include <lauxlib.h>
#include <string.h>

typedef struct next_op next_op;

typedef struct interrupts {
    kl_interrupt *watch; // owned; NULL once closed
    next_op *waiting;    // borrowed while it waits
    int number;          // of the signal that came, 0: none yet
    kl_sched *sched;
} interrupts;

struct next_op {
    kl_op op;
    interrupts *of; // NULL once it was closed
};

static void came_first(void *context)
{
    kl_sched_interrupt(((interrupts *)context)->sched);
}

static void came(void *context, int number)
{
    interrupts *self = context;
    self->number = number;
    if (self->waiting != NULL)
        kl_op_settle(&self->waiting->op);
    self->waiting = NULL;
}

static void interrupts_close(void *data)
{
    interrupts *self = data;
    kl_interrupt_close(self->watch);
    self->watch = NULL;
    if (self->waiting != NULL) {
        self->waiting->of = NULL;
        kl_op_settle(&self->waiting->op);
    }
    self->waiting = NULL;
}

static void next_cancel(kl_op *op)
{
    next_op *self = (next_op *)op;
    if (self->of != NULL)
        self->of->waiting = NULL;
}

static int next_push(lua_State *L, kl_op *op)
{
    const next_op *self = (next_op *)op;
    if (self->of == NULL)
        return 0;
    lua_pushstring(L, sigabbrev_np(self->of->number));
    return 1;
}

static const kl_op_class next_class = {"proc.Interrupts.next", next_cancel, next_push, NULL};

static int interrupts_next(lua_State *L);

static const luaL_Reg proc_interrupts_methods[] = {{"next", interrupts_next}, {NULL, NULL}};

static const kl_own_class interrupts_class = {"rt.proc.interrupts", proc_interrupts_methods,
                                              interrupts_close};

static int interrupts_next(lua_State *L)
{
    interrupts *self = kl_own_check(L, 1, &interrupts_class);
    luaL_argcheck(L, self->watch != NULL, 1, "it is closed");
    luaL_argcheck(L, self->waiting == NULL, 1, "another task waits for it");
    lua_settop(L, 1); // stays while we wait
    next_op *op = kl_op_new(L, sizeof *op, &next_class);
    kl_op_idle(&op->op);
    op->of = self;
    if (self->number != 0)
        kl_op_settle(&op->op);
    else
        self->waiting = op;
    return kl_op_wait(L, &op->op);
}

int kl_proc_interrupts(lua_State *L)
{
    int status = (int)luaL_checkinteger(L, 1);
    interrupts *self = kl_own_new(L, sizeof *self, &interrupts_class);
    self->sched = kl_sched_of(L);
    kl_sched_watch(self->sched);
    self->watch = kl_interrupt_watch(kl_loop(L), status, came_first, came, self);
    return 1;
}
