// Operations that wait.
#include "bridge/op.h"

#include "bridge/sched_internal.h"

#include <lauxlib.h>
#include <stdlib.h>

#define BOX "kiln.op"

// A box that is collected under a waiting operation: the state closes. C may still hold the
// operation, but nobody is left to be woken.
static void abandon(kl_op *op)
{
    if (op->waiter == NULL || op->settled)
        return;
    op->waiter = NULL;
    op->settled = true;
    if (op->class->cancel != NULL)
        op->class->cancel(op);
}

static int box_gc(lua_State *L)
{
    kl_op **box = luaL_checkudata(L, 1, BOX);
    kl_op *op = *box;
    *box = NULL;
    if (op != NULL) {
        op->box = NULL;
        abandon(op);
        kl_op_drop(op);
    }
    return 0;
}

static kl_op **box_new(lua_State *L)
{
    kl_op **box = lua_newuserdatauv(L, sizeof *box, 0);
    *box = NULL;
    if (luaL_newmetatable(L, BOX)) {
        lua_pushcfunction(L, box_gc);
        lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, -2);
    return box;
}

// Raises the task's pending cancel, once.
static void raise_pending(lua_State *L, kl_task *task)
{
    if (task->cancel_ref == LUA_NOREF)
        return;
    lua_rawgeti(L, LUA_REGISTRYINDEX, task->cancel_ref);
    luaL_unref(L, LUA_REGISTRYINDEX, task->cancel_ref);
    task->cancel_ref = LUA_NOREF;
    lua_error(L);
}

void kl_op_may_wait(lua_State *L, const char *what)
{
    const kl_task *task = kl_sched_of(L)->current;
    if (task == NULL || task->thread != L || !lua_isyieldable(L))
        luaL_error(L,
                   "%s cannot wait here: not in a task of kiln "
                   "(inside a coroutine of your own, a sort or gsub callback, or a metamethod?)",
                   what);
}

void *kl_op_new(lua_State *L, size_t size, const kl_op_class *class)
{
    kl_op_may_wait(L, class->name);
    kl_sched *sched = kl_sched_of(L);
    raise_pending(L, sched->current);
    kl_op **box = box_new(L);
    kl_op *op = calloc(1, size);
    if (op == NULL) { // what Lua itself says: one kind of error for both
        lua_pushliteral(L, "not enough memory");
        lua_error(L);
    }
    op->class = class;
    op->sched = sched;
    op->references = 1;
    sched->ops++;
    op->box = box;
    *box = op;
    return op;
}

// Gives the box's reference back now, not at some later collection.
static void release_box(kl_op *op)
{
    if (op->box == NULL)
        return;
    *op->box = NULL;
    op->box = NULL;
    kl_op_drop(op);
}

static int finish(lua_State *L, kl_op *op)
{
    kl_task *task = op->waiter;
    op->waiter = NULL;
    task->waiting = NULL;
    if (op->cancelled) {
        release_box(op);
        raise_pending(L, task);
    }
    int results = op->class->push(L, op); // if it raises, the collector gives the reference back
    release_box(op);
    return results;
}

static int resumed(lua_State *L, int status, lua_KContext context)
{
    (void)status;
    kl_op *op = (kl_op *)context; // its box is still on this stack
    const kl_task *woken = op->sched->current;
    if (!op->settled || woken != op->waiter || woken->thread != L)
        return luaL_error(L, "%s was resumed by other code than kiln's scheduler", op->class->name);
    return finish(L, op);
}

int kl_op_wait(lua_State *L, kl_op *op)
{
    kl_task *task = op->sched->current;
    op->waiter = task;
    task->waiting = op;
    if (op->settled)
        return finish(L, op);
    return lua_yieldk(L, 0, (lua_KContext)op, resumed);
}

void kl_op_idle(kl_op *op)
{
    if (op->idle)
        return;
    op->idle = true;
    op->sched->idle_ops++;
}

void kl_op_settle(kl_op *op)
{
    if (op->settled)
        return;
    op->settled = true;
    if (op->waiter != NULL)
        kl_sched_ready(op->sched, op->waiter);
}

kl_op *kl_op_hold(kl_op *op)
{
    op->references++;
    return op;
}

void kl_op_drop(kl_op *op)
{
    if (--op->references > 0)
        return;
    if (op->class->free != NULL)
        op->class->free(op);
    op->sched->ops--;
    if (op->idle)
        op->sched->idle_ops--;
    free(op);
}

uv_loop_t *kl_loop(lua_State *L)
{
    return kl_sched_of(L)->loop;
}
