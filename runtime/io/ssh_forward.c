// A port here whose connections go out from a session's host.
#include "io/ssh_forward.h"

#include "io/ssh_relay.h"
#include "io/ssh_session_internal.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

// One connection.
typedef struct passage {
    kl_ssh_relay *relay;
    struct kl_ssh_forward *forward;
    struct passage *next;
} passage;

struct kl_ssh_forward {
    kl_ssh_session *session; // a reference
    int fd;
    uv_poll_t poll;
    int port;
    char to_host[256];
    int to_port;
    passage *passages;
    kl_failure failure;
};

static void passage_ended(void *ctx, const kl_failure *failure)
{
    passage *self = ctx;
    kl_ssh_forward *forward = self->forward;
    if (failure != NULL)
        forward->failure = *failure;
    for (passage **at = &forward->passages; *at != NULL; at = &(*at)->next) {
        if (*at == self) {
            *at = self->next;
            break;
        }
    }
    free(self);
}

static void accepted(kl_ssh_forward *forward, int fd)
{
    static const kl_ssh_relay_events events = {NULL, passage_ended};
    passage *self = calloc(1, sizeof *self);
    if (self == NULL)
        abort();
    self->forward = forward;
    self->relay = kl_ssh_relay_open(forward->session, fd, forward->to_host, forward->to_port,
                                    &events, self, &forward->failure);
    if (self->relay == NULL) {
        free(self);
        return;
    }
    self->next = forward->passages;
    forward->passages = self;
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    kl_ssh_forward *forward = poll->data;
    int fd;
    while ((fd = accept4(forward->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
        accepted(forward, fd);
}

// Binds to a name or address of this host; -1 and errno.
static int listen_on(const char *host, int port)
{
    char service[8];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_PASSIVE};
    struct addrinfo *found = NULL;
    snprintf(service, sizeof service, "%d", port);
    errno = EADDRNOTAVAIL;
    if (getaddrinfo(strcmp(host, "localhost") == 0 ? "127.0.0.1" : host, service, &hints, &found) !=
        0)
        return -1;
    int on = 1;
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0 && (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
                    bind(fd, found->ai_addr, found->ai_addrlen) != 0 || listen(fd, 128) != 0)) {
        int error = errno;
        close(fd);
        errno = error;
        fd = -1;
    }
    freeaddrinfo(found);
    return fd;
}

static int port_of(int fd)
{
    struct sockaddr_storage address;
    socklen_t size = sizeof address;
    char service[8] = "0";
    if (getsockname(fd, (struct sockaddr *)&address, &size) == 0)
        getnameinfo((struct sockaddr *)&address, size, NULL, 0, service, sizeof service,
                    NI_NUMERICSERV);
    return atoi(service);
}

kl_ssh_forward *kl_ssh_forward_open(kl_ssh_session *session, const char *host, int port,
                                    const char *to_host, int to_port, kl_failure *out_failure)
{
    int fd = listen_on(host, port);
    if (fd < 0) {
        char what[300];
        snprintf(what, sizeof what, "listening on %s:%d", host, port);
        kl_failure_errno(out_failure, errno, what);
        return NULL;
    }
    kl_ssh_forward *forward = calloc(1, sizeof *forward);
    if (forward == NULL || uv_poll_init(session->loop, &forward->poll, fd) != 0)
        abort();
    forward->session = kl_ssh_session_hold(session);
    forward->fd = fd;
    forward->port = port_of(fd);
    forward->poll.data = forward;
    forward->to_port = to_port;
    snprintf(forward->to_host, sizeof forward->to_host, "%s", to_host);
    uv_poll_start(&forward->poll, UV_READABLE, on_poll);
    return forward;
}

int kl_ssh_forward_port(const kl_ssh_forward *forward)
{
    return forward->port;
}

const kl_failure *kl_ssh_forward_failure(const kl_ssh_forward *forward)
{
    return kl_failed(&forward->failure) ? &forward->failure : NULL;
}

static void poll_closed(uv_handle_t *handle)
{
    free(handle->data);
}

void kl_ssh_forward_close(kl_ssh_forward *forward)
{
    while (forward->passages != NULL) {
        passage *self = forward->passages;
        forward->passages = self->next;
        kl_ssh_relay_close(self->relay);
        free(self);
    }
    uv_poll_stop(&forward->poll);
    close(forward->fd);
    kl_ssh_session_drop(forward->session);
    uv_close((uv_handle_t *)&forward->poll, poll_closed);
}
