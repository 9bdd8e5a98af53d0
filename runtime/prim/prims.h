// The primitives' common door: prim/x.c defines KL_PRIM(x) and becomes the Lua module rt.x.
#ifndef KL_PRIM_PRIMS_H
#define KL_PRIM_PRIMS_H

#include <lauxlib.h>
#include <lua.h>

// KL_PRIM(x) { luaL_newlib(L, x_functions); return 1; }
#define KL_PRIM(name)                                                                              \
    int kl_open_##name(lua_State *L);                                                              \
    int kl_open_##name(lua_State *L)

#endif
