// Tasks: coroutines on the event loop.
#include "bridge/sched.h"

#include "bridge/sched_internal.h"
#include "bridge/virtual.h"

#include <assert.h>
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#define TASK "rt.task"
#define NO_MEMORY "not enough memory" // Lua's words

#define SLICE_NS 1000000

kl_sched *kl_sched_of(lua_State *L)
{
    // New threads copy it from the main one. The lowest bit marks the thread of a task.
    return (kl_sched *)(*(uintptr_t *)lua_getextraspace(L) & ~(uintptr_t)1);
}

bool kl_task_owns(lua_State *L)
{
    return (*(uintptr_t *)lua_getextraspace(L) & 1) != 0;
}

bool kl_sched_spent(const kl_sched *sched)
{
    return sched->spent;
}

uv_loop_t *kl_sched_loop(const kl_sched *sched)
{
    return sched->loop;
}

kl_sched *kl_sched_new(lua_State *L, uv_loop_t *loop)
{
    kl_sched *sched = calloc(1, sizeof *sched);
    if (sched == NULL)
        return NULL;
    sched->main = L;
    sched->loop = loop;
    *(kl_sched **)lua_getextraspace(L) = sched;
    return sched;
}

void kl_sched_free(kl_sched *sched)
{
    free(sched);
}

void kl_sched_ready(kl_sched *sched, kl_task *task)
{
    if (task->queued || task->done)
        return;
    task->queued = true;
    task->next_ready = NULL;
    if (sched->ready_last != NULL)
        sched->ready_last->next_ready = task;
    else
        sched->ready_first = task;
    sched->ready_last = task;
    if (sched->polling) // else uv_run fires a timer first and then waits for the next event
        uv_stop(sched->loop);
}

// Errors leave a task as tables with a `traceback`; a plain message becomes { kind = "error" }.
static int describe_error(lua_State *L)
{
    if (!lua_istable(L, 1)) {
        lua_newtable(L);
        lua_pushliteral(L, "error");
        lua_setfield(L, -2, "kind");
        luaL_tolstring(L, 1, NULL);
        lua_setfield(L, -2, "message");
        lua_replace(L, 1);
    }
    lua_settop(L, 1);
    lua_pushliteral(L, "traceback");
    if (lua_rawget(L, 1) == LUA_TNIL) {
        lua_pushliteral(L, "traceback");
        luaL_traceback(L, L, NULL, 1);
        lua_rawset(L, 1);
    }
    lua_settop(L, 1);
    return 1;
}

static int body_ended(lua_State *L, int status, lua_KContext context)
{
    (void)context;
    lua_pushboolean(L, status == LUA_OK || status == LUA_YIELD);
    lua_replace(L, 1); // over the message handler
    return lua_gettop(L);
}

// The frame under every task: function and arguments are on its stack.
static int task_body(lua_State *L)
{
    lua_pushcfunction(L, describe_error);
    lua_insert(L, 1);
    int status = lua_pcallk(L, lua_gettop(L) - 2, LUA_MULTRET, 1, 0, body_ended);
    return body_ended(L, status, 0);
}

static int task_gc(lua_State *L)
{
    kl_task *task = luaL_checkudata(L, 1, TASK);
    if (!task->done && task->sched != NULL) { // the state closes under an unfinished task
        task->done = true;
        task->sched->tasks--;
    }
    return 0;
}

static kl_task *task_new(lua_State *L)
{
    kl_task *task = lua_newuserdatauv(L, sizeof *task, 3); // its thread, its locals, its token
    memset(task, 0, sizeof *task);
    task->self_ref = LUA_NOREF;
    task->cancel_ref = LUA_NOREF;
    task->stop_ref = LUA_NOREF;
    task->done = true; // until it is whole
    luaL_newmetatable(L, TASK);
    lua_pushcfunction(L, task_gc);
    lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -2);
    return task;
}

kl_task *kl_task_spawn(lua_State *L, int nargs)
{
    kl_sched *sched = kl_sched_of(L);
    luaL_checkstack(L, nargs + 4, "too many arguments of a task");
    kl_task *task = task_new(L);
    lua_newtable(L);
    lua_setiuservalue(L, -2, 2);
    lua_State *thread = lua_newthread(L);
    lua_setiuservalue(L, -2, 1);
    lua_insert(L, -(nargs + 2)); // the task under the function and its arguments
    if (!lua_checkstack(thread, nargs + 4))
        luaL_error(L, "too many arguments of a task");
    lua_pushcfunction(thread, task_body);
    lua_xmove(L, thread, nargs + 1);
    *(uintptr_t *)lua_getextraspace(thread) |= 1;
    if (sched->current != NULL && sched->current->stop_ref != LUA_NOREF) {
        lua_rawgeti(L, LUA_REGISTRYINDEX, sched->current->stop_ref);
        kl_task_stop_with(L, task);
    }
    lua_pushvalue(L, -1);
    task->self_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    task->sched = sched;
    task->thread = thread;
    task->results = nargs + 1; // the arguments of the first resume
    task->done = false;
    sched->tasks++;
    kl_sched_ready(sched, task);
    return task;
}

static void task_finished(kl_sched *sched, kl_task *task, bool ok, int results)
{
    task->done = true;
    task->ok = ok;
    task->results = results;
    sched->tasks--;
    for (kl_join_op *join = task->joiners; join != NULL; join = join->next)
        kl_op_settle(&join->op);
    task->joiners = NULL;
    if (task->cancel_ref != LUA_NOREF) // a cancel that came too late
        luaL_unref(sched->main, LUA_REGISTRYINDEX, task->cancel_ref);
    task->cancel_ref = LUA_NOREF;
    luaL_unref(sched->main, LUA_REGISTRYINDEX, task->stop_ref);
    task->stop_ref = LUA_NOREF;
    luaL_unref(sched->main, LUA_REGISTRYINDEX, task->self_ref);
    task->self_ref = LUA_NOREF;
}

void kl_task_stop_with(lua_State *L, kl_task *task)
{
    luaL_unref(L, LUA_REGISTRYINDEX, task->stop_ref);
    task->stop_ref = LUA_NOREF;
    if (lua_isnil(L, -1))
        lua_pop(L, 1);
    else
        task->stop_ref = luaL_ref(L, LUA_REGISTRYINDEX);
}

// Tells whether the error there says that memory is out: Lua's own text, or a table made of it.
static bool ended_by_memory(lua_State *thread, int index)
{
    if (lua_type(thread, index) == LUA_TSTRING)
        return strcmp(lua_tostring(thread, index), NO_MEMORY) == 0;
    if (!lua_istable(thread, index) || !lua_checkstack(thread, 2))
        return false;
    index = lua_absindex(thread, index);
    lua_pushliteral(thread, "kind"); // a constant of every error: there already, nothing is made
    lua_rawget(thread, index);
    bool memory =
        lua_type(thread, -1) == LUA_TSTRING && strcmp(lua_tostring(thread, -1), "memory") == 0;
    lua_pop(thread, 1);
    return memory;
}

static void resume(kl_sched *sched, kl_task *task)
{
    kl_task *outer = sched->current;
    int nargs = task->waiting == NULL ? task->results : 0;
    int results = 0;
    sched->current = task;
    sched->slice_since = 0;
    sched->spent = false;
    lua_State *under = kl_sched_enter(task->thread);
    int status = lua_resume(task->thread, sched->main, nargs, &results);
    kl_sched_leave(task->thread, under);
    sched->current = outer;
    if (status == LUA_YIELD) {
        assert(task->waiting != NULL); // op.c alone yields a task's thread
        return;
    }
    // task_body catches everything but memory running out inside it: then the error is on top.
    if (status != LUA_OK) {
        lua_pushboolean(task->thread, 0);
        lua_insert(task->thread, -2);
        results = 2;
    }
    bool ok = status == LUA_OK && lua_toboolean(task->thread, -results);
    // Whoever joins it gets the error. Without one, something that others wait for may be gone.
    if (!ok && task->joiners == NULL && ended_by_memory(task->thread, 1 - results))
        sched->starved = true;
    task_finished(sched, task, ok, results);
}

// Runs ready tasks, but lets the loop turn when they have taken long: with hundreds ready at once,
// the answers of the world would wait for the last of them.
static void run_ready(kl_sched *sched)
{
    uint64_t since = uv_hrtime();
    while (sched->ready_first != NULL && uv_hrtime() - since < SLICE_NS) {
        kl_task *task = sched->ready_first;
        sched->ready_first = task->next_ready;
        if (sched->ready_first == NULL)
            sched->ready_last = NULL;
        task->queued = false;
        // Keeps the object through the resume that may end it.
        lua_rawgeti(sched->main, LUA_REGISTRYINDEX, task->self_ref);
        resume(sched, task);
        lua_pop(sched->main, 1);
    }
}

// Every task waits and nothing of the loop can wake one: say so instead of hanging.
static void break_deadlock(lua_State *L, kl_task *root)
{
    lua_newtable(L);
    lua_pushliteral(L, "deadlock");
    lua_setfield(L, -2, "kind");
    lua_pushliteral(L, "every task waits and nothing is left that could wake one");
    lua_setfield(L, -2, "message");
    kl_task_cancel(L, root);
}

int kl_task_push_results(lua_State *L, const kl_task *task)
{
    luaL_checkstack(L, task->results, "too many results of a task");
    if (!lua_checkstack(task->thread, task->results))
        luaL_error(L, "too many results of a task");
    int first = lua_gettop(task->thread) - task->results + 1;
    for (int i = 0; i < task->results; i++)
        lua_pushvalue(task->thread, first + i);
    lua_xmove(task->thread, L, task->results);
    return task->results;
}

// Lets the loop wake a task; in virtual time with nothing else under way, the first sleeper. False:
// nothing is left that could wake one.
static bool await_event(kl_sched *sched)
{
    bool idle = kl_virtual_idle(sched);
    sched->polling = true;
    int alive = uv_run(sched->loop, idle ? UV_RUN_NOWAIT : UV_RUN_ONCE);
    sched->polling = false;
    if (sched->ready_first != NULL)
        return true;
    if (!idle) // what was under way may have ended just now
        return alive != 0 || kl_virtual_idle(sched);
    if (kl_virtual_idle(sched))
        kl_virtual_jump(sched);
    return true;
}

int kl_sched_run(lua_State *L, int nargs)
{
    kl_sched *sched = kl_sched_of(L);
    kl_task *root = kl_task_spawn(L, nargs);
    int index = lua_gettop(L);
    while (!root->done) {
        run_ready(sched);
        if (root->done)
            break;
        if (sched->starved) {
            lua_pushliteral(L, NO_MEMORY);
            lua_error(L);
        }
        if (sched->ready_first != NULL)
            uv_run(sched->loop, UV_RUN_NOWAIT);
        else if (!await_event(sched))
            break_deadlock(L, root);
    }
    int results = kl_task_push_results(L, root);
    lua_remove(L, index);
    return results;
}

kl_task *kl_task_check(lua_State *L, int index)
{
    return luaL_checkudata(L, index, TASK);
}

void kl_task_cancel(lua_State *L, kl_task *task)
{
    if (task->done) {
        lua_pop(L, 1);
        return;
    }
    if (task->cancel_ref != LUA_NOREF) { // one is on its way already
        lua_pop(L, 1);
        return;
    }
    task->cancel_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    kl_op *op = task->waiting;
    if (op == NULL || op->settled)
        return; // its result is delivered first, the cancel at the next wait
    op->cancelled = true;
    op->settled = true;
    if (op->class->cancel != NULL)
        op->class->cancel(op);
    kl_sched_ready(task->sched, task);
}

kl_task *kl_task_current(lua_State *L)
{
    kl_task *task = kl_sched_of(L)->current;
    if (task == NULL)
        lua_pushnil(L);
    else
        lua_rawgeti(L, LUA_REGISTRYINDEX, task->self_ref);
    return task;
}

void kl_task_token(lua_State *L)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, kl_sched_of(L)->current->self_ref);
    if (lua_getiuservalue(L, -1, 3) == LUA_TNIL) {
        lua_pop(L, 1);
        lua_newuserdatauv(L, 0, 0);
        lua_pushvalue(L, -1);
        lua_setiuservalue(L, -3, 3);
    }
    lua_remove(L, -2);
}

void kl_task_locals(lua_State *L, kl_task *task)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, task->self_ref);
    lua_getiuservalue(L, -1, 2);
    lua_remove(L, -2);
}

static void count_handle(uv_handle_t *handle, void *count)
{
    if (uv_is_active(handle) && uv_has_ref(handle) && !uv_is_closing(handle))
        ++*(int *)count;
}

kl_live kl_sched_live(const kl_sched *sched)
{
    kl_live live = {.ops = sched->ops, .tasks = sched->tasks};
    uv_walk(sched->loop, count_handle, &live.handles);
    return live;
}
