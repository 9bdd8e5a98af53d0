// The world's failures as Lua values.
#include "bridge/fail.h"

#include <lauxlib.h>
#include <stdarg.h>
#include <stdio.h>

int kl_fail(lua_State *L, const kl_failure *failure)
{
    luaL_pushfail(L);
    lua_createtable(L, 0, 3);
    lua_pushstring(L, failure->kind != NULL ? failure->kind : "error");
    lua_setfield(L, -2, "kind");
    lua_pushstring(L, failure->message);
    lua_setfield(L, -2, "message");
    if (failure->code != 0) {
        lua_pushinteger(L, failure->code);
        lua_setfield(L, -2, "code");
    }
    return 2;
}

int kl_fail_as(lua_State *L, const char *kind, const char *format, ...)
{
    kl_failure failure = {.kind = kind};
    va_list args;
    va_start(args, format);
    vsnprintf(failure.message, sizeof failure.message, format, args);
    va_end(args);
    return kl_fail(L, &failure);
}

int kl_fail_errno(lua_State *L, int error, const char *what)
{
    kl_failure failure;
    kl_failure_errno(&failure, error, what);
    return kl_fail(L, &failure);
}
