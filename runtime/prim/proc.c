// rt.proc: local programs by their arguments (no shell), signals to kiln, and who kiln is.
#include "prim/proc.h"

#include "prim/prims.h"

#include "bridge/fail.h"
#include "bridge/op.h"
#include "bridge/own.h"
#include "bridge/scratch.h"
#include "io/process.h"
#include "io/process_info.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct run_op {
    kl_op op;
    kl_process *process; // NULL: did not start, or was cancelled
    uint64_t timeout_ms;
    kl_failure failure;
    char program[128];
} run_op;

static void run_notified(void *context)
{
    run_op *self = context;
    if (kl_process_ended(self->process) != NULL)
        kl_op_settle(&self->op);
}

static void run_release(kl_op *op)
{
    run_op *self = (run_op *)op;
    if (self->process != NULL)
        kl_process_release(self->process);
    self->process = NULL;
}

static int run_push(lua_State *L, kl_op *op)
{
    run_op *self = (run_op *)op;
    if (self->process == NULL)
        return kl_fail(L, &self->failure);
    return kl_proc_push(L, kl_process_ended(self->process), self->program, self->timeout_ms);
}

static const kl_op_class run_class = {"proc.run", run_release, run_push, run_release};

static int proc_run(lua_State *L)
{
    kl_process_config config;
    kl_proc_config(L, &config);
    run_op *self = kl_op_new(L, sizeof *self, &run_class);
    config.notify = run_notified;
    config.context = self;
    self->timeout_ms = config.timeout_ms;
    strncpy(self->program, config.argv[0], sizeof self->program - 1);
    self->process = kl_process_start(kl_loop(L), kl_proc_family(L), &config, &self->failure);
    if (self->process == NULL)
        kl_op_settle(&self->op);
    return kl_op_wait(L, &self->op);
}

typedef struct child {
    kl_process *process; // NULL: closed
    struct child_op *waiting;
    uint64_t timeout_ms;
    int pid;
    char program[128];
} child;

typedef struct child_op {
    kl_op op;
    child *child; // its object is on the waiting stack; NULL once unlinked
    struct child_op *next;
    bool line;
} child_op;

// Takes the next line if there is one. [-0, +(0|2), e]
static bool push_line(lua_State *L, child *self)
{
    int stream;
    kl_buf *text = kl_scratch(L);
    if (!kl_process_take_line(self->process, text, &stream)) {
        lua_pop(L, 1);
        return false;
    }
    kl_scratch_push(L, text);
    lua_pushstring(L, stream == KL_PROCESS_OUT ? "out" : "err");
    return true;
}

static void child_notified(void *context)
{
    child *self = context;
    bool ended = kl_process_ended(self->process) != NULL;
    for (child_op *op = self->waiting; op != NULL; op = op->next) {
        if (ended || op->line)
            kl_op_settle(&op->op);
    }
}

static void child_close(void *object)
{
    child *self = object;
    if (self->process != NULL)
        kl_process_release(self->process);
    self->process = NULL;
    for (child_op *op = self->waiting; op != NULL; op = op->next)
        kl_op_settle(&op->op);
}

static void child_unlink(kl_op *op)
{
    child_op *self = (child_op *)op;
    if (self->child == NULL)
        return;
    child_op **at = &self->child->waiting;
    while (*at != NULL && *at != self)
        at = &(*at)->next;
    if (*at != NULL)
        *at = self->next;
    self->child = NULL;
}

static int child_push(lua_State *L, kl_op *op)
{
    child_op *self = (child_op *)op;
    child *of = self->child;
    bool line = self->line;
    child_unlink(op);
    if (of->process == NULL)
        return line ? 0 : kl_fail_as(L, "cancelled", "%s was closed", of->program);
    if (line)
        return push_line(L, of) ? 2 : 0;
    return kl_proc_push(L, kl_process_ended(of->process), of->program, of->timeout_ms);
}

static const kl_op_class child_op_class = {"proc.Child", child_unlink, child_push, child_unlink};

static int child_read_line(lua_State *L);
static int child_wait(lua_State *L);
static int child_kill(lua_State *L);
static int child_pid(lua_State *L);

static const luaL_Reg proc_child_methods[] = {{"read_line", child_read_line},
                                              {"wait", child_wait},
                                              {"kill", child_kill},
                                              {"pid", child_pid},
                                              {NULL, NULL}};
static const kl_own_class child_class = {"rt.proc.child", proc_child_methods, child_close};

static int wait_for(lua_State *L, child *self, bool line)
{
    lua_settop(L, 1); // the child's object stays while we wait
    for (child_op *other = self->waiting; line && other != NULL; other = other->next) {
        if (other->line)
            luaL_error(L, "another task reads the lines of %s", self->program);
    }
    child_op *op = kl_op_new(L, sizeof *op, &child_op_class);
    op->line = line;
    op->child = self;
    op->next = self->waiting;
    self->waiting = op;
    bool more = self->process != NULL && kl_process_ended(self->process) == NULL;
    if (!more || (line && kl_process_has_line(self->process)))
        kl_op_settle(&op->op);
    return kl_op_wait(L, &op->op);
}

static int child_read_line(lua_State *L)
{
    return wait_for(L, kl_own_check(L, 1, &child_class), true);
}

static int child_wait(lua_State *L)
{
    child *self = kl_own_check(L, 1, &child_class);
    if (self->process != NULL)
        kl_process_drain(self->process);
    return wait_for(L, self, false);
}

static int child_kill(lua_State *L)
{
    child *self = kl_own_check(L, 1, &child_class);
    int number = kl_signal_number(luaL_optstring(L, 2, "TERM"));
    luaL_argcheck(L, number > 0, 2, "no such signal");
    if (self->process != NULL)
        kl_process_signal(self->process, number);
    return 0;
}

static int child_pid(lua_State *L)
{
    lua_pushinteger(L, ((child *)kl_own_check(L, 1, &child_class))->pid);
    return 1;
}

static int proc_start(lua_State *L)
{
    kl_process_config config;
    kl_proc_config(L, &config);
    child *self = kl_own_new(L, sizeof *self, &child_class);
    config.lines = true;
    config.notify = child_notified;
    config.context = self;
    self->timeout_ms = config.timeout_ms;
    strncpy(self->program, config.argv[0], sizeof self->program - 1);
    kl_failure failure;
    self->process = kl_process_start(kl_loop(L), kl_proc_family(L), &config, &failure);
    if (self->process == NULL)
        return kl_fail(L, &failure);
    self->pid = kl_process_pid(self->process);
    return 1;
}

typedef struct signal_op {
    kl_op op;
    uv_signal_t handle;
} signal_op;

static void signal_closed(uv_handle_t *handle)
{
    kl_op_drop(handle->data);
}

static void signal_cancel(kl_op *op)
{
    uv_close((uv_handle_t *)&((signal_op *)op)->handle, signal_closed);
}

static void signal_came(uv_signal_t *handle, int number)
{
    (void)number;
    signal_cancel(handle->data);
    kl_op_settle(handle->data);
}

static int signal_push(lua_State *L, kl_op *op)
{
    (void)op;
    lua_pushboolean(L, 1);
    return 1;
}

static const kl_op_class signal_class = {"proc.signal", signal_cancel, signal_push, NULL};

static int proc_signal(lua_State *L)
{
    int number = kl_signal_number(luaL_checkstring(L, 1));
    luaL_argcheck(L, number > 0 && number != SIGKILL && number != SIGSTOP, 1,
                  "no signal that can be waited for");
    signal_op *self = kl_op_new(L, sizeof *self, &signal_class);
    kl_op_idle(&self->op);
    uv_signal_init(kl_loop(L), &self->handle);
    self->handle.data = kl_op_hold(&self->op);
    uv_signal_start(&self->handle, signal_came, number);
    return kl_op_wait(L, &self->op);
}

static void set_text(lua_State *L, const char *key, const char *value)
{
    lua_pushstring(L, value);
    lua_setfield(L, -2, key);
}

static void set_integer(lua_State *L, const char *key, lua_Integer value)
{
    lua_pushinteger(L, value);
    lua_setfield(L, -2, key);
}

static int proc_info(lua_State *L)
{
    kl_process_info info;
    kl_process_info_read(&info);
    lua_createtable(L, 0, 9);
    set_integer(L, "pid", info.pid);
    set_integer(L, "ppid", info.ppid);
    set_integer(L, "uid", info.uid);
    set_integer(L, "start_time", info.start_time);
    set_text(L, "host", info.host);
    set_text(L, "user", info.user);
    set_text(L, "exe", info.exe);
    set_text(L, "boot_id", info.boot_id);
    set_text(L, "pid_namespace", info.pid_namespace);
    return 1;
}

static int proc_alive(lua_State *L)
{
    lua_Integer pid = luaL_checkinteger(L, 1);
    luaL_argcheck(L, pid > 0 && pid <= 0x7FFFFFFF, 1, "no process id");
    int64_t start_time = kl_process_start_time((int)pid);
    bool same = lua_isnoneornil(L, 2) || luaL_checkinteger(L, 2) == start_time;
    lua_pushboolean(L, start_time > 0 && same);
    return 1;
}

static int proc_getenv(lua_State *L)
{
    lua_pushstring(L, getenv(luaL_checkstring(L, 1))); // nil for NULL
    return 1;
}

static int proc_environ(lua_State *L)
{
    lua_newtable(L);
    for (char **at = environ; *at != NULL; at++) {
        const char *equals = strchr(*at, '=');
        if (equals == NULL)
            continue;
        lua_pushlstring(L, *at, (size_t)(equals - *at));
        lua_pushstring(L, equals + 1);
        lua_rawset(L, -3);
    }
    return 1;
}

static const luaL_Reg proc_functions[] = {{"run", proc_run},
                                          {"start", proc_start},
                                          {"signal", proc_signal},
                                          {"info", proc_info},
                                          {"alive", proc_alive},
                                          {"getenv", proc_getenv},
                                          {"environ", proc_environ},
                                          {"interrupts", kl_proc_interrupts},
                                          {NULL, NULL}};

KL_PRIM(proc)
{
    kl_proc_family(L);
    luaL_newlib(L, proc_functions);
    return 1;
}
