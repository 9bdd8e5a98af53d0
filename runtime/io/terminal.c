// The terminal.
#include "io/terminal.h"

#include "base/ending.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

enum { LINE_LIMIT = 65536, SIGNALS = 4 };

static const int signals[SIGNALS] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};

struct kl_terminal_line {
    uv_poll_t poll;
    uv_signal_t signals[SIGNALS];
    int fd;
    int handles; // not closed yet
    bool terminal, hidden, ended, released, polling;
    struct termios before; // when hidden
    kl_buf line;
    bool has_line;
    kl_failure failure;
    void (*notify)(void *context);
    void *context;
};

bool kl_terminal_size(int fd, int *out_columns, int *out_rows)
{
    struct winsize size;
    if (ioctl(fd, TIOCGWINSZ, &size) != 0)
        return false;
    *out_columns = size.ws_col;
    *out_rows = size.ws_row;
    return true;
}

bool kl_terminal_write(int fd, const char *bytes, size_t length, kl_failure *failure)
{
    while (length > 0) {
        ssize_t put = write(fd, bytes, length);
        if (put >= 0) {
            bytes += put;
            length -= (size_t)put;
        } else if (errno == EAGAIN) {
            struct pollfd ready = {.fd = fd, .events = POLLOUT};
            poll(&ready, 1, -1);
        } else if (errno != EINTR) {
            kl_failure_errno(failure, errno, "cannot write");
            return false;
        }
    }
    return true;
}

// In a background job, changing the terminal would stop kiln (SIGTTOU) while it tidies up.
static void set_terminal(int fd, const struct termios *settings)
{
    sigset_t blocked, before;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGTTOU);
    pthread_sigmask(SIG_BLOCK, &blocked, &before);
    tcsetattr(fd, TCSADRAIN, settings);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void hide(kl_terminal_line *self)
{
    if (tcgetattr(self->fd, &self->before) != 0)
        return;
    struct termios quiet = self->before;
    quiet.c_lflag &= ~(tcflag_t)ECHO;
    quiet.c_lflag |= ECHONL;
    quiet.c_cc[VSUSP] = _POSIX_VDISABLE; // a stopped kiln would leave the shell without echo
    kl_ending_terminal(self->fd, &self->before);
    set_terminal(self->fd, &quiet);
    self->hidden = true;
}

static void show(kl_terminal_line *self)
{
    if (self->hidden) {
        set_terminal(self->fd, &self->before);
        kl_ending_terminal(-1, NULL);
    }
    self->hidden = false;
}

static void free_line(kl_terminal_line *self)
{
    if (self->line.data != NULL)
        explicit_bzero(self->line.data, self->line.capacity);
    kl_buf_free(&self->line);
    free(self);
}

static void handle_closed(uv_handle_t *handle)
{
    kl_terminal_line *self = handle->data;
    if (--self->handles == 0 && self->released)
        free_line(self);
}

static void end(kl_terminal_line *self)
{
    if (self->ended)
        return;
    self->ended = true;
    show(self);
    for (int i = 0; i < SIGNALS; i++)
        uv_close((uv_handle_t *)&self->signals[i], handle_closed);
    if (self->polling)
        uv_close((uv_handle_t *)&self->poll, handle_closed);
    close(self->fd);
    if (!self->released)
        self->notify(self->context);
}

static void interrupted(uv_signal_t *handle, int number)
{
    kl_terminal_line *self = handle->data;
    kl_failure_set(&self->failure, "stopped", number, "interrupted by %s", strsignal(number));
    end(self);
}

// From a terminal a read gives one line; from anything else we must not take more than ours.
static size_t chunk(const kl_terminal_line *self)
{
    return self->terminal ? 4096 : 1;
}

// Reads what is there. Returns whether it has to wait for more.
static bool read_some(kl_terminal_line *self)
{
    for (;;) {
        kl_buf_reserve(&self->line, 4096);
        ssize_t got = read(self->fd, self->line.data + self->line.length, chunk(self));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && errno == EAGAIN)
            return true;
        if (got < 0) {
            kl_failure_errno(&self->failure, errno, "cannot read standard input");
            return false;
        }
        self->line.length += (size_t)got;
        bool whole = self->line.length > 0 && self->line.data[self->line.length - 1] == '\n';
        if (whole)
            self->line.length--;
        self->line.data[self->line.length] = '\0';
        if (whole || got == 0) {
            self->has_line = whole || self->line.length > 0;
            return false;
        }
        if (self->line.length > LINE_LIMIT) {
            kl_failure_set(&self->failure, "limit", 0, "the line is too long");
            return false;
        }
    }
}

static void readable(uv_poll_t *handle, int status, int events)
{
    (void)status;
    (void)events;
    kl_terminal_line *self = handle->data;
    if (!read_some(self))
        end(self);
}

// A description of our own, so that not blocking does not spread to who shares standard input.
static int open_input(void)
{
    int fd = open("/proc/self/fd/0", O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    return fd >= 0 ? fd : fcntl(0, F_DUPFD_CLOEXEC, 3);
}

static void start_handles(kl_terminal_line *self, uv_loop_t *loop)
{
    for (int i = 0; i < SIGNALS; i++, self->handles++) {
        uv_signal_init(loop, &self->signals[i]);
        self->signals[i].data = self;
        uv_signal_start(&self->signals[i], interrupted, signals[i]);
    }
}

kl_terminal_line *kl_terminal_read_line(uv_loop_t *loop, const char *prompt, bool echo,
                                        void (*notify)(void *context), void *context,
                                        kl_failure *failure)
{
    int fd = open_input();
    if (fd < 0) {
        kl_failure_errno(failure, errno, "cannot read standard input");
        return NULL;
    }
    kl_terminal_line *self = calloc(1, sizeof *self);
    if (self == NULL)
        kl_out_of_memory();
    *self = (kl_terminal_line){
        .fd = fd, .terminal = isatty(fd) != 0, .notify = notify, .context = context};
    start_handles(self, loop);
    if (!echo && self->terminal)
        hide(self);
    kl_terminal_write(2, prompt, strlen(prompt), &self->failure);
    self->failure.kind = NULL; // nobody sees the prompt: the line can still be read
    self->polling = uv_poll_init(loop, &self->poll, fd) == 0;
    if (self->polling) {
        self->handles++;
        self->poll.data = self;
        uv_poll_start(&self->poll, UV_READABLE, readable);
    } else { // a file is always ready
        read_some(self);
        end(self);
    }
    return self;
}

bool kl_terminal_has_ended(const kl_terminal_line *self)
{
    return self->ended;
}

const kl_buf *kl_terminal_result(const kl_terminal_line *self, kl_failure *failure)
{
    *failure = self->failure;
    return self->has_line && !kl_failed(failure) ? &self->line : NULL;
}

void kl_terminal_release(kl_terminal_line *self)
{
    self->released = true;
    if (!self->ended)
        end(self);
    else if (self->handles == 0)
        free_line(self);
}
