// Option tables: typed, defaulted, and an unknown key is an error.
#include "bridge/opts.h"

#include "bridge/secret.h"

#include <lauxlib.h>

void kl_opts_begin(lua_State *L, int index, kl_opts *out)
{
    out->L = L;
    out->argument = lua_isnoneornil(L, index) ? 0 : lua_absindex(L, index);
    if (out->argument != 0)
        luaL_checktype(L, index, LUA_TTABLE);
    lua_newtable(L);
    out->asked = lua_gettop(L);
}

// Pushes the option and notes that it was asked for. [-0, +1, e]
static int fetch(kl_opts *opts, const char *key)
{
    lua_State *L = opts->L;
    lua_pushboolean(L, 1);
    lua_setfield(L, opts->asked, key);
    if (opts->argument == 0) {
        lua_pushnil(L);
        return LUA_TNIL;
    }
    return lua_getfield(L, opts->argument, key);
}

static void wrong_type(kl_opts *opts, const char *key, const char *expected)
{
    luaL_error(opts->L, "option '%s' must be a %s, not a %s", key, expected,
               luaL_typename(opts->L, -1));
}

const char *kl_opts_string(kl_opts *opts, const char *key, const char *otherwise)
{
    int type = fetch(opts, key);
    if (type != LUA_TNIL && type != LUA_TSTRING)
        wrong_type(opts, key, "string");
    const char *value = type == LUA_TNIL ? otherwise : lua_tostring(opts->L, -1);
    lua_pop(opts->L, 1); // the table keeps it
    return value;
}

const char *kl_opts_need_string(kl_opts *opts, const char *key)
{
    const char *value = kl_opts_string(opts, key, NULL);
    if (value == NULL)
        luaL_error(opts->L, "option '%s' is missing", key);
    return value;
}

lua_Number kl_opts_number(kl_opts *opts, const char *key, lua_Number otherwise)
{
    int type = fetch(opts, key);
    if (type != LUA_TNIL && type != LUA_TNUMBER)
        wrong_type(opts, key, "number");
    lua_Number value = type == LUA_TNIL ? otherwise : lua_tonumber(opts->L, -1);
    lua_pop(opts->L, 1);
    return value;
}

lua_Integer kl_opts_integer(kl_opts *opts, const char *key, lua_Integer otherwise)
{
    int type = fetch(opts, key);
    if (type != LUA_TNIL && !lua_isinteger(opts->L, -1))
        wrong_type(opts, key, "whole number");
    lua_Integer value = type == LUA_TNIL ? otherwise : lua_tointeger(opts->L, -1);
    lua_pop(opts->L, 1);
    return value;
}

bool kl_opts_boolean(kl_opts *opts, const char *key, bool otherwise)
{
    int type = fetch(opts, key);
    if (type != LUA_TNIL && type != LUA_TBOOLEAN)
        wrong_type(opts, key, "boolean");
    bool value = type == LUA_TNIL ? otherwise : lua_toboolean(opts->L, -1);
    lua_pop(opts->L, 1);
    return value;
}

const char *kl_opts_bytes(kl_opts *opts, const char *key, size_t *out_length)
{
    int type = fetch(opts, key);
    const char *value = NULL;
    if (out_length != NULL)
        *out_length = 0;
    if (type == LUA_TSTRING)
        value = lua_tolstring(opts->L, -1, out_length);
    else if (type != LUA_TNIL && (value = kl_secret_bytes(opts->L, -1, out_length)) == NULL)
        wrong_type(opts, key, "string or secret");
    lua_pop(opts->L, 1);
    return value;
}

bool kl_opts_table(kl_opts *opts, const char *key)
{
    int type = fetch(opts, key);
    if (type != LUA_TNIL && type != LUA_TTABLE)
        wrong_type(opts, key, "table");
    return type == LUA_TTABLE;
}

int kl_opts_value(kl_opts *opts, const char *key)
{
    return fetch(opts, key);
}

void kl_opts_end(kl_opts *opts)
{
    lua_State *L = opts->L;
    if (opts->argument == 0)
        return;
    lua_pushnil(L);
    while (lua_next(L, opts->argument) != 0) {
        lua_pop(L, 1);
        lua_pushvalue(L, -1);
        if (lua_rawget(L, opts->asked) == LUA_TNIL)
            luaL_error(L, "unknown option '%s'", luaL_tolstring(L, -2, NULL));
        lua_pop(L, 1);
    }
}
