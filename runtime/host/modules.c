// Where `require` finds kiln: rt.* in the program, kiln.*, recipes.*, providers.* embedded or, for
// development, below KILN_PATH.
#include "host/host.h"

#include "prim/prims.h"

#include <lauxlib.h>
#include <lualib.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KL_PRIM_ENTRY(name) int kl_open_##name(lua_State *L);
#include "prim_list.inc"
#undef KL_PRIM_ENTRY

static const luaL_Reg prims[] = {
#define KL_PRIM_ENTRY(name) {"rt." #name, kl_open_##name},
#include "prim_list.inc"
#undef KL_PRIM_ENTRY
    {NULL, NULL}};

// Pushes the whole file, or nothing and returns false. [-0, +(0|1), e]
static bool push_file(lua_State *L, const char *file)
{
    luaL_Buffer buffer;
    luaL_buffinit(L, &buffer); // may use the stack: nothing of ours is above it
    FILE *in = fopen(file, "rb");
    if (in == NULL)
        return false;
    size_t got;
    do { // a memory error here would leak `in`, and end the program anyway
        char *space = luaL_prepbuffer(&buffer);
        got = fread(space, 1, LUAL_BUFFERSIZE, in);
        luaL_addsize(&buffer, got);
    } while (got > 0);
    fclose(in);
    luaL_pushresult(&buffer);
    return true;
}

// Pushes a file of the first tree of KILN_PATH that has it, or nothing and returns false.
// [-0, +(0|1), e]
static bool push_from_tree(lua_State *L, const char *path)
{
    const char *roots = getenv("KILN_PATH");
    bool found = false;
    while (roots != NULL && roots[0] != '\0' && !found) {
        size_t length = strcspn(roots, ":");
        lua_pushlstring(L, roots, length);
        const char *file = lua_pushfstring(L, "%s/%s", lua_tostring(L, -1), path);
        found = length > 0 && push_file(L, file);
        lua_remove(L, found ? -2 : -1);
        lua_remove(L, found ? -2 : -1);
        roots += length + (roots[length] == ':');
    }
    return found;
}

// Pushes the source of a path of the tree, or nothing and returns false. [-0, +(0|1), e]
static bool push_source(lua_State *L, const char *path)
{
    if (push_from_tree(L, path))
        return true;
    size_t length;
    const char *bytes = kl_embedded_source(path, &length);
    if (bytes != NULL)
        lua_pushlstring(L, bytes, length);
    return bytes != NULL;
}

// Pushes the chunk at a path of the tree, or nothing and returns false. [-0, +(0|1), e]
static bool push_chunk(lua_State *L, const char *path)
{
    bool edited = push_from_tree(L, path);
    size_t length = 0;
    const char *bytes = edited ? NULL : kl_embedded_code(path, &length);
    const char *mode = bytes != NULL ? "b" : "t";
    if (bytes == NULL) {
        if (!edited && !push_source(L, path))
            return false;
        bytes = lua_tolstring(L, -1, &length);
    } else {
        lua_pushnil(L); // in the text's place
    }
    const char *chunk = lua_pushfstring(L, "@%s", path);
    if (luaL_loadbufferx(L, bytes, length, chunk, mode) != LUA_OK)
        lua_error(L);
    lua_replace(L, -3);
    lua_pop(L, 1);
    return true;
}

// The names that are kiln's alone: nothing else may answer to them.
static bool is_ours(const char *name)
{
    static const char *const ours[] = {"rt.", "kiln.", "recipes.", "providers."};
    for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++) {
        if (strncmp(name, ours[i], strlen(ours[i])) == 0)
            return true;
    }
    return false;
}

static int search_tree(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1);
    const char *dotted = luaL_gsub(L, name, ".", "/");
    bool plain = strncmp(name, "recipes.", 8) == 0 || strncmp(name, "providers.", 10) == 0;
    const char *prefix = plain ? "" : "stdlib/";
    static const char *const endings[] = {".lua", "/init.lua"};
    for (size_t i = 0; i < 2; i++) {
        const char *path = lua_pushfstring(L, "%s%s%s", prefix, dotted, endings[i]);
        if (push_chunk(L, path)) {
            lua_pushstring(L, path);
            return 2;
        }
        lua_pop(L, 1);
    }
    if (is_ours(name)) // not from the folder where somebody happens to stand
        return luaL_error(L, "there is no module '%s' in kiln", name);
    lua_pushfstring(L, "no module '%s' in kiln", name);
    return 1;
}

// Leaves in package's field the places of the system: neither the working directory nor what the
// environment adds. [-0, +0, e]
static void only_system(lua_State *L, const char *field)
{
    lua_getglobal(L, "package");
    lua_getfield(L, -1, field);
    const char *paths = lua_tostring(L, -1);
    lua_pushliteral(L, "");
    while (paths[0] != '\0') {
        size_t length = strcspn(paths, LUA_PATH_SEP);
        if (paths[0] == '/') {
            lua_pushlstring(L, paths, length);
            lua_pushliteral(L, LUA_PATH_SEP);
            lua_concat(L, 3);
        }
        paths += length + (paths[length] != '\0');
    }
    lua_setfield(L, -3, field);
    lua_pop(L, 2);
}

void kl_host_libraries(lua_State *L, bool everywhere)
{
    lua_pushboolean(L, !everywhere);
    lua_setfield(L, LUA_REGISTRYINDEX, "LUA_NOENV");
    luaL_openlibs(L);
    if (everywhere)
        return;
    only_system(L, "path");
    only_system(L, "cpath");
}

static int host_source(lua_State *L)
{
    if (!push_source(L, luaL_checkstring(L, 1)))
        lua_pushnil(L);
    return 1;
}

static int host_sources(lua_State *L)
{
    lua_newtable(L);
    const char *path;
    for (size_t i = 0; (path = kl_embedded_path(i)) != NULL; i++) {
        lua_pushstring(L, path);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    return 1;
}

static int host_is_added(lua_State *L)
{
    size_t length;
    const char *path = luaL_checkstring(L, 1);
    lua_pushboolean(L, kl_embedded_source(path, &length) == NULL && push_from_tree(L, path));
    return 1;
}

static const luaL_Reg host_functions[] = {
    {"source", host_source}, {"sources", host_sources}, {"is_added", host_is_added}, {NULL, NULL}};

static int open_host(lua_State *L)
{
    luaL_newlib(L, host_functions);
    lua_pushliteral(L, KILN_VERSION);
    lua_setfield(L, -2, "version");
    return 1;
}

void kl_host_modules(lua_State *L)
{
    lua_getfield(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
    luaL_setfuncs(L, prims, 0);
    lua_pushcfunction(L, open_host);
    lua_setfield(L, -2, "rt.host");
    lua_pop(L, 1);

    lua_getglobal(L, "package");
    lua_getfield(L, -1, "searchers");
    for (lua_Integer i = (lua_Integer)lua_rawlen(L, -1); i >= 2; i--) { // after preload
        lua_rawgeti(L, -1, i);
        lua_rawseti(L, -2, i + 1);
    }
    lua_pushcfunction(L, search_tree);
    lua_rawseti(L, -2, 2);
    lua_pop(L, 2);
}
