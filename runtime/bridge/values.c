// How structured values look in Lua.
#include "bridge/values.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#define ARRAY "kiln.array"

void kl_null_push(lua_State *L)
{
    lua_pushlightuserdata(L, NULL);
}

bool kl_null_is(lua_State *L, int index)
{
    return lua_islightuserdata(L, index) && lua_touserdata(L, index) == NULL;
}

void kl_array_mark(lua_State *L, int index)
{
    index = lua_absindex(L, index);
    luaL_newmetatable(L, ARRAY);
    lua_setmetatable(L, index);
}

bool kl_array_is(lua_State *L, int index)
{
    if (!lua_istable(L, index) || !lua_getmetatable(L, index))
        return false;
    luaL_getmetatable(L, ARRAY);
    bool is = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    return is;
}

kl_shape kl_table_shape(lua_State *L, int index, size_t *out_count)
{
    index = lua_absindex(L, index);
    size_t strings = 0, numbers = 0, others = 0;
    lua_Integer highest = 0;
    lua_pushnil(L);
    while (lua_next(L, index) != 0) {
        lua_pop(L, 1);
        if (lua_type(L, -1) == LUA_TSTRING) {
            strings++;
        } else if (lua_isinteger(L, -1) && lua_tointeger(L, -1) >= 1) {
            numbers++;
            if (lua_tointeger(L, -1) > highest)
                highest = lua_tointeger(L, -1);
        } else {
            others++;
        }
    }
    *out_count = strings + numbers + others;
    bool array = strings == 0 && others == 0 && (lua_Unsigned)highest == numbers;
    if (array && (numbers > 0 || kl_array_is(L, index)))
        return KL_SHAPE_ARRAY;
    bool map = numbers == 0 && others == 0 && !kl_array_is(L, index);
    return map ? KL_SHAPE_MAP : KL_SHAPE_MIXED;
}

static int by_bytes(const void *a, const void *b)
{
    const kl_key *left = a;
    const kl_key *right = b;
    size_t shorter = left->length < right->length ? left->length : right->length;
    int order = memcmp(left->bytes, right->bytes, shorter);
    if (order != 0)
        return order;
    return (left->length > right->length) - (left->length < right->length);
}

kl_key *kl_table_keys(lua_State *L, int index, size_t count)
{
    index = lua_absindex(L, index);
    kl_key *keys = lua_newuserdatauv(L, (count + 1) * sizeof *keys, 0);
    size_t at = 0;
    lua_pushnil(L);
    while (lua_next(L, index) != 0) {
        lua_pop(L, 1);
        keys[at].bytes = lua_tolstring(L, -1, &keys[at].length);
        at++;
    }
    qsort(keys, at, sizeof *keys, by_bytes);
    return keys;
}

const char *kl_path_push(lua_State *L, const kl_path *path)
{
    if (path->depth == 0)
        return lua_pushliteral(L, "the value");
    luaL_Buffer text;
    luaL_buffinit(L, &text);
    for (int i = 0; i < path->depth; i++) {
        if (path->step[i].key != NULL)
            lua_pushfstring(L, ".%s", path->step[i].key);
        else
            lua_pushfstring(L, "[%I]", (LUAI_UACINT)path->step[i].index);
        luaL_addvalue(&text);
    }
    luaL_pushresult(&text);
    return lua_tostring(L, -1);
}
