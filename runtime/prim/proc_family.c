// The programs that kiln started and that end with it.
#include "prim/proc.h"

#include <lauxlib.h>

#define FAMILY "rt.proc.family"

static int family_gc(lua_State *L)
{
    kl_process_kill_at_exit(NULL);
    kl_process_kill_family(lua_touserdata(L, 1));
    return 0;
}

kl_process_family *kl_proc_family(lua_State *L)
{
    if (lua_getfield(L, LUA_REGISTRYINDEX, FAMILY) == LUA_TNIL) {
        lua_pop(L, 1);
        kl_process_family *made = lua_newuserdatauv(L, sizeof *made, 0);
        *made = (kl_process_family){0};
        lua_createtable(L, 0, 1);
        lua_pushcfunction(L, family_gc);
        lua_setfield(L, -2, "__gc");
        lua_setmetatable(L, -2);
        lua_pushvalue(L, -1);
        lua_setfield(L, LUA_REGISTRYINDEX, FAMILY);
        kl_process_kill_at_exit(made);
    }
    kl_process_family *family = lua_touserdata(L, -1);
    lua_pop(L, 1);
    return family;
}
