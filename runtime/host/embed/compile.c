// Build tool: compiles Lua sources to what the host loads fastest, names and lines intact.
// Usage: compile (CHUNK SOURCE RESULT)…
#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>

static int write_bytes(lua_State *L, const void *bytes, size_t length, void *out)
{
    (void)L;
    return fwrite(bytes, 1, length, out) != length;
}

// Reads a whole file onto the stack as a string. [-0, +1, e]
static void read_file(lua_State *L, const char *file)
{
    FILE *in = fopen(file, "rb");
    if (in == NULL)
        luaL_error(L, "cannot read %s", file);
    luaL_Buffer buffer;
    luaL_buffinit(L, &buffer);
    size_t got;
    do {
        got = fread(luaL_prepbuffer(&buffer), 1, LUAL_BUFFERSIZE, in);
        luaL_addsize(&buffer, got);
    } while (got > 0);
    fclose(in);
    luaL_pushresult(&buffer);
}

static int compile(lua_State *L)
{
    const char *chunk = lua_pushfstring(L, "@%s", lua_tostring(L, 1));
    const char *result = lua_tostring(L, 3);
    read_file(L, lua_tostring(L, 2));
    size_t length;
    const char *text = lua_tolstring(L, -1, &length);
    if (luaL_loadbufferx(L, text, length, chunk, "t") != LUA_OK)
        return lua_error(L); // file:line: what is wrong
    FILE *out = fopen(result, "wb");
    if (out == NULL)
        return luaL_error(L, "cannot write %s", result);
    int failed = lua_dump(L, write_bytes, out, 0);
    if (fclose(out) != 0 || failed)
        return luaL_error(L, "cannot write %s", result);
    return 0;
}

int main(int argc, char **argv)
{
    lua_State *L = luaL_newstate();
    if (L == NULL)
        return EXIT_FAILURE;
    for (int i = 1; i + 2 < argc; i += 3) {
        lua_pushcfunction(L, compile);
        for (int word = 0; word < 3; word++)
            lua_pushstring(L, argv[i + word]);
        if (lua_pcall(L, 3, 0, 0) != LUA_OK) {
            fprintf(stderr, "%s\n", lua_tostring(L, -1));
            return EXIT_FAILURE;
        }
    }
    lua_close(L);
    return EXIT_SUCCESS;
}
