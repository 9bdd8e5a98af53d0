// rt.log: one line at a time to standard error, above a level, through a filter.
#include "prim/prims.h"

#include "bridge/scratch.h"
#include "io/terminal.h"

#include <stdlib.h>
#include <string.h>

#define FILTER "rt.log.filter"

static const char *const levels[] = {"debug", "info", "warn", "error", "off", NULL};
enum { LEVEL_WARN = 2, LEVEL_OFF = 4 };

static int level = LEVEL_WARN; // one a program, as standard error is

// Control characters could rewrite what is on the terminal: they show as \xNN.
static void put_line(kl_buf *out, const char *name, const char *text, size_t length)
{
    kl_buf_printf(out, "kiln: %s: ", name);
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '\n')
            kl_buf_puts(out, "\n  ");
        else if ((c < 0x20 && c != '\t') || c == 0x7F)
            kl_buf_printf(out, "\\x%02x", c);
        else
            kl_buf_append(out, &text[i], 1);
    }
    kl_buf_puts(out, "\n");
}

// Puts the filter's answer in place of the text at `index`. A filter that fails must not let
// through what it was to hide. [-0, +0, e]
static void apply_filter(lua_State *L, int index)
{
    if (lua_getfield(L, LUA_REGISTRYINDEX, FILTER) == LUA_TNIL) {
        lua_pop(L, 1);
        return;
    }
    lua_pushvalue(L, index);
    if (lua_pcall(L, 1, 1, 0) != LUA_OK || lua_type(L, -1) != LUA_TSTRING) {
        lua_pop(L, 1);
        lua_pushliteral(L, "a message was withheld: the filter of the log failed");
    }
    lua_replace(L, index);
}

static int log_at(lua_State *L, int at)
{
    luaL_checkstring(L, 1);
    lua_settop(L, 1);
    if (at < level)
        return 0;
    apply_filter(L, 1);
    size_t length;
    const char *text = lua_tolstring(L, 1, &length);
    kl_buf *out = kl_scratch(L);
    put_line(out, levels[at], text, length);
    kl_failure failure; // where standard error is gone, nobody can be told
    kl_terminal_write(2, kl_buf_text(out), out->length, &failure);
    kl_buf_free(out);
    return 0;
}

static int log_debug(lua_State *L)
{
    return log_at(L, 0);
}

static int log_info(lua_State *L)
{
    return log_at(L, 1);
}

static int log_warn(lua_State *L)
{
    return log_at(L, LEVEL_WARN);
}

static int log_error(lua_State *L)
{
    return log_at(L, 3);
}

static int log_level(lua_State *L)
{
    if (!lua_isnoneornil(L, 1))
        level = luaL_checkoption(L, 1, NULL, levels);
    lua_pushstring(L, levels[level]);
    return 1;
}

static int log_filter(lua_State *L)
{
    if (!lua_isnoneornil(L, 1))
        luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_settop(L, 1);
    lua_setfield(L, LUA_REGISTRYINDEX, FILTER);
    return 0;
}

static const luaL_Reg log_functions[] = {
    {"debug", log_debug}, {"info", log_info},     {"warn", log_warn}, {"error", log_error},
    {"level", log_level}, {"filter", log_filter}, {NULL, NULL}};

KL_PRIM(log)
{
    const char *asked = getenv("KILN_LOG");
    for (int i = 0; asked != NULL && i <= LEVEL_OFF; i++) {
        if (strcmp(levels[i], asked) == 0)
            level = i;
    }
    luaL_newlib(L, log_functions);
    return 1;
}
