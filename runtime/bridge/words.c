// Lists of words for a program: its arguments, its environment.
#include "bridge/words.h"

#include <lauxlib.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

static const char *check_text(lua_State *L, const char *what)
{
    size_t length;
    if (lua_type(L, -1) != LUA_TSTRING)
        luaL_error(L, "%s must be a string, not a %s", what, luaL_typename(L, -1));
    const char *text = lua_tolstring(L, -1, &length);
    if (strlen(text) != length)
        luaL_error(L, "%s has a zero byte", what);
    return text;
}

char **kl_words_push(lua_State *L, int list, const char *what)
{
    lua_Integer count = luaL_len(L, list);
    char **vector = lua_newuserdatauv(L, ((size_t)count + 1) * sizeof *vector, 0);
    for (lua_Integer i = 1; i <= count; i++) {
        lua_rawgeti(L, list, i);
        vector[i - 1] = (char *)(uintptr_t)check_text(L, what);
        lua_pop(L, 1); // the list keeps it
    }
    vector[count] = NULL;
    return vector;
}

// Adds "NAME=value" texts of the map at `map` to the list at `list`, in place of those of a name
// that is there. [-0, +0, e]
static void add_environment(lua_State *L, int list, int map)
{
    lua_pushnil(L);
    while (lua_next(L, map) != 0) {
        const char *value = check_text(L, "every value of option 'env'");
        lua_pushvalue(L, -2);
        const char *name = check_text(L, "every name of option 'env'");
        if (name[0] == '\0' || strchr(name, '=') != NULL)
            luaL_error(L, "'%s' cannot be the name of an environment variable", name);
        lua_pushfstring(L, "%s=%s", name, value);
        lua_rawseti(L, list, (lua_Integer)lua_rawlen(L, list) + 1);
        lua_pop(L, 2);
    }
}

void kl_environment_push(lua_State *L, int map, bool clear)
{
    lua_newtable(L);
    int list = lua_gettop(L);
    for (char **at = environ; !clear && *at != NULL; at++) {
        const char *equals = strchr(*at, '=');
        if (equals == NULL)
            continue;
        lua_pushlstring(L, *at, (size_t)(equals - *at));
        if (map == 0 || lua_rawget(L, map) == LUA_TNIL) {
            lua_pushstring(L, *at);
            lua_rawseti(L, list, (lua_Integer)lua_rawlen(L, list) + 1);
        }
        lua_settop(L, list);
    }
    if (map != 0)
        add_environment(L, list, map);
}
