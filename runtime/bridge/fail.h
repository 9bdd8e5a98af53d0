// The world's failures as Lua values: nil and a table { kind, message, code }.
#ifndef KL_BRIDGE_FAIL_H
#define KL_BRIDGE_FAIL_H

#include <lua.h>

#include "base/failure.h"

// Pushes nil and the error's table; returns 2, so `return kl_fail(L, &failure);`. [-0, +2, e]
int kl_fail(lua_State *L, const kl_failure *failure);
// The same from parts. [-0, +2, e]
int kl_fail_as(lua_State *L, const char *kind, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
// The same from an errno and what was tried. [-0, +2, e]
int kl_fail_errno(lua_State *L, int error, const char *what);

#endif
