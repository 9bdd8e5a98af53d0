// Starting a child process: its pipes, its descriptors, its input.
#include "io/process_internal.h"

#include "base/ending.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static void input_written(uv_write_t *write, int status)
{
    (void)status; // a program that does not read its input is free to
    kl_process_close_handle(write->handle);
}

static void start_input(kl_process *self)
{
    uv_buf_t bytes = uv_buf_init(self->input_bytes.data, (unsigned)self->input_bytes.length);
    int error = uv_write(&self->write, (uv_stream_t *)&self->input, &bytes, 1, input_written);
    if (error != 0)
        kl_process_close_handle(&self->input);
}

static void init_handles(kl_process *self, uv_loop_t *loop)
{
    uv_pipe_init(loop, &self->streams[0].pipe, 0);
    uv_pipe_init(loop, &self->streams[1].pipe, 0);
    uv_pipe_init(loop, &self->input, 0);
    uv_timer_init(loop, &self->deadline);
    uv_timer_init(loop, &self->tick);
    self->streams[0].pipe.data = self->streams[1].pipe.data = self;
    self->input.data = self->deadline.data = self->tick.data = self->process.data = self;
    self->handles = 6; // with the process, which uv_spawn makes
}

// Our end of a pipe goes to `handle`, the child's end is returned; negative: no pipe.
static int open_pipe(uv_pipe_t *handle, int our_end)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) != 0)
        return -errno;
    int error = uv_pipe_open(handle, fds[our_end]);
    if (error != 0) {
        close(fds[0]);
        close(fds[1]);
        return error;
    }
    return fds[1 - our_end];
}

// Pipes, not libuv's socket pairs: programs that open /dev/stdout or /dev/stderr cannot on those.
static int open_streams(kl_process *self, bool input, uv_stdio_container_t stdio[3])
{
    for (int fd = 0; fd < 3; fd++) {
        stdio[fd].flags = UV_INHERIT_FD;
        stdio[fd].data.fd = fd;
        if (self->inherit)
            continue;
        if (fd < 2 && self->socket != 0) {
            stdio[fd].data.fd = self->socket;
            continue;
        }
        if (fd == 0 && !input) {
            stdio[0].flags = UV_IGNORE; // /dev/null
            continue;
        }
        int end = fd == 0 ? open_pipe(&self->input, 1) : open_pipe(&self->streams[fd - 1].pipe, 0);
        if (end < 0) {
            stdio[fd].flags = UV_IGNORE;
            return end;
        }
        stdio[fd].data.fd = end;
    }
    return 0;
}

static void close_ends(const kl_process *self, const uv_stdio_container_t stdio[3])
{
    for (int fd = 0; fd < 3; fd++) {
        int end = stdio[fd].data.fd;
        if (!self->inherit && stdio[fd].flags == UV_INHERIT_FD && end > 2 && end != self->socket)
            close(end);
    }
}

// Descriptors that a library or our parent opened without O_CLOEXEC.
static void keep_descriptors_home(void)
{
    if (close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) == 0)
        return;
    for (int fd = 3; fd < 1024; fd++) // Linux before 5.11
        fcntl(fd, F_SETFD, FD_CLOEXEC);
}

static int spawn(kl_process *self, uv_loop_t *loop, const kl_process_config *config)
{
    uv_stdio_container_t stdio[3] = {
        {.flags = UV_IGNORE}, {.flags = UV_IGNORE}, {.flags = UV_IGNORE}};
    int error = open_streams(self, config->input != NULL, stdio);
    if (error == 0) {
        keep_descriptors_home();
        const uv_process_options_t options = {
            .exit_cb = kl_process_exited,
            .file = config->argv[0],
            .args = (char **)(uintptr_t)config->argv,
            .env = (char **)(uintptr_t)config->env,
            .cwd = config->cwd,
            .flags = config->inherit ? 0 : UV_PROCESS_DETACHED, // setsid
            .stdio_count = 3,
            .stdio = stdio,
        };
        error = uv_spawn(loop, &self->process, &options);
    } else {
        self->handles--; // no process
    }
    close_ends(self, stdio);
    return error;
}

static void describe(kl_failure *failure, int error, const kl_process_config *config)
{
    struct stat there;
    char what[256];
    if (config->cwd != NULL && (stat(config->cwd, &there) != 0 || !S_ISDIR(there.st_mode)))
        snprintf(what, sizeof what, "cannot run %s: working directory %s", config->argv[0],
                 config->cwd);
    else
        snprintf(what, sizeof what, "cannot run %s", config->argv[0]);
    kl_failure_errno(failure, -error, what); // libuv's numbers are negated ones of errno
}

static void begin(kl_process *self, const kl_process_config *config)
{
    self->pid = self->process.pid;
    self->next = self->family->first;
    self->link = &self->family->first;
    self->family->first = self;
    if (self->next != NULL)
        self->next->link = &self->next;
    if (!self->inherit)
        kl_process_start_reading(self);
    if (config->input != NULL) {
        kl_buf_append(&self->input_bytes, config->input, config->input_length);
        start_input(self);
    }
    if (config->timeout_ms > 0) {
        uv_update_time(self->deadline.loop);
        uv_timer_start(&self->deadline, kl_process_deadline, config->timeout_ms, 0);
    }
}

kl_process *kl_process_start(uv_loop_t *loop, kl_process_family *family,
                             const kl_process_config *config, kl_failure *failure)
{
    kl_process *self = calloc(1, sizeof *self);
    if (self == NULL)
        kl_out_of_memory();
    self->family = family;
    self->notify = config->notify;
    self->context = config->context;
    self->last = &self->first;
    self->grace_ms = config->grace_ms;
    self->max_output = config->max_output;
    self->lines = config->lines;
    self->inherit = config->inherit;
    self->socket = config->socket;
    init_handles(self, loop);
    int error = spawn(self, loop, config);
    if (error == 0) {
        begin(self, config);
        return self;
    }
    describe(failure, error, config);
    bool process = self->handles == 6;
    self->released = true;
    kl_process_close_handle(&self->streams[0].pipe);
    kl_process_close_handle(&self->streams[1].pipe);
    kl_process_close_handle(&self->input);
    kl_process_close_handle(&self->deadline);
    kl_process_close_handle(&self->tick);
    if (process)
        kl_process_close_handle(&self->process);
    return NULL;
}
