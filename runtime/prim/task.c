// rt.task: starts, joins and cancels tasks. Recipes use kiln.scope instead.
#include "prim/prims.h"

#include "bridge/sched.h"

static int task_spawn(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TFUNCTION);
    kl_task_spawn(L, lua_gettop(L) - 1);
    return 1;
}

static int task_join(lua_State *L)
{
    return kl_task_join(L, kl_task_check(L, 1));
}

static int task_cancel(lua_State *L)
{
    kl_task *task = kl_task_check(L, 1);
    lua_settop(L, 2);
    if (lua_isnil(L, 2)) {
        lua_newtable(L);
        lua_pushliteral(L, "cancelled");
        lua_setfield(L, -2, "kind");
        lua_pushliteral(L, "cancelled");
        lua_setfield(L, -2, "message");
    }
    kl_task_cancel(L, task);
    return 0;
}

static int task_current(lua_State *L)
{
    kl_task_current(L);
    return 1;
}

static int task_locals(lua_State *L)
{
    kl_task *task = kl_task_current(L);
    if (task == NULL)
        return luaL_error(L, "no task runs");
    kl_task_locals(L, task);
    return 1;
}

static int task_may_wait(lua_State *L)
{
    kl_op_may_wait(L, luaL_checkstring(L, 1));
    return 0;
}

static int task_stop_with(lua_State *L)
{
    kl_task *task = kl_task_check(L, 1);
    lua_settop(L, 2);
    kl_task_stop_with(L, task);
    return 0;
}

static int task_spent(lua_State *L)
{
    lua_pushboolean(L, kl_sched_spent(kl_sched_of(L)));
    return 1;
}

static int task_live(lua_State *L)
{
    kl_live live = kl_sched_live(kl_sched_of(L));
    lua_createtable(L, 0, 3);
    lua_pushinteger(L, live.ops);
    lua_setfield(L, -2, "ops");
    lua_pushinteger(L, live.tasks);
    lua_setfield(L, -2, "tasks");
    lua_pushinteger(L, live.handles);
    lua_setfield(L, -2, "handles");
    return 1;
}

static const luaL_Reg task_functions[] = {
    {"spawn", task_spawn}, {"current", task_current},   {"locals", task_locals},
    {"live", task_live},   {"may_wait", task_may_wait}, {"spent", task_spent},
    {NULL, NULL}};

static const luaL_Reg task_task_methods[] = {
    {"join", task_join}, {"cancel", task_cancel}, {"stop_with", task_stop_with}, {NULL, NULL}};

KL_PRIM(task)
{
    luaL_newmetatable(L, "rt.task");
    luaL_newlib(L, task_task_methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    luaL_newlib(L, task_functions);
    return 1;
}
