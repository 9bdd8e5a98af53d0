// Coroutines of Lua code's own, after Lua 5.4's lcorolib.c. The scheduler learns which one runs.
#include "bridge/coroutine.h"

#include "bridge/sched_internal.h"

#include <lauxlib.h>

enum {
    CLOSING_DEPTH = 100
}; // Lua 5.4.4 does not count closes inside closes: its C stack would end

typedef enum state { RUNNING, DEAD, SUSPENDED, NORMAL } state;
static const char *const state_names[] = {"running", "dead", "suspended", "normal"};

static lua_State *check_coroutine(lua_State *L)
{
    lua_State *co = lua_tothread(L, 1);
    luaL_argexpected(L, co != NULL, 1, "coroutine");
    luaL_argcheck(L, !kl_task_owns(co), 1, "the thread of a task is kiln's own");
    return co;
}

static state state_of(lua_State *L, lua_State *co)
{
    lua_Debug frame;
    if (L == co)
        return RUNNING;
    switch (lua_status(co)) {
    case LUA_YIELD:
        return SUSPENDED;
    case LUA_OK:
        if (lua_getstack(co, 0, &frame))
            return NORMAL;
        return lua_gettop(co) == 0 ? DEAD : SUSPENDED;
    default:
        return DEAD;
    }
}

static int coroutine_create(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_State *co = lua_newthread(L);
    lua_pushvalue(L, 1);
    lua_xmove(L, co, 1);
    return 1;
}

// Resumes with the `count` values on top of L's stack. Returns how many results it pushed, or -1
// when it pushed an error. [-count, +n, 0]
static int resume(lua_State *L, lua_State *co, int count)
{
    if (!lua_checkstack(co, count)) {
        lua_pushliteral(L, "too many arguments to resume");
        return -1;
    }
    lua_xmove(L, co, count);
    int results;
    lua_State *outer = kl_sched_enter(co);
    int status = lua_resume(co, L, count, &results);
    kl_sched_leave(co, outer);
    if (status != LUA_OK && status != LUA_YIELD) {
        lua_xmove(co, L, 1);
        return -1;
    }
    if (!lua_checkstack(L, results + 1)) {
        lua_pop(co, results);
        lua_pushliteral(L, "too many results to resume");
        return -1;
    }
    lua_xmove(co, L, results);
    return results;
}

static int coroutine_resume(lua_State *L)
{
    lua_State *co = check_coroutine(L);
    int results = resume(L, co, lua_gettop(L) - 1);
    lua_pushboolean(L, results >= 0);
    results = results < 0 ? 1 : results;
    lua_insert(L, -(results + 1));
    return results + 1;
}

// Closes what the coroutine has left open; leaves its error on its stack. [-0, +0, e]
static int close_open(lua_State *L, lua_State *co)
{
    kl_sched *sched = kl_sched_of(L);
    if (sched->closing >= CLOSING_DEPTH)
        luaL_error(L, "coroutines are closed inside each other, deeper than %d", CLOSING_DEPTH);
    sched->closing++;
    lua_State *outer = kl_sched_enter(co);
    int status = lua_resetthread(co);
    kl_sched_leave(co, outer);
    sched->closing--;
    return status;
}

static int wrapped(lua_State *L)
{
    lua_State *co = lua_tothread(L, lua_upvalueindex(1));
    int results = resume(L, co, lua_gettop(L));
    if (results >= 0)
        return results;
    int status = lua_status(co);
    // A coroutine that was ended while it computed has its hooks off for good: what its handlers do
    // could not be ended.
    if (status != LUA_OK && status != LUA_YIELD && !kl_sched_of(L)->spent) {
        status = close_open(L, co);
        lua_xmove(co, L, 1);
    }
    if (status != LUA_ERRMEM && lua_type(L, -1) == LUA_TSTRING) {
        luaL_where(L, 1);
        lua_insert(L, -2);
        lua_concat(L, 2);
    }
    return lua_error(L);
}

static int coroutine_wrap(lua_State *L)
{
    coroutine_create(L);
    lua_pushcclosure(L, wrapped, 1);
    return 1;
}

static int coroutine_yield(lua_State *L)
{
    if (kl_task_owns(L))
        return luaL_error(L, "coroutine.yield outside a coroutine of your own");
    return lua_yield(L, lua_gettop(L));
}

static int coroutine_status(lua_State *L)
{
    lua_pushstring(L, state_names[state_of(L, check_coroutine(L))]);
    return 1;
}

static int coroutine_isyieldable(lua_State *L)
{
    lua_State *co = lua_isthread(L, 1) ? check_coroutine(L) : L;
    lua_pushboolean(L, !kl_task_owns(co) && lua_isyieldable(co));
    return 1;
}

static int coroutine_running(lua_State *L)
{
    bool task = kl_task_owns(L);
    if (task)
        kl_task_token(L);
    else
        lua_pushthread(L);
    lua_pushboolean(L, task);
    return 2;
}

static int coroutine_close(lua_State *L)
{
    lua_State *co = check_coroutine(L);
    state now = state_of(L, co);
    if (now != DEAD && now != SUSPENDED)
        return luaL_error(L, "cannot close a %s coroutine", state_names[now]);
    bool ended = now == DEAD && kl_sched_of(L)->spent; // as in `wrapped`
    bool closed = ended || close_open(L, co) == LUA_OK;
    lua_pushboolean(L, closed);
    if (closed)
        return 1;
    lua_xmove(co, L, 1);
    return 2;
}

static const luaL_Reg coroutine_functions[] = {{"create", coroutine_create},
                                               {"resume", coroutine_resume},
                                               {"wrap", coroutine_wrap},
                                               {"yield", coroutine_yield},
                                               {"status", coroutine_status},
                                               {"isyieldable", coroutine_isyieldable},
                                               {"close", coroutine_close},
                                               {"running", coroutine_running},
                                               {NULL, NULL}};

void kl_coroutine_open(lua_State *L)
{
    lua_getglobal(L, "coroutine");
    luaL_setfuncs(L, coroutine_functions, 0);
    lua_pop(L, 1);
}
