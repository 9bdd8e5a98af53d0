// rt.exec: commands on an SSH session, as a whole or line by line.
#include "bridge/fail.h"
#include "bridge/op.h"
#include "bridge/opts.h"
#include "bridge/own.h"
#include "io/ssh_channel.h"
#include "io/ssh_output.h"
#include "io/ssh_shell.h"
#include "prim/prims.h"
#include "prim/ssh.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>

#define LINES_PAUSE ((size_t)1024 * 1024)
#define LINES_RESUME ((size_t)256 * 1024)

// A command and what is known of it.
typedef struct exec_process {
    kl_ssh_channel *io; // NULL before the start and after the end
    kl_ssh_output output;
    kl_buf input;
    size_t input_at;
    FILE *file; // input behind that of the buffer; NULL: none
    kl_ssh_exit exit;
    kl_failure failure;
    bool ended;
    void (*changed)(struct exec_process *process); // there are lines, or it ended
} exec_process;

typedef struct run_op {
    kl_op op;
    exec_process process;
} run_op;

typedef struct wait_op {
    kl_op op;
    struct exec_channel *channel; // NULL once it was closed
    struct wait_op *next;
    bool for_line; // else for the end
} wait_op;

typedef struct exec_channel {
    exec_process process;
    wait_op *waiters;
} exec_channel;

static void process_data(void *ctx, kl_ssh_stream stream, const char *bytes, size_t length)
{
    exec_process *process = ctx;
    kl_ssh_output_add(&process->output, stream, bytes, length);
    if (kl_ssh_output_waiting(&process->output) > LINES_PAUSE)
        kl_ssh_channel_pause(process->io, true);
    process->changed(process);
}

static ssize_t process_pull(void *ctx, char *out, size_t size, kl_failure *out_failure)
{
    exec_process *process = ctx;
    size_t left = process->input.length - process->input_at;
    if (left == 0 && process->file != NULL) {
        size_t got = fread(out, 1, size, process->file);
        if (got == 0 && ferror(process->file) != 0) {
            kl_failure_errno(out_failure, EIO, "reading the command's input");
            return -1;
        }
        return (ssize_t)got;
    }
    if (left > size)
        left = size;
    if (left > 0)
        memcpy(out, process->input.data + process->input_at, left);
    process->input_at += left;
    return (ssize_t)left;
}

static void process_done(void *ctx, const kl_ssh_exit *exit, const kl_failure *failure)
{
    exec_process *process = ctx;
    process->io = NULL;
    process->ended = true;
    kl_ssh_output_end(&process->output);
    if (failure != NULL)
        process->failure = *failure;
    else
        process->exit = *exit;
    process->changed(process);
}

static const kl_ssh_channel_events with_input = {process_data, process_pull, process_done, NULL};
static const kl_ssh_channel_events without_input = {process_data, NULL, process_done, NULL};

// Stops listening and frees what it kept. May run twice.
static void process_free(exec_process *process)
{
    if (process->io != NULL)
        kl_ssh_channel_close(process->io);
    process->io = NULL;
    if (process->file != NULL)
        fclose(process->file);
    process->file = NULL;
    if (process->input.data != NULL)
        OPENSSL_cleanse(process->input.data, process->input.capacity);
    kl_buf_free(&process->input);
    kl_ssh_output_free(&process->output);
}

typedef struct exec_options {
    const char *input;
    size_t input_length;
    const char *file; // NULL: none
    bool pty;
    lua_Number timeout;
    size_t max_output;
} exec_options;

static void read_options(lua_State *L, exec_options *out)
{
    kl_opts opts;
    kl_opts_begin(L, 3, &opts);
    out->input = kl_opts_bytes(&opts, "stdin", &out->input_length);
    out->file = kl_opts_string(&opts, "stdin_file", NULL);
    out->pty = kl_opts_boolean(&opts, "pty", false);
    out->timeout = kl_opts_number(&opts, "timeout", 300);
    luaL_argcheck(L, out->timeout > 0 && out->timeout < 1e9, 3,
                  "option 'timeout' must be more than 0 seconds");
    lua_Integer max = kl_opts_integer(&opts, "max_output", 1024 * 1024);
    luaL_argcheck(L, max >= 0 && max <= 256 * 1024 * 1024, 3,
                  "option 'max_output' must be from 0 to 256 MiB");
    out->max_output = (size_t)max;
    kl_opts_end(&opts);
}

// False: process->failure says why.
static bool process_start(exec_process *process, kl_ssh_session *session, const char *command,
                          const exec_options *options)
{
    process->output.max = options->max_output;
    if (options->pty && !kl_ssh_shell_fits(command)) {
        kl_failure_set(&process->failure, "invalid", 0,
                       "a command of %zu bytes is too long for a terminal; upload it as a script",
                       strlen(command));
        process->ended = true;
        return false;
    }
    if (options->file != NULL)
        process->file = fopen(options->file, "rbe");
    if (options->file != NULL && process->file == NULL) {
        kl_failure_errno(&process->failure, errno, options->file);
        process->ended = true;
        return false;
    }
    bool input = options->input_length > 0 || process->file != NULL;
    kl_buf_append(&process->input, options->input != NULL ? options->input : "",
                  options->input_length);
    process->io =
        kl_ssh_channel_exec(session, command, options->timeout,
                            input ? &with_input : &without_input, process, &process->failure);
    process->ended = process->io == NULL;
    if (options->pty && process->io != NULL)
        kl_ssh_channel_want_pty(process->io);
    return !process->ended;
}

static int push_result(lua_State *L, const exec_process *process)
{
    if (kl_failed(&process->failure)) {
        int pushed = kl_fail(L, &process->failure);
        lua_pushlstring(L, kl_buf_text(&process->output.streams[0]),
                        process->output.streams[0].length);
        lua_setfield(L, -2, "out");
        lua_pushlstring(L, kl_buf_text(&process->output.streams[1]),
                        process->output.streams[1].length);
        lua_setfield(L, -2, "err");
        return pushed;
    }
    lua_createtable(L, 0, 5);
    lua_pushinteger(L, process->exit.code);
    lua_setfield(L, -2, "code");
    if (process->exit.signal[0] != '\0') {
        lua_pushstring(L, process->exit.signal);
        lua_setfield(L, -2, "signal");
    }
    lua_pushlstring(L, kl_buf_text(&process->output.streams[0]), process->output.streams[0].length);
    lua_setfield(L, -2, "out");
    lua_pushlstring(L, kl_buf_text(&process->output.streams[1]), process->output.streams[1].length);
    lua_setfield(L, -2, "err");
    lua_pushboolean(L, process->output.truncated);
    lua_setfield(L, -2, "truncated");
    return 1;
}

static void run_changed(exec_process *process)
{
    run_op *self = (run_op *)((char *)process - offsetof(run_op, process));
    if (process->ended)
        kl_op_settle(&self->op);
}

static void run_release(kl_op *op)
{
    process_free(&((run_op *)op)->process);
}

static int run_push(lua_State *L, kl_op *op)
{
    return push_result(L, &((run_op *)op)->process);
}

static const kl_op_class run_class = {"exec.run", run_release, run_push, run_release};

// A command is a C string on its way: one with a zero byte would lose what follows it.
static const char *check_command(lua_State *L)
{
    size_t length;
    const char *command = luaL_checklstring(L, 2, &length);
    luaL_argcheck(L, strlen(command) == length, 2, "a command cannot have a zero byte");
    return command;
}

static int exec_run(lua_State *L)
{
    kl_ssh_session *session = kl_ssh_check(L, 1);
    const char *command = check_command(L);
    exec_options options;
    read_options(L, &options);
    run_op *self = kl_op_new(L, sizeof *self, &run_class);
    self->process.changed = run_changed;
    if (!process_start(&self->process, session, command, &options))
        kl_op_settle(&self->op);
    return kl_op_wait(L, &self->op);
}

static void wait_unlink(wait_op *self)
{
    if (self->channel == NULL)
        return;
    for (wait_op **at = &self->channel->waiters; *at != NULL; at = &(*at)->next) {
        if (*at == self) {
            *at = self->next;
            break;
        }
    }
    self->channel = NULL;
}

static void channel_changed(exec_process *process)
{
    exec_channel *channel = (exec_channel *)process;
    bool line = kl_ssh_output_waiting(&process->output) > 0;
    for (wait_op *at = channel->waiters; at != NULL; at = at->next)
        if (process->ended || (line && at->for_line))
            kl_op_settle(&at->op);
}

static void channel_close(void *self)
{
    exec_channel *channel = self;
    while (channel->waiters != NULL) {
        wait_op *waiter = channel->waiters;
        wait_unlink(waiter);
        kl_op_settle(&waiter->op);
    }
    process_free(&channel->process);
    if (!channel->process.ended) {
        channel->process.ended = true;
        kl_failure_set(&channel->process.failure, "cancelled", 0, "the channel was closed");
    }
}

static int channel_read_line(lua_State *L);
static int channel_result(lua_State *L);

static const luaL_Reg exec_channel_methods[] = {
    {"read_line", channel_read_line}, {"result", channel_result}, {NULL, NULL}};

static const kl_own_class channel_class = {"rt.exec.channel", exec_channel_methods, channel_close};

static int exec_start(lua_State *L)
{
    kl_ssh_session *session = kl_ssh_check(L, 1);
    const char *command = check_command(L);
    exec_options options;
    read_options(L, &options);
    exec_channel *channel = kl_own_new(L, sizeof *channel, &channel_class);
    channel->process.changed = channel_changed;
    channel->process.output.by_line = true;
    if (!process_start(&channel->process, session, command, &options))
        return kl_fail(L, &channel->process.failure);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, 1); // the channel keeps its session
    return 1;
}

static void wait_cancel(kl_op *op)
{
    wait_unlink((wait_op *)op);
}

static int push_closed(lua_State *L)
{
    return kl_fail_as(L, "cancelled", "the channel was closed");
}

static int push_line(lua_State *L, exec_channel *channel)
{
    kl_ssh_stream stream;
    size_t length = 0;
    const char *line = kl_ssh_output_line(&channel->process.output, &stream, &length);
    if (line == NULL) {
        if (kl_failed(&channel->process.failure))
            return kl_fail(L, &channel->process.failure);
        lua_pushnil(L);
        return 1;
    }
    if (channel->process.io != NULL &&
        kl_ssh_output_waiting(&channel->process.output) < LINES_RESUME)
        kl_ssh_channel_pause(channel->process.io, false);
    lua_pushlstring(L, line, length);
    lua_pushstring(L, stream == KL_SSH_ERR ? "err" : "out");
    return 2;
}

static int channel_read_line(lua_State *L);

static int wait_push(lua_State *L, kl_op *op)
{
    wait_op *self = (wait_op *)op;
    exec_channel *channel = self->channel;
    wait_unlink(self);
    if (channel == NULL)
        return push_closed(L);
    return self->for_line ? push_line(L, channel) : push_result(L, &channel->process);
}

static const kl_op_class line_class = {"exec.read_line", wait_cancel, wait_push, wait_cancel};
static const kl_op_class result_class = {"exec.result", wait_cancel, wait_push, wait_cancel};

static int channel_wait(lua_State *L, exec_channel *channel, const kl_op_class *class)
{
    wait_op *self = kl_op_new(L, sizeof *self, class);
    self->for_line = class == &line_class;
    self->channel = channel;
    wait_op **at = &channel->waiters;
    while (*at != NULL)
        at = &(*at)->next;
    *at = self;
    channel_changed(&channel->process);
    return kl_op_wait(L, &self->op);
}

static int channel_read_line(lua_State *L)
{
    exec_channel *channel = kl_own_check(L, 1, &channel_class);
    if (kl_ssh_output_waiting(&channel->process.output) > 0)
        return push_line(L, channel);
    for (const wait_op *at = channel->waiters; at != NULL; at = at->next)
        luaL_argcheck(L, !at->for_line, 1, "another task reads this channel's lines");
    return channel_wait(L, channel, &line_class);
}

static int channel_result(lua_State *L)
{
    exec_channel *channel = kl_own_check(L, 1, &channel_class);
    channel->process.output.by_line = false; // what is not read by now is not read any more
    if (channel->process.io != NULL)
        kl_ssh_channel_pause(channel->process.io, false);
    return channel_wait(L, channel, &result_class);
}

static const luaL_Reg exec_functions[] = {{"run", exec_run}, {"start", exec_start}, {NULL, NULL}};

KL_PRIM(exec)
{
    luaL_newlib(L, exec_functions);
    return 1;
}
