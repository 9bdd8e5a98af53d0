// One SSH connection on the event loop.
#include "io/ssh_session_internal.h"

#include "base/ending.h"
#include "io/ssh_cipher.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void pump(kl_ssh_session *session);
static void shut(kl_ssh_session *session, const kl_failure *failure);

double kl_ssh_session_round_trip(const kl_ssh_session *session)
{
    return session->round_trip;
}

uv_loop_t *kl_ssh_session_loop(const kl_ssh_session *session)
{
    return session->loop;
}

const char *kl_ssh_session_name(const kl_ssh_session *session)
{
    return session->name;
}

bool kl_ssh_session_alive(const kl_ssh_session *session)
{
    return session->state == KL_SSH_OPEN && session->wire.error == 0;
}

static void free_when_idle(kl_ssh_session *session)
{
    if (session->references > 0 || session->handles > 0)
        return;
    assert(session->state == KL_SSH_CLOSED);
    kl_ssh_pins_free(&session->pins);
    kl_buf_free(&session->host_key_types);
    free(session);
}

static void handle_closed(uv_handle_t *handle)
{
    kl_ssh_session *session = handle->data;
    session->handles--;
    free_when_idle(session);
}

// libssh2's half. The wire is cut, so nothing returns EAGAIN: a call that was interrupted runs into
// an error and frees what it holds, which libssh2_session_free would forget.
static void free_handle(kl_ssh_session *session, kl_ssh_state was)
{
    if (session->handle == NULL)
        return;
    if (was == KL_SSH_HANDSHAKE)
        libssh2_session_handshake(session->handle, -1);
    else if (was == KL_SSH_LOGIN)
        kl_ssh_login_unwind(session);
    kl_ssh_channels_unwind(session);
    for (int i = 0; i < 100 && libssh2_session_free(session->handle) == LIBSSH2_ERROR_EAGAIN; i++)
        continue;
    kl_ssh_memory_free(&session->memory);
    session->handle = NULL;
}

// Ends the connection for whatever reason; NULL: closed by us. Tells the waiters last.
static void shut(kl_ssh_session *session, const kl_failure *failure)
{
    if (session->state == KL_SSH_CLOSED)
        return;
    kl_ssh_state was = session->state;
    session->state = KL_SSH_CLOSED;
    if (failure != NULL) {
        session->failure = *failure;
        kl_ssh_proxy_explain(session, &session->failure);
    } else {
        kl_failure_set(&session->failure, "cancelled", 0, "the connection to %s was closed",
                       session->name);
    }
    if (session->dial != NULL)
        kl_dial_cancel(session->dial);
    session->dial = NULL;
    kl_ssh_session_stop_going(session);
    if (failure == NULL && was == KL_SSH_OPEN) {
        libssh2_session_disconnect(session->handle, "done");
        kl_ssh_wire_flush(&session->wire);
    }
    if (session->polling)
        uv_close((uv_handle_t *)&session->poll, handle_closed);
    session->polling = false;
    uv_close((uv_handle_t *)&session->timer, handle_closed);
    kl_ssh_wire_close(&session->wire);
    kl_ssh_proxy_release(session);
    free_handle(session, was);
    kl_ssh_login_free(&session->login);
    kl_ssh_ready_fn ready = session->ready;
    session->ready = NULL;
    kl_ssh_session_hold(session); // a waiter may drop the last reference
    if (ready != NULL && failure != NULL)
        ready(session->ctx, &session->failure);
    kl_ssh_listens_fail(session);
    kl_ssh_channels_fail(session, &session->failure);
    kl_ssh_channels_free(session);
    kl_ssh_session_drop(session);
}

void kl_ssh_session_fail(kl_ssh_session *session, const kl_failure *failure)
{
    shut(session, failure);
}

static void fail_call(kl_ssh_session *session, int rc, const char *what)
{
    kl_failure failure;
    if (session->state <= KL_SSH_HANDSHAKE)
        kl_ssh_session_handshake_error(session, &failure, rc);
    else
        kl_ssh_session_error(session, &failure, rc, what);
    shut(session, &failure);
}

static void step_handshake(kl_ssh_session *session)
{
    int rc = libssh2_session_handshake(session->handle, session->wire.fd);
    if (rc == LIBSSH2_ERROR_EAGAIN && !kl_failed(&session->failure))
        return;
    if (rc != 0 || !session->trusted) {
        fail_call(session, rc, "key exchange");
        return;
    }
    session->wire.opened = true;
    kl_buf_free(&session->wire.opening);
    session->state = KL_SSH_LOGIN;
    session->again = true;
}

// The login begins with a question that costs the host nothing to answer.
static void time_login(kl_ssh_session *session)
{
    if (session->login_ns == 0) {
        session->login_ns = uv_hrtime();
        session->login_received = session->wire.received;
    } else if (session->round_trip == 0 && session->wire.received > session->login_received) {
        session->round_trip = (double)(uv_hrtime() - session->login_ns) / 1e9;
    }
}

static void step_login(kl_ssh_session *session)
{
    int rc = 0;
    kl_failure failure = {0};
    time_login(session);
    if (!kl_ssh_login_step(session, &rc, &failure))
        return;
    if (rc != 0) {
        if (kl_failed(&failure))
            shut(session, &failure);
        else
            fail_call(session, rc, "login");
        return;
    }
    kl_ssh_login_free(&session->login);
    session->state = KL_SSH_OPEN;
    session->keepalive_ms = uv_now(session->loop) + (uint64_t)(session->keepalive * 1e3);
    libssh2_keepalive_config(session->handle, 1, 1); // its clock is in seconds; ours decides
    kl_ssh_ready_fn ready = session->ready;
    session->ready = NULL;
    session->again = true;
    if (ready != NULL)
        ready(session->ctx, NULL);
}

static void step(kl_ssh_session *session)
{
    session->again = false;
    kl_ssh_wire_fill(&session->wire, uv_now(session->loop));
    if (kl_ssh_proxy_is_ending(session))
        return;
    if (session->state == KL_SSH_HANDSHAKE)
        step_handshake(session);
    else if (session->state == KL_SSH_LOGIN)
        step_login(session);
    else if (session->state == KL_SSH_OPEN) {
        kl_ssh_listens_step(session);
        kl_ssh_channels_step(session);
    }
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    (void)events;
    kl_ssh_session *session = poll->data;
    if (status < 0) { // libuv calls every POLLERR a bad descriptor, and will not tell it again
        kl_ssh_wire_fill(&session->wire, uv_now(session->loop)); // the socket knows better
        if (session->wire.error == 0)
            session->wire.error = -status;
    } else if (kl_ssh_turn_is_spent(session)) {
        return;
    }
    pump(session);
}

static void on_timer(uv_timer_t *timer)
{
    kl_ssh_session *session = timer->data;
    if (kl_ssh_turn_is_spent(session)) {
        uv_timer_start(timer, on_timer, 1, 0); // at 0 it would fire again in this turn
        return;
    }
    kl_ssh_session_hold(session);
    kl_ssh_clocks_check(session);
    pump(session);
    kl_ssh_session_drop(session);
}

// Waits for the socket and for the next thing that is due.
static void rearm(kl_ssh_session *session)
{
    uint64_t due = session->deadline_ms;
    if (session->state == KL_SSH_OPEN) {
        due = kl_ssh_channels_due(session);
        if (session->keepalive_ms < due)
            due = session->keepalive_ms;
    }
    bool ending = kl_ssh_proxy_is_ending(session);
    if (ending && session->proxy_until_ms < due)
        due = session->proxy_until_ms;
    uint64_t now = uv_now(session->loop);
    bool at_once = session->kicked || due <= now;
    session->kicked = false;
    uv_timer_start(&session->timer, on_timer, at_once ? 0 : due - now, 0);
    if (!session->polling)
        return;
    int events = kl_ssh_wire_wants_input(&session->wire) ? UV_READABLE : 0;
    if (kl_ssh_wire_has_output(&session->wire))
        events |= UV_WRITABLE;
    if (ending)
        events = 0;
    if (events != session->events) // libuv takes two system calls for it
        uv_poll_start(&session->poll, events, on_poll);
    session->events = events;
}

// Moves everything on as far as it goes without waiting.
static void pump(kl_ssh_session *session)
{
    if (session->state == KL_SSH_CLOSED || session->pumping)
        return;
    kl_ssh_session_hold(session);
    session->pumping = true;
    kl_ssh_pump_begins(session);
    if (session->polling) {
        kl_ssh_wire_flush(&session->wire);
        do
            step(session);
        while (session->again && session->state != KL_SSH_CLOSED && !kl_ssh_pump_is_long(session));
        kl_ssh_wire_flush(&session->wire);
    }
    session->pumping = false;
    bool more = kl_ssh_wire_withholds(&session->wire);
    if (session->again || more)
        session->kicked = true; // the next turn goes on
    if (session->state != KL_SSH_CLOSED && session->wire.error != 0 && !more &&
        !kl_ssh_proxy_is_ending(session))
        fail_call(session, LIBSSH2_ERROR_SOCKET_DISCONNECT, "the connection was lost");
    if (session->state != KL_SSH_CLOSED)
        rearm(session);
    kl_ssh_session_drop(session);
}

void kl_ssh_session_kick(kl_ssh_session *session)
{
    session->kicked = true; // the pump, if it runs now, sets the timer at its end
    if (session->state != KL_SSH_CLOSED)
        uv_timer_start(&session->timer, on_timer, 0, 0);
}

// Takes a connected socket. False, with the failure set: libssh2 cannot start on it.
static bool attach(kl_ssh_session *session, int fd, kl_failure *out_failure)
{
    bool made = kl_ssh_session_prepare(session);
    session->wire.fd = fd;
    if (!made || uv_poll_init(session->loop, &session->poll, fd) != 0) {
        kl_failure_set(out_failure, "protocol", 0, "%s: libssh2 cannot start a session",
                       session->name);
        return false;
    }
    session->poll.data = session;
    session->handles++;
    session->polling = true;
    kl_ssh_wire_attach(&session->wire, fd, session->handle);
    session->wire.received_ms = uv_now(session->loop);
    session->state = KL_SSH_HANDSHAKE;
    return true;
}

void kl_ssh_session_connected(kl_ssh_session *session, int fd, const kl_failure *failure)
{
    kl_failure problem;
    if (fd < 0)
        shut(session, failure);
    else if (!attach(session, fd, &problem))
        shut(session, &problem);
    else if (kl_ssh_turn_is_spent(session))
        kl_ssh_session_kick(session);
    else
        pump(session);
}

static void dialed(void *ctx, int fd, const kl_failure *failure)
{
    kl_ssh_session *session = ctx;
    session->dial = NULL;
    kl_ssh_session_connected(session, fd, failure);
}

// Sets out for the host. False, with `session->failure` set: it cannot.
static bool set_out(kl_ssh_session *session, const kl_ssh_options *options)
{
    if (options->proxy != NULL) {
        int fd = kl_ssh_proxy_start(session, options);
        session->kicked = true; // the key exchange begins at the next turn
        return fd >= 0 && attach(session, fd, &session->failure);
    }
    if (options->via != NULL)
        return kl_ssh_session_go_through(session, options);
    session->dial = kl_dial_start(session->loop, options->host, options->port, dialed, session);
    return true;
}

kl_ssh_session *kl_ssh_session_open(uv_loop_t *loop, const kl_ssh_options *options,
                                    kl_ssh_ready_fn ready, void *ctx, kl_failure *out_failure)
{
    kl_buf types = {0};
    if (!kl_ssh_library_ready()) {
        kl_failure_set(out_failure, "protocol", 0, "libssh2 cannot be initialised");
        return NULL;
    }
    if (!kl_ssh_pins_preference(options->pins, &types, out_failure))
        return NULL;
    kl_ssh_session *session = calloc(1, sizeof *session);
    if (session == NULL)
        kl_out_of_memory();
    session->loop = loop;
    session->references = 1;
    kl_ssh_pins_copy(&session->pins, options->pins);
    session->host_key_types = types;
    session->wire.fd = -1;
    session->ready = ready;
    session->ctx = ctx;
    kl_ssh_session_copy(session, options);
    uv_timer_init(loop, &session->timer);
    session->timer.data = session;
    session->handles = 1;
    uv_update_time(loop);
    session->deadline_ms = uv_now(loop) + (uint64_t)(options->timeout * 1e3);
    if (!set_out(session, options)) {
        *out_failure = session->failure;
        session->ready = NULL;
        shut(session, out_failure);
        kl_ssh_session_drop(session);
        return NULL;
    }
    rearm(session);
    return session;
}

void kl_ssh_session_close(kl_ssh_session *session)
{
    session->ready = NULL;
    shut(session, NULL);
}

kl_ssh_session *kl_ssh_session_hold(kl_ssh_session *session)
{
    session->references++;
    return session;
}

void kl_ssh_session_drop(kl_ssh_session *session)
{
    if (--session->references > 0)
        return;
    if (session->state != KL_SSH_CLOSED) {
        session->references++; // shut holds and drops
        kl_ssh_session_close(session);
        session->references--;
    }
    free_when_idle(session);
}
