// rt.proc's options and results.
#include "prim/proc.h"

#include "bridge/fail.h"
#include "bridge/opts.h"
#include "bridge/words.h"
#include "io/process_info.h"

#include <lauxlib.h>
#include <math.h>

static uint64_t milliseconds(lua_State *L, kl_opts *opts, const char *key, lua_Number otherwise)
{
    lua_Number seconds = kl_opts_number(opts, key, otherwise);
    if (!(seconds >= 0))
        luaL_error(L, "option '%s' must be seconds from 0", key);
    return seconds < 1e9 ? (uint64_t)ceil(seconds * 1e3) : 0;
}

void kl_proc_config(lua_State *L, kl_process_config *out)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    kl_opts opts;
    kl_opts_begin(L, 1, &opts);
    *out = (kl_process_config){0};
    out->cwd = kl_opts_string(&opts, "cwd", NULL);
    out->input = kl_opts_bytes(&opts, "stdin", &out->input_length);
    out->timeout_ms = milliseconds(L, &opts, "timeout", 300);
    out->grace_ms = milliseconds(L, &opts, "grace", 2);
    out->inherit = kl_opts_boolean(&opts, "inherit", false);
    lua_Integer max_output = kl_opts_integer(&opts, "max_output", 1 << 20);
    if (max_output < 0 || max_output > 1 << 30)
        luaL_error(L, "option 'max_output' must be between 0 and 1 GiB");
    out->max_output = (size_t)max_output;
    bool clear = kl_opts_boolean(&opts, "clear_env", false);
    if (!kl_opts_table(&opts, "argv") || luaL_len(L, -1) == 0)
        luaL_error(L, "option 'argv' must be a list: the program and its arguments");
    int argv = lua_gettop(L);
    int env = kl_opts_table(&opts, "env") ? lua_gettop(L) : 0;
    kl_opts_end(&opts);

    out->argv = kl_words_push(L, argv, "every word of argv");
    if (env != 0 || clear) {
        kl_environment_push(L, env, clear);
        out->env = kl_words_push(L, lua_gettop(L), "every variable");
    }
    if (out->inherit && out->input != NULL)
        luaL_error(L, "options 'inherit' and 'stdin' exclude each other");
}

static void set_bytes(lua_State *L, const char *key, const kl_buf *bytes)
{
    lua_pushlstring(L, kl_buf_text(bytes), bytes->length);
    lua_setfield(L, -2, key);
}

static void set_output(lua_State *L, const kl_process_result *result)
{
    set_bytes(L, "out", &result->out);
    set_bytes(L, "err", &result->err);
    lua_pushboolean(L, result->truncated);
    lua_setfield(L, -2, "truncated");
}

int kl_proc_push(lua_State *L, const kl_process_result *result, const char *program,
                 uint64_t timeout_ms)
{
    if (result->timed_out) {
        kl_fail_as(L, "timeout", "%s did not end within %g s and was stopped", program,
                   (double)timeout_ms / 1e3);
        set_output(L, result);
        return 2;
    }
    lua_createtable(L, 0, 5);
    if (result->signal != 0) {
        lua_pushstring(L, kl_signal_name(result->signal));
        lua_setfield(L, -2, "signal");
    } else {
        lua_pushinteger(L, result->code);
        lua_setfield(L, -2, "code");
    }
    set_output(L, result);
    return 1;
}
