// Opens a TCP connection without blocking the loop.
#include "io/dial.h"

#include "base/ending.h"
#include "io/route.h"

#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

// Then the next address is tried, or the same again: a machine that boots drops the first packets,
// and the kernel's own repeats come ever later.
#define ATTEMPT_MS 2000

// One address being tried. Outlives its dial until its handle is closed.
typedef struct attempt {
    uv_poll_t poll;
    kl_dial *dial; // NULL once decided
    int fd;
} attempt;

struct kl_dial {
    uv_loop_t *loop;
    uv_getaddrinfo_t lookup;
    uv_timer_t timer; // the first turn, then the patience with one address
    struct addrinfo *found;
    struct addrinfo *next;
    bool from_libuv; // who frees `found`
    bool looking_up;
    bool timer_closed;
    attempt *current;
    kl_dial_fn done; // NULL once it was called or the dial was cancelled
    void *ctx;
    kl_failure failure; // of the last address
    char host[256];
    char port[8];
};

static void try_next(kl_dial *dial);

static void free_when_idle(kl_dial *dial)
{
    if (dial->looking_up || !dial->timer_closed)
        return;
    if (dial->from_libuv)
        uv_freeaddrinfo(dial->found);
    else if (dial->found != NULL)
        freeaddrinfo(dial->found);
    free(dial);
}

static void timer_closed(uv_handle_t *handle)
{
    kl_dial *dial = handle->data;
    dial->timer_closed = true;
    free_when_idle(dial);
}

static void attempt_closed(uv_handle_t *handle)
{
    free(handle->data);
}

// Ends the current attempt; returns its socket, which the caller owns.
static int attempt_end(kl_dial *dial)
{
    attempt *current = dial->current;
    dial->current = NULL;
    uv_close((uv_handle_t *)&current->poll, attempt_closed);
    return current->fd;
}

static void finish(kl_dial *dial, int fd)
{
    kl_dial_fn done = dial->done;
    dial->done = NULL;
    if (done != NULL)
        done(dial->ctx, fd, fd < 0 ? &dial->failure : NULL);
    uv_close((uv_handle_t *)&dial->timer, timer_closed);
}

static void attempt_failed(kl_dial *dial, int error)
{
    kl_failure_set(&dial->failure, "unreachable", error, "%s:%s: %s", dial->host, dial->port,
                   strerror(error));
    if (dial->current != NULL)
        close(attempt_end(dial));
    try_next(dial);
}

static void attempt_ready(uv_poll_t *poll, int status, int events)
{
    (void)events;
    kl_dial *dial = ((attempt *)poll->data)->dial;
    int error = 0;
    socklen_t size = sizeof error;
    if (getsockopt(dial->current->fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0)
        error = errno;
    if (error == 0 && status < 0) // libuv calls every POLLERR a bad descriptor
        error = -status;
    if (error != 0) {
        attempt_failed(dial, error);
        return;
    }
    finish(dial, attempt_end(dial));
}

static void attempt_expired(uv_timer_t *timer)
{
    kl_dial *dial = timer->data;
    if (dial->next == NULL)
        dial->next = dial->found;
    attempt_failed(dial, ETIMEDOUT);
}

static void attempt_watch(kl_dial *dial, int fd)
{
    attempt *current = calloc(1, sizeof *current);
    if (current == NULL)
        kl_out_of_memory();
    current->fd = fd;
    current->dial = dial;
    dial->current = current;
    int status = uv_poll_init(dial->loop, &current->poll, fd);
    assert(status == 0);
    (void)status;
    current->poll.data = current;
    uv_poll_start(&current->poll, UV_WRITABLE, attempt_ready);
    uv_timer_start(&dial->timer, attempt_expired, ATTEMPT_MS, 0);
}

// Starts on the next address; gives the last failure when none is left.
static void try_next(kl_dial *dial)
{
    while (dial->next != NULL) {
        const struct addrinfo *address = dial->next;
        dial->next = address->ai_next;
        int fd = kl_route_socket(address->ai_addr, SOCK_STREAM | SOCK_NONBLOCK, 0);
        if (fd >= 0 &&
            (connect(fd, address->ai_addr, address->ai_addrlen) == 0 || errno == EINPROGRESS)) {
            attempt_watch(dial, fd);
            return;
        }
        kl_failure_set(&dial->failure, "unreachable", errno, "%s:%s: %s", dial->host, dial->port,
                       strerror(errno));
        if (fd >= 0)
            close(fd);
    }
    finish(dial, -1);
}

static void looked_up(uv_getaddrinfo_t *request, int status, struct addrinfo *found)
{
    kl_dial *dial = request->data;
    dial->looking_up = false;
    dial->from_libuv = true;
    dial->found = found;
    dial->next = found;
    if (dial->done == NULL) { // cancelled meanwhile
        free_when_idle(dial);
        return;
    }
    if (status < 0)
        kl_failure_set(&dial->failure, "unreachable", status, "%s: the name cannot be resolved: %s",
                       dial->host, uv_strerror(status));
    try_next(dial);
}

static void first_turn(uv_timer_t *timer)
{
    kl_dial *dial = timer->data;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST};
    if (getaddrinfo(dial->host, dial->port, &hints, &dial->found) == 0) {
        dial->next = dial->found;
        try_next(dial);
        return;
    }
    dial->found = NULL;
    hints.ai_flags = AI_ADDRCONFIG;
    dial->lookup.data = dial;
    int status =
        uv_getaddrinfo(dial->loop, &dial->lookup, looked_up, dial->host, dial->port, &hints);
    dial->looking_up = status == 0;
    if (status != 0) {
        kl_failure_set(&dial->failure, "unreachable", status, "%s: %s", dial->host,
                       uv_strerror(status));
        finish(dial, -1);
    }
}

kl_dial *kl_dial_start(uv_loop_t *loop, const char *host, int port, kl_dial_fn done, void *ctx)
{
    kl_dial *dial = calloc(1, sizeof *dial);
    if (dial == NULL)
        kl_out_of_memory();
    dial->loop = loop;
    dial->done = done;
    dial->ctx = ctx;
    snprintf(dial->host, sizeof dial->host, "%s", host);
    snprintf(dial->port, sizeof dial->port, "%d", port);
    kl_failure_set(&dial->failure, "unreachable", 0, "%s: no address", dial->host);
    uv_timer_init(loop, &dial->timer);
    dial->timer.data = dial;
    uv_timer_start(&dial->timer, first_turn, 0, 0);
    return dial;
}

void kl_dial_cancel(kl_dial *dial)
{
    dial->done = NULL;
    if (dial->current != NULL)
        close(attempt_end(dial));
    if (dial->looking_up)
        uv_cancel((uv_req_t *)&dial->lookup);
    uv_close((uv_handle_t *)&dial->timer, timer_closed);
}
