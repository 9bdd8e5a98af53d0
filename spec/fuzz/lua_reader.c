// lua_reader: fuzzes a reader that is reached through Lua; readers.lua has what must hold for it.
#include "host/host.h"

#include "bridge/coroutine.h"
#include "bridge/sched.h"

#include <lauxlib.h>
#include <lualib.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

enum { COUNTERS = 8192, COLLECT_EVERY = 1024, MOST_KIB = 64 * 1024 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);

// libFuzzer reads this section beside its own counters: which steps between lines of Lua were
// taken.
__attribute__((section("__libfuzzer_extra_counters"))) static uint8_t counters[COUNTERS];

// Of LeakSanitizer, where that is linked.
__attribute__((weak)) int __lsan_do_recoverable_leak_check(void);

// kl_bcrypt_kdf of an encrypted key takes up to a minute.
void __wrap_kl_bcrypt_kdf(void);
void __wrap_kl_bcrypt_kdf(void)
{
    abort(); // no Lua reader opens keys
}

static void count_line(lua_State *L, lua_Debug *at)
{
    static uint32_t before;
    lua_getinfo(L, "S", at);
    uint32_t here = (uint32_t)at->currentline * 31;
    for (const char *c = at->short_src; *c != '\0'; c++)
        here = here * 33 + (uint8_t)*c;
    counters[(here ^ before) % COUNTERS]++;
    before = here >> 1;
}

static lua_State *open_state(void)
{
    static uv_loop_t loop;
    lua_State *L = luaL_newstate();
    if (L == NULL || uv_loop_init(&loop) != 0 || kl_sched_new(L, &loop) == NULL)
        abort();
    kl_host_libraries(L, false);
    kl_coroutine_open(L);
    kl_host_modules(L);
    if (luaL_dofile(L, KL_FUZZ_READERS) != LUA_OK) {
        fprintf(stderr, "%s\n", lua_tostring(L, -1));
        abort();
    }
    lua_getfield(L, -1, KL_FUZZ_READER); // stays at the bottom
    lua_replace(L, 1);
    lua_settop(L, 1);
    lua_sethook(L, count_line, LUA_MASKLINE, 0);
    return L;
}

static int with_traceback(lua_State *L)
{
    luaL_traceback(L, L, luaL_tolstring(L, 1, NULL), 1);
    return 1;
}

// A reader that keeps what it read, or loses it, shows here. libFuzzer's own check after each run
// would look through all of Lua's memory every time.
static void check_memory(lua_State *L)
{
    static unsigned runs;
    if (++runs % COLLECT_EVERY != 0)
        return;
    lua_gc(L, LUA_GCCOLLECT);
    int kib = lua_gc(L, LUA_GCCOUNT);
    if (kib >= MOST_KIB) {
        fprintf(stderr, "Lua holds %d KiB after a collection\n", kib);
        abort();
    }
    if (__lsan_do_recoverable_leak_check != NULL && __lsan_do_recoverable_leak_check() != 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
    static lua_State *L;
    if (L == NULL)
        L = open_state();
    lua_pushcfunction(L, with_traceback);
    lua_pushvalue(L, 1);
    lua_pushlstring(L, (const char *)data, length);
    if (lua_pcall(L, 1, 0, 2) != LUA_OK) {
        fprintf(stderr, "%s\n", lua_tostring(L, -1));
        abort();
    }
    lua_settop(L, 1);
    check_memory(L);
    return 0;
}
