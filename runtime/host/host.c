// The host: a Lua state with kiln's modules in it, and the program that runs there.
#include "host/host.h"

#include "bridge/sched.h"

#include <lauxlib.h>
#include <lualib.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

// The command line is Lua: kiln.cli.main(argv) returns the exit status.
static int start(lua_State *L)
{
    int argc = (int)lua_tointeger(L, 1);
    char **argv = lua_touserdata(L, 2);
    luaL_openlibs(L);
    kl_host_modules(L);
    lua_getglobal(L, "require");
    lua_pushliteral(L, "kiln.cli.main");
    lua_call(L, 1, 1);
    lua_createtable(L, argc, 0);
    for (int i = 0; i < argc; i++) {
        lua_pushstring(L, argv[i]);
        lua_rawseti(L, -2, i);
    }
    int results = kl_sched_run(L, 1);
    if (!lua_toboolean(L, -results))
        return lua_error(L); // the error is on top
    return 1;
}

static int report(lua_State *L)
{
    const char *text = NULL;
    if (lua_istable(L, -1)) {
        lua_getfield(L, -1, "message");
        lua_getfield(L, -2, "traceback");
        text =
            lua_pushfstring(L, "%s\n%s", luaL_tolstring(L, -2, NULL), luaL_tolstring(L, -2, NULL));
    } else {
        text = luaL_tolstring(L, -1, NULL);
    }
    fprintf(stderr, "kiln: internal error: %s\n", text);
    return 1;
}

static void close_handle(uv_handle_t *handle, void *unused)
{
    (void)unused;
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

// Closes the state, lets close callbacks run, then frees the loop.
static void finish(lua_State *L, kl_sched *sched, uv_loop_t *loop)
{
    lua_close(L);
    uv_run(loop, UV_RUN_NOWAIT);
    uv_walk(loop, close_handle, NULL);
    uv_run(loop, UV_RUN_DEFAULT);
    uv_loop_close(loop);
    kl_sched_free(sched);
}

int kl_host_main(int argc, char **argv)
{
    uv_loop_t loop;
    lua_State *L = luaL_newstate();
    if (L == NULL || uv_loop_init(&loop) != 0) {
        fprintf(stderr, "kiln: out of memory\n");
        return 1;
    }
    signal(SIGPIPE, SIG_IGN); // a peer that went away is an error of that write, not our end
    kl_sched *sched = kl_sched_new(L, &loop);
    if (sched == NULL) {
        fprintf(stderr, "kiln: out of memory\n");
        return 1;
    }
    lua_pushcfunction(L, start);
    lua_pushinteger(L, argc);
    lua_pushlightuserdata(L, argv);
    int status = 1;
    if (lua_pcall(L, 2, 1, 0) == LUA_OK)
        status = (int)lua_tointeger(L, -1);
    else
        report(L);
    finish(L, sched, &loop);
    return status;
}
