// Commands on an SSH session.
#include "io/ssh_channel.h"

#include "base/ending.h"
#include "io/ssh_channel_internal.h"
#include "io/ssh_shell.h"

#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TURN_PACKETS 8 // of a session: half a millisecond of CPU
// libssh2 sends packets of at most 32 700 bytes; a multiple leaves no small last one.
#define INPUT_SIZE ((size_t)TURN_PACKETS * 32700)
#define READ_SIZE 32768

static void abandon(kl_ssh_channel *channel)
{
    channel->events = NULL;
    channel->input_ended = true;
    channel->paused = false;
    if (channel->state == KL_CHANNEL_QUEUED)
        channel->state = KL_CHANNEL_GONE;
    else if (channel->state == KL_CHANNEL_RUNNING)
        channel->state = KL_CHANNEL_CLOSING;
}

static void channel_done(kl_ssh_channel *channel, const kl_ssh_exit *exit,
                         const kl_failure *failure)
{
    const kl_ssh_channel_events *events = channel->events;
    abandon(channel);
    if (events != NULL)
        events->done(channel->ctx, exit, failure);
}

void kl_ssh_channel_fail(kl_ssh_channel *channel, const kl_failure *failure)
{
    channel_done(channel, NULL, failure);
}

void kl_ssh_channel_error(kl_ssh_channel *channel, int rc, const char *what)
{
    kl_ssh_session *session = channel->session;
    switch (rc) {
    case LIBSSH2_ERROR_SOCKET_NONE:
    case LIBSSH2_ERROR_SOCKET_SEND:
    case LIBSSH2_ERROR_SOCKET_RECV:
    case LIBSSH2_ERROR_SOCKET_DISCONNECT:
        if (session->wire.error == 0)
            session->wire.error = -1; // the pump ends the session, and with it every channel
        return;
    default:
        break;
    }
    kl_failure failure;
    kl_ssh_session_error(session, &failure, rc, what);
    channel_done(channel, NULL, &failure);
}

// libssh2 keeps the window at the size it opened the channel with.
static void widen_window(kl_ssh_channel *channel)
{
    unsigned long left = libssh2_channel_window_read_ex(channel->handle, NULL, NULL);
    if (left < channel->window / 4 * 3)
        libssh2_channel_receive_window_adjust2(channel->handle, channel->window - left, 1, NULL);
}

static void read_stream(kl_ssh_channel *channel, kl_ssh_stream stream)
{
    char bytes[READ_SIZE];
    int id = stream == KL_SSH_ERR ? SSH_EXTENDED_DATA_STDERR : 0;
    while (channel->state == KL_CHANNEL_RUNNING && !channel->paused) {
        ssize_t n = libssh2_channel_read_ex(channel->handle, id, bytes, sizeof bytes);
        if (n < 0 && n != LIBSSH2_ERROR_EAGAIN)
            kl_ssh_channel_error(channel, (int)n, "reading the command's output");
        if (n <= 0)
            return;
        channel->events->data(channel->ctx, stream, bytes, (size_t)n);
        if (channel->window > 0 && channel->state == KL_CHANNEL_RUNNING)
            widen_window(channel);
    }
}

typedef enum refilled { INPUT_READY, INPUT_LATER, INPUT_ENDED } refilled;

// Fills the input buffer once it is sent.
static refilled refill(kl_ssh_channel *channel)
{
    if (channel->input_at < channel->input.length)
        return INPUT_READY;
    channel->input_at = channel->input.length = 0;
    if (channel->events->pull == NULL)
        return INPUT_ENDED;
    kl_failure failure = {0};
    kl_buf_reserve(&channel->input, INPUT_SIZE);
    ssize_t n = channel->events->pull(channel->ctx, channel->input.data, INPUT_SIZE, &failure);
    if (n == KL_SSH_LATER)
        return INPUT_LATER;
    if (n < 0)
        channel_done(channel, NULL, &failure);
    else
        channel->input.length = (size_t)n;
    if (channel->input.length > channel->input_peak)
        channel->input_peak = channel->input.length;
    return n > 0 ? INPUT_READY : INPUT_ENDED;
}

// The input may have been a secret.
static void wipe_input(kl_ssh_channel *channel)
{
    if (channel->input.data != NULL)
        OPENSSL_cleanse(channel->input.data, channel->input_peak);
    kl_buf_free(&channel->input);
}

static void end_input(kl_ssh_channel *channel)
{
    int rc = libssh2_channel_send_eof(channel->handle);
    if (rc == LIBSSH2_ERROR_EAGAIN)
        return; // a key exchange runs
    channel->input_ended = true;
    channel->held_ms = 0;
    wipe_input(channel);
}

static void write_input(kl_ssh_channel *channel)
{
    kl_ssh_session *session = channel->session;
    while (channel->state == KL_CHANNEL_RUNNING && !channel->input_ended) {
        if (kl_ssh_wire_full(&session->wire) || kl_ssh_flow_holds(channel))
            return;
        refilled input = refill(channel);
        if (input == INPUT_ENDED && channel->state == KL_CHANNEL_RUNNING)
            end_input(channel);
        if (input != INPUT_READY)
            return;
        ssize_t n = libssh2_channel_write(channel->handle, channel->input.data + channel->input_at,
                                          channel->input.length - channel->input_at);
        if (n == 0 || n == LIBSSH2_ERROR_EAGAIN)
            return; // the host's window is full
        if (n < 0) {
            channel->input_ended = true; // the command stopped listening; its status will tell
            return;
        }
        channel->input_at += (size_t)n;
        if (++session->pump_packets >= TURN_PACKETS) { // every channel gets a packet in before
            kl_ssh_session_kick(session);
            return;
        }
    }
}

static void step_running(kl_ssh_channel *channel)
{
    read_stream(channel, KL_SSH_OUT);
    read_stream(channel, KL_SSH_ERR);
    write_input(channel);
    if (channel->tunnel) {
        kl_ssh_tunnel_ending(channel);
        return;
    }
    if (channel->state != KL_CHANNEL_RUNNING || channel->paused ||
        libssh2_channel_eof(channel->handle) != 1)
        return;
    // The exit status comes between the end of the output and the host's close.
    int rc = libssh2_channel_wait_closed(channel->handle);
    if (rc == 0)
        channel->state = KL_CHANNEL_CLOSING;
    else if (rc != LIBSSH2_ERROR_EAGAIN)
        kl_ssh_channel_error(channel, rc, "waiting for the command's end");
}

static void read_exit(kl_ssh_channel *channel, kl_ssh_exit *out)
{
    char *name = NULL;
    size_t length = 0;
    // First: the status of a command that a signal ended reads 0.
    libssh2_channel_get_exit_signal(channel->handle, &name, &length, NULL, NULL, NULL, NULL);
    out->code = libssh2_channel_get_exit_status(channel->handle);
    if (name == NULL)
        return;
    snprintf(out->signal, sizeof out->signal, "%s", name);
    out->code = -1;
    libssh2_free(channel->session->handle, name);
}

static void step_closing(kl_ssh_channel *channel)
{
    int rc = libssh2_channel_close(channel->handle);
    if (rc == LIBSSH2_ERROR_EAGAIN)
        return;
    if (rc != 0) {
        kl_ssh_channel_error(channel, rc, "closing the channel");
        if (channel->session->wire.error != 0)
            return;
    }
    kl_ssh_exit exit = {0};
    read_exit(channel, &exit);
    libssh2_channel_free(channel->handle); // closed on both sides: it has nothing left to send
    channel->handle = NULL;
    channel->state = KL_CHANNEL_GONE;
    kl_ssh_channels_encourage(channel->session);
    channel_done(channel, &exit, NULL);
}

static void check_deadline(kl_ssh_channel *channel, uint64_t now)
{
    if (channel->events == NULL || now < channel->deadline_ms)
        return;
    kl_failure failure;
    kl_failure_set(
        &failure, "timeout", 0, "%s: no end in time (%s)", kl_ssh_session_name(channel->session),
        channel->state >= KL_CHANNEL_RUNNING ? "the command runs on" : "the command did not start");
    channel_done(channel, NULL, &failure);
}

static void step_one(kl_ssh_channel *channel, uint64_t now)
{
    check_deadline(channel, now);
    kl_ssh_channel_step_open(channel, now);
    if (channel->state == KL_CHANNEL_RUNNING)
        step_running(channel);
    if (channel->state == KL_CHANNEL_CLOSING && channel->session->wire.error == 0)
        step_closing(channel);
}

static void channel_free(kl_ssh_channel *channel)
{
    kl_buf_free(&channel->command);
    wipe_input(channel);
    free(channel);
}

static void sweep(kl_ssh_session *session)
{
    kl_ssh_channel **at = &session->channels;
    while (*at != NULL) {
        kl_ssh_channel *channel = *at;
        if (channel->state != KL_CHANNEL_GONE) {
            at = &channel->next;
            continue;
        }
        *at = channel->next;
        channel_free(channel);
    }
}

void kl_ssh_channels_step(kl_ssh_session *session)
{
    uint64_t now = uv_now(session->loop);
    for (kl_ssh_channel *at = session->channels; at != NULL; at = at->next)
        step_one(at, now);
    sweep(session);
}

uint64_t kl_ssh_channels_due(const kl_ssh_session *session)
{
    uint64_t due = UINT64_MAX;
    bool may_open =
        session->opener == NULL && kl_ssh_channels_active(session) < KL_CHANNELS_AT_ONCE;
    for (const kl_ssh_channel *at = session->channels; at != NULL; at = at->next) {
        if (at->events != NULL && at->deadline_ms < due)
            due = at->deadline_ms;
        if (at->state == KL_CHANNEL_QUEUED && may_open && at->retry_ms < due)
            due = at->retry_ms;
        if (at->state == KL_CHANNEL_RUNNING && at->held_ms != 0 && at->held_ms < due)
            due = at->held_ms;
    }
    return due;
}

void kl_ssh_channels_fail(kl_ssh_session *session, const kl_failure *failure)
{
    for (kl_ssh_channel *at = session->channels; at != NULL; at = at->next) {
        at->handle = NULL;
        channel_done(at, NULL, failure);
        at->state = KL_CHANNEL_GONE;
    }
}

void kl_ssh_channels_free(kl_ssh_session *session)
{
    sweep(session);
}

kl_ssh_channel *kl_ssh_channel_new(kl_ssh_session *session, const kl_ssh_channel_events *events,
                                   void *ctx, kl_failure *out_failure)
{
    if (!kl_ssh_session_alive(session)) {
        kl_failure_set(out_failure, "unreachable", 0, "%s",
                       session->failure.kind != NULL ? session->failure.message
                                                     : "the session is not connected");
        return NULL;
    }
    kl_ssh_channel *channel = calloc(1, sizeof *channel);
    if (channel == NULL)
        kl_out_of_memory();
    channel->session = session;
    channel->events = events;
    channel->ctx = ctx;
    channel->deadline_ms = UINT64_MAX;
    kl_ssh_channel **at = &session->channels;
    while (*at != NULL)
        at = &(*at)->next;
    *at = channel;
    kl_ssh_session_kick(session);
    return channel;
}

kl_ssh_channel *kl_ssh_channel_exec(kl_ssh_session *session, const char *command, double timeout,
                                    const kl_ssh_channel_events *events, void *ctx,
                                    kl_failure *out_failure)
{
    kl_ssh_channel *channel = kl_ssh_channel_new(session, events, ctx, out_failure);
    if (channel == NULL)
        return NULL;
    kl_ssh_shell_command(&channel->command, &channel->input, command);
    channel->input_peak = channel->input.length;
    uv_update_time(session->loop);
    if (timeout > 0)
        channel->deadline_ms = uv_now(session->loop) + (uint64_t)(timeout * 1e3);
    return channel;
}

void kl_ssh_channel_want_pty(kl_ssh_channel *channel)
{
    channel->pty = true;
}

void kl_ssh_channel_want_spare(kl_ssh_channel *channel)
{
    channel->spare = true;
}

void kl_ssh_channel_widen(kl_ssh_channel *channel, unsigned long bytes)
{
    channel->window = bytes;
}

void kl_ssh_channel_wake(kl_ssh_channel *channel)
{
    kl_ssh_session_kick(channel->session);
}

void kl_ssh_channel_pause(kl_ssh_channel *channel, bool pause)
{
    if (channel->paused && !pause)
        kl_ssh_session_kick(channel->session);
    channel->paused = pause;
}

void kl_ssh_channel_close(kl_ssh_channel *channel)
{
    abandon(channel);
    kl_ssh_session_kick(channel->session);
}
