// A port on a session's host whose connections lead here (RFC 4254 section 7.1).
#include "io/dial.h"
#include "io/ssh_forward.h"
#include "io/ssh_relay.h"
#include "io/ssh_session_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BACKLOG 64

// One connection: first our end is dialed, then the two are joined.
typedef struct visit {
    struct kl_ssh_listen *listen;
    struct visit *next;
    LIBSSH2_CHANNEL *handle; // until the relay has it
    kl_dial *dial;
    kl_ssh_relay *relay;
} visit;

struct kl_ssh_listen {
    kl_ssh_session *session; // a reference
    struct kl_ssh_listen *next;
    LIBSSH2_LISTENER *handle; // NULL until it listens
    char host[256];
    int port;
    char to_host[256];
    int to_port;
    visit *visits;
    kl_failure failure;
    kl_ssh_listen_fn done; // NULL once called
    void *ctx;
};

static void visit_free(visit *self)
{
    kl_ssh_listen *listen = self->listen;
    for (visit **at = &listen->visits; *at != NULL; at = &(*at)->next) {
        if (*at == self) {
            *at = self->next;
            break;
        }
    }
    free(self);
}

static void visit_ended(void *ctx, const kl_failure *failure)
{
    visit *self = ctx;
    if (failure != NULL)
        self->listen->failure = *failure;
    visit_free(self);
}

static void dialed(void *ctx, int fd, const kl_failure *failure)
{
    static const kl_ssh_relay_events events = {NULL, visit_ended};
    visit *self = ctx;
    self->dial = NULL;
    if (fd >= 0) {
        self->relay = kl_ssh_relay_accept(self->listen->session, fd, self->handle, &events, self,
                                          &self->listen->failure);
        if (self->relay != NULL)
            return;
    } else {
        self->listen->failure = *failure;
        libssh2_channel_free(self->handle); // also tells the host
    }
    visit_free(self);
}

static void accept_all(kl_ssh_listen *listen)
{
    LIBSSH2_CHANNEL *handle;
    while ((handle = libssh2_channel_forward_accept(listen->handle)) != NULL) {
        visit *self = calloc(1, sizeof *self);
        if (self == NULL)
            abort();
        self->listen = listen;
        self->handle = handle;
        self->next = listen->visits;
        listen->visits = self;
        self->dial =
            kl_dial_start(listen->session->loop, listen->to_host, listen->to_port, dialed, self);
    }
}

static void told(kl_ssh_listen *listen, int port)
{
    kl_ssh_listen_fn done = listen->done;
    listen->done = NULL;
    if (done != NULL)
        done(listen->ctx, port, port == 0 ? &listen->failure : NULL);
}

static void step_one(kl_ssh_listen *listen)
{
    kl_ssh_session *session = listen->session;
    if (listen->handle != NULL) {
        accept_all(listen);
        return;
    }
    if (listen->done == NULL)
        return; // it failed
    int bound = 0;
    listen->handle = libssh2_channel_forward_listen_ex(session->handle, listen->host, listen->port,
                                                       &bound, BACKLOG);
    if (listen->handle != NULL) {
        told(listen, bound);
        return;
    }
    if (libssh2_session_last_errno(session->handle) == LIBSSH2_ERROR_EAGAIN)
        return;
    kl_failure_set(&listen->failure, "denied", libssh2_session_last_errno(session->handle),
                   "%s: its sshd does not listen on %s:%d (is the port taken, or are forwardings "
                   "forbidden: AllowTcpForwarding, GatewayPorts?)",
                   session->name, listen->host, listen->port);
    told(listen, 0);
}

void kl_ssh_listens_step(kl_ssh_session *session)
{
    for (kl_ssh_listen *at = session->listens; at != NULL; at = at->next)
        step_one(at);
}

// The channels that wait for our end went with the session.
static void drop_visits(kl_ssh_listen *listen)
{
    while (listen->visits != NULL) {
        visit *self = listen->visits;
        listen->visits = self->next;
        if (self->dial != NULL)
            kl_dial_cancel(self->dial);
        if (self->relay != NULL)
            kl_ssh_relay_close(self->relay);
        free(self);
    }
}

void kl_ssh_listens_fail(kl_ssh_session *session)
{
    while (session->listens != NULL) {
        kl_ssh_listen *listen = session->listens;
        session->listens = listen->next;
        listen->handle = NULL;
        listen->failure = session->failure;
        drop_visits(listen);
        told(listen, 0);
    }
}

kl_ssh_listen *kl_ssh_listen_open(kl_ssh_session *session, const char *host, int port,
                                  const char *to_host, int to_port, kl_ssh_listen_fn done,
                                  void *ctx, kl_failure *out_failure)
{
    if (!kl_ssh_session_alive(session)) {
        *out_failure = session->failure;
        return NULL;
    }
    kl_ssh_listen *listen = calloc(1, sizeof *listen);
    if (listen == NULL)
        abort();
    listen->session = kl_ssh_session_hold(session);
    snprintf(listen->host, sizeof listen->host, "%s", host);
    snprintf(listen->to_host, sizeof listen->to_host, "%s", to_host);
    listen->port = port;
    listen->to_port = to_port;
    listen->done = done;
    listen->ctx = ctx;
    listen->next = session->listens;
    session->listens = listen;
    kl_ssh_session_kick(session);
    return listen;
}

const kl_failure *kl_ssh_listen_failure(const kl_ssh_listen *listen)
{
    return kl_failed(&listen->failure) ? &listen->failure : NULL;
}

void kl_ssh_listen_close(kl_ssh_listen *listen)
{
    listen->done = NULL;
    drop_visits(listen);
    for (kl_ssh_listen **at = &listen->session->listens; *at != NULL; at = &(*at)->next) {
        if (*at == listen) {
            *at = listen->next;
            break;
        }
    }
    kl_ssh_session_drop(listen->session);
    free(listen);
}
