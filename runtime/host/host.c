// The host: a Lua state with kiln's modules in it, and the program that runs there.
#include "host/host.h"

#include "base/ending.h"
#include "bridge/coroutine.h"
#include "bridge/sched.h"
#include "host/streams.h"

#include <lauxlib.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

enum { FEWEST_DESCRIPTORS = 10 };

// The command line is Lua: kiln.cli.main(argv) returns the exit status.
static int start(lua_State *L)
{
    int argc = (int)lua_tointeger(L, 1);
    char **argv = lua_touserdata(L, 2);
    // `kiln lua` runs a program of the user's, the rest is kiln's.
    kl_host_libraries(L, argc > 1 && strcmp(argv[1], "lua") == 0);
    kl_coroutine_open(L);
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

// Makes a text of any error.
static int describe(lua_State *L)
{
    if (lua_istable(L, -1)) {
        lua_getfield(L, -1, "message");
        lua_getfield(L, -2, "traceback");
        const char *message = luaL_tolstring(L, -2, NULL);
        lua_pushfstring(L, "%s\n%s", message, luaL_tolstring(L, -2, NULL));
    } else {
        luaL_tolstring(L, -1, NULL);
    }
    return 1;
}

// Reports the error on top of the stack. Takes no memory where there is none.
static void report(lua_State *L)
{
    const char *plain = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "";
    bool starved = strcmp(plain, "not enough memory") == 0;
    if (!starved) {
        lua_pushcfunction(L, describe);
        lua_insert(L, -2);
        starved = lua_pcall(L, 1, 1, 0) == LUA_ERRMEM;
    }
    if (starved)
        fputs("kiln: out of memory; a run that was going on can be resumed: kiln runs\n", stderr);
    else
        fprintf(stderr, "kiln: internal error: %s\n", lua_tostring(L, -1));
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

static int cannot_start(int code)
{
    fprintf(stderr, "kiln: cannot start: %s\n", uv_strerror(code));
    return 1;
}

// libuv aborts when it has no descriptors for itself.
static bool has_descriptors(void)
{
    struct rlimit limit;
    return getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= FEWEST_DESCRIPTORS;
}

int kl_host_main(int argc, char **argv)
{
    kl_core_dump(false);
    kl_ending_abort();
    kl_streams_begin();
    uv_loop_t loop;
    int code = has_descriptors() ? uv_loop_init(&loop) : UV_EMFILE;
    if (code != 0)
        return cannot_start(code);
    lua_State *L = luaL_newstate();
    kl_sched *sched = L != NULL ? kl_sched_new(L, &loop) : NULL;
    if (sched == NULL) {
        if (L != NULL)
            lua_close(L);
        uv_loop_close(&loop);
        return cannot_start(UV_ENOMEM);
    }
    signal(SIGPIPE, SIG_IGN); // a peer that went away is an error of that write, not our end
    lua_pushcfunction(L, start);
    lua_pushinteger(L, argc);
    lua_pushlightuserdata(L, argv);
    int status = 1;
    if (lua_pcall(L, 2, 1, 0) == LUA_OK)
        status = (int)lua_tointeger(L, -1);
    else
        report(L);
    finish(L, sched, &loop);
    return kl_streams_end(status);
}
