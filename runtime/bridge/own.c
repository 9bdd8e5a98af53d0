// Userdata that owns something.
#include "bridge/own.h"

#include <string.h>

// Upvalue 1: the class. Serves __gc, __close and the method close.
static int own_close(lua_State *L)
{
    const kl_own_class *class = lua_touserdata(L, lua_upvalueindex(1));
    class->close(luaL_checkudata(L, 1, class->name));
    return 0;
}

static int own_tostring(lua_State *L)
{
    const kl_own_class *class = lua_touserdata(L, lua_upvalueindex(1));
    lua_pushstring(L, class->name);
    return 1;
}

static void set_closure(lua_State *L, const kl_own_class *class, lua_CFunction function,
                        const char *name)
{
    lua_pushlightuserdata(L, (void *)(uintptr_t) class);
    lua_pushcclosure(L, function, 1);
    lua_setfield(L, -2, name);
}

static void set_class(lua_State *L, const kl_own_class *class)
{
    if (luaL_newmetatable(L, class->name)) {
        set_closure(L, class, own_close, "__gc");
        set_closure(L, class, own_close, "__close");
        set_closure(L, class, own_tostring, "__tostring");
        lua_newtable(L);
        set_closure(L, class, own_close, "close");
        luaL_setfuncs(L, class->methods, 0);
        lua_setfield(L, -2, "__index");
        lua_pushliteral(L, "locked");
        lua_setfield(L, -2, "__metatable");
    }
    lua_setmetatable(L, -2);
}

void *kl_own_new(lua_State *L, size_t size, const kl_own_class *class)
{
    void *self = lua_newuserdatauv(L, size, 1);
    memset(self, 0, size);
    set_class(L, class);
    return self;
}

void *kl_own_check(lua_State *L, int index, const kl_own_class *class)
{
    return luaL_checkudata(L, index, class->name);
}
