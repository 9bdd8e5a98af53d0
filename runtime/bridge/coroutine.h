// Lua's coroutine library, less what would reach the threads of tasks.
#ifndef KL_BRIDGE_COROUTINE_H
#define KL_BRIDGE_COROUTINE_H

#include <lua.h>

// Replaces the functions of the global `coroutine`. A task's thread belongs to the scheduler:
// `running` returns a token in its place, the other functions refuse it. [-0, +0, e]
void kl_coroutine_open(lua_State *L);

#endif
