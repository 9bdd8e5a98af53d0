// Calls the machine helper (`kiln __machine VERB`) and reads its answer.
#include "prim/machine_call.h"

#include "bridge/fail.h"
#include "bridge/op.h"
#include "bridge/opts.h"
#include "bridge/scratch.h"
#include "bridge/values.h"
#include "io/process.h"
#include "io/route.h"

#include <lauxlib.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define FAMILY "rt.machine.family"

typedef struct call_op {
    kl_op op;
    kl_process *process; // NULL: did not start, or was left
    const kl_machine_verb *verb;
    kl_failure failure;
} call_op;

static int family_gc(lua_State *L)
{
    kl_process_kill_family(lua_touserdata(L, 1));
    return 0;
}

void kl_machine_open(lua_State *L)
{
    if (lua_getfield(L, LUA_REGISTRYINDEX, FAMILY) == LUA_TNIL) {
        kl_process_family *family = lua_newuserdatauv(L, sizeof *family, 0);
        *family = (kl_process_family){0};
        lua_createtable(L, 0, 1);
        lua_pushcfunction(L, family_gc);
        lua_setfield(L, -2, "__gc");
        lua_setmetatable(L, -2);
        lua_setfield(L, LUA_REGISTRYINDEX, FAMILY);
    }
    lua_pop(L, 1);
}

static kl_process_family *family_of(lua_State *L)
{
    lua_getfield(L, LUA_REGISTRYINDEX, FAMILY);
    kl_process_family *family = lua_touserdata(L, -1);
    lua_pop(L, 1);
    return family;
}

// A cancelled call is left, not undone: the helper ignores SIGTERM and has the time to finish.
static void call_release(kl_op *op)
{
    call_op *self = (call_op *)op;
    if (self->process != NULL)
        kl_process_release(self->process);
    self->process = NULL;
}

static void call_notified(void *context)
{
    call_op *self = context;
    if (kl_process_ended(self->process) != NULL)
        kl_op_settle(&self->op);
}

static bool is_number(const char *name)
{
    return strcmp(name, "created") == 0 || strcmp(name, "bytes") == 0 || strcmp(name, "count") == 0;
}

// Sets one field of the row on the top. [-0, +0, e]
static void set_field(lua_State *L, const char *name, const char *value)
{
    if (strcmp(name, "ok") == 0 || strcmp(name, "warning") == 0)
        lua_pushboolean(L, strcmp(value, "yes") == 0);
    else if (is_number(name))
        lua_pushinteger(L, strtoll(value, NULL, 10));
    else if (strcmp(name, "remedy") == 0 && value[0] == '\0')
        lua_pushnil(L);
    else
        lua_pushstring(L, value);
    lua_setfield(L, -2, name);
}

// Pushes the list of the answer's rows. What was cut off is left out. [-0, +1, e]
static void push_rows(lua_State *L, const kl_buf *answer)
{
    const char *at = kl_buf_text(answer), *end = at + answer->length;
    lua_newtable(L);
    kl_array_mark(L, -1);
    lua_newtable(L);
    while (at < end) {
        const char *value = at + strlen(at) + 1;
        if (at[0] == '\0') {
            lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
            lua_newtable(L);
            at = value;
            continue;
        }
        if (value >= end)
            break;
        set_field(L, at, value);
        at = value + strlen(value) + 1;
    }
    lua_pop(L, 1);
}

// The rows are on the top. [-1, +(1|2), e]
static int answer_with(lua_State *L, const call_op *self, const kl_process_result *result)
{
    lua_rawgeti(L, -1, 1);
    bool has_row = lua_istable(L, -1);
    if (has_row && lua_getfield(L, -1, "error") == LUA_TSTRING) {
        lua_getfield(L, -2, "message");
        return kl_fail_as(L, lua_tostring(L, -2), "%s", luaL_optstring(L, -1, "no message"));
    }
    lua_settop(L, has_row ? -2 : -1);
    if (result->code != 0)
        return kl_fail_as(L, "io", "the machine helper ended in '%s' (status %d, signal %d): %s",
                          self->verb->name, result->code, result->signal,
                          kl_buf_text(&result->err));
    if (self->verb->answer == KL_MACHINE_ROWS)
        lua_pop(L, 1);
    else if (self->verb->answer == KL_MACHINE_COUNT)
        lua_getfield(L, -1, "count");
    else if (!has_row)
        lua_pushboolean(L, 1);
    return 1;
}

static int call_push(lua_State *L, kl_op *op)
{
    call_op *self = (call_op *)op;
    if (self->process == NULL)
        return kl_fail(L, &self->failure);
    const kl_process_result *result = kl_process_ended(self->process);
    if (result->timed_out)
        return kl_fail_as(L, "timeout", "'%s' of local machines did not end within %g s",
                          self->verb->name, self->verb->timeout);
    push_rows(L, &result->out);
    return answer_with(L, self, result);
}

static const kl_op_class call_class = {"machine.call", call_release, call_push, call_release};

static void add_option(lua_State *L, kl_opts *opts, kl_buf *request, const char *name)
{
    bool needed = name[0] == '!';
    size_t length;
    name += needed;
    const char *value = kl_opts_bytes(opts, name, &length);
    if (value == NULL && needed)
        luaL_error(L, "option '%s' is missing", name);
    if (value == NULL)
        return;
    if (memchr(value, '\0', length) != NULL)
        luaL_error(L, "option '%s' must not have a zero byte", name);
    kl_buf_append(request, name, strlen(name) + 1);
    kl_buf_append(request, value, length);
    kl_buf_append(request, "", 1);
}

// Seconds that the verb may take on top of its own time. [-0, +0, e]
static double add_within(lua_State *L, kl_opts *opts, kl_buf *request)
{
    lua_Number within = kl_opts_number(opts, "within", 30);
    if (!(within >= 0 && within < 1e6))
        luaL_error(L, "option 'within' must be seconds from 0");
    kl_buf_append(request, "within", sizeof "within");
    kl_buf_printf(request, "%g", within);
    kl_buf_append(request, "", 1);
    return within;
}

// Reads the options into the request, which is left on the stack. [-0, +1, e]
static double read_request(lua_State *L, const kl_machine_verb *verb, kl_buf **out)
{
    kl_opts opts;
    double more = 0;
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    *out = kl_scratch_secret(L); // user-data has a machine's keys
    kl_opts_begin(L, 1, &opts);
    add_option(L, &opts, *out, "!dir");
    kl_route_add((*out)->data + sizeof "dir"); // its value follows its name
    for (size_t i = 0; i < sizeof verb->options / sizeof verb->options[0]; i++) {
        if (verb->options[i] == NULL)
            break;
        if (strcmp(verb->options[i], "within") == 0)
            more = add_within(L, &opts, *out);
        else
            add_option(L, &opts, *out, verb->options[i]);
    }
    kl_opts_end(&opts);
    return more;
}

int kl_machine_call(lua_State *L, const kl_machine_verb *verb)
{
    // Its own program, by what the kernel knows of it: the file may have been replaced meanwhile.
    char *const argv[] = {(char *)(uintptr_t) "/proc/self/exe", (char *)(uintptr_t) "__machine",
                          (char *)(uintptr_t)verb->name, NULL};
    kl_buf *request;
    double within = read_request(L, verb, &request);
    call_op *self = kl_op_new(L, sizeof *self, &call_class);
    self->verb = verb;
    kl_process_config config = {.argv = argv,
                                .input = request->data,
                                .input_length = request->length,
                                .timeout_ms = (uint64_t)ceil((verb->timeout + within) * 1e3),
                                .grace_ms = 10000,
                                .max_output = 16 << 20,
                                .notify = call_notified,
                                .context = self};
    self->process = kl_process_start(kl_loop(L), family_of(L), &config, &self->failure);
    kl_scratch_wipe(request);
    if (self->process == NULL)
        kl_op_settle(&self->op);
    return kl_op_wait(L, &self->op);
}
