// Joins a socket here with a tunnel through an SSH session.
#include "io/ssh_relay.h"

#include "io/ssh_channel_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define OUT_PAUSE ((size_t)512 * 1024)
#define OUT_RESUME ((size_t)128 * 1024)

struct kl_ssh_relay {
    int fd;
    uv_poll_t poll;
    int events;              // that the poll waits for
    kl_ssh_channel *channel; // NULL once it is done
    kl_buf out;              // for the socket
    size_t out_at;
    bool hungry;  // the channel wants input, and the socket had none
    bool far_end; // the far side sends no more
    bool shut;    // and the socket was told
    bool lost;    // the socket is broken
    kl_failure failure;
    const kl_ssh_relay_events *listener; // NULL: nobody listens any more
    void *ctx;
};

static void poll_closed(uv_handle_t *handle)
{
    kl_ssh_relay *relay = handle->data;
    kl_buf_free(&relay->out);
    free(relay);
}

static void finish(kl_ssh_relay *relay)
{
    const kl_ssh_relay_events *listener = relay->listener;
    relay->listener = NULL;
    if (relay->channel != NULL)
        kl_ssh_channel_close(relay->channel);
    relay->channel = NULL;
    if (relay->fd >= 0) {
        uv_poll_stop(&relay->poll);
        close(relay->fd);
        relay->fd = -1;
        uv_close((uv_handle_t *)&relay->poll, poll_closed);
    }
    if (listener != NULL)
        listener->ended(relay->ctx, kl_failed(&relay->failure) ? &relay->failure : NULL);
}

static size_t pending(const kl_ssh_relay *relay)
{
    return relay->out.length - relay->out_at;
}

static void flush(kl_ssh_relay *relay)
{
    while (pending(relay) > 0 && !relay->lost) {
        ssize_t n = send(relay->fd, relay->out.data + relay->out_at, pending(relay), MSG_NOSIGNAL);
        if (n > 0)
            relay->out_at += (size_t)n;
        else if (errno == EAGAIN || errno == EWOULDBLOCK)
            return;
        else if (errno != EINTR)
            relay->lost = true;
    }
    relay->out.length = relay->out_at = 0;
    if (relay->far_end && !relay->shut) {
        relay->shut = true;
        shutdown(relay->fd, SHUT_WR);
    }
}

static void on_poll(uv_poll_t *poll, int status, int events);

// Sets what to wait for; ends the relay when there is nothing left to do.
static void settle(kl_ssh_relay *relay)
{
    if (relay->lost || (relay->channel == NULL && pending(relay) == 0)) {
        finish(relay);
        return;
    }
    if (relay->channel != NULL && pending(relay) < OUT_RESUME)
        kl_ssh_channel_pause(relay->channel, false);
    int events = (relay->hungry ? UV_READABLE : 0) | (pending(relay) > 0 ? UV_WRITABLE : 0);
    if (events == relay->events)
        return;
    relay->events = events;
    if (events != 0)
        uv_poll_start(&relay->poll, events, on_poll);
    else
        uv_poll_stop(&relay->poll);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    kl_ssh_relay *relay = poll->data;
    if (relay->hungry && (status < 0 || (events & UV_READABLE) != 0)) {
        relay->hungry = false; // the next read tells what it is
        if (relay->channel != NULL)
            kl_ssh_channel_wake(relay->channel);
    }
    flush(relay);
    settle(relay);
}

static void tunnel_data(void *ctx, kl_ssh_stream stream, const char *bytes, size_t length)
{
    (void)stream;
    kl_ssh_relay *relay = ctx;
    if (length == 0)
        relay->far_end = true;
    else
        kl_buf_append(&relay->out, bytes, length);
    flush(relay);
    if (pending(relay) > OUT_PAUSE)
        kl_ssh_channel_pause(relay->channel, true);
    settle(relay);
}

static ssize_t tunnel_pull(void *ctx, char *out, size_t size, kl_failure *out_failure)
{
    (void)out_failure;
    kl_ssh_relay *relay = ctx;
    ssize_t n = recv(relay->fd, out, size, 0);
    if (n > 0)
        return n;
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) {
        relay->hungry = true;
        settle(relay);
        return KL_SSH_LATER;
    }
    return 0; // its end, or it is broken: the far side hears no more
}

static void tunnel_done(void *ctx, const kl_ssh_exit *exit, const kl_failure *failure)
{
    (void)exit;
    kl_ssh_relay *relay = ctx;
    relay->channel = NULL;
    relay->hungry = false;
    relay->far_end = true;
    if (failure != NULL)
        relay->failure = *failure;
    flush(relay);
    settle(relay);
}

static void tunnel_opened(void *ctx)
{
    kl_ssh_relay *relay = ctx;
    if (relay->listener != NULL && relay->listener->opened != NULL)
        relay->listener->opened(relay->ctx);
}

static const kl_ssh_channel_events tunnel_events = {tunnel_data, tunnel_pull, tunnel_done,
                                                    tunnel_opened};

static kl_ssh_relay *relay_new(kl_ssh_session *session, int fd, const kl_ssh_relay_events *events,
                               void *ctx)
{
    kl_ssh_relay *relay = calloc(1, sizeof *relay);
    if (relay == NULL)
        abort();
    relay->fd = fd;
    relay->listener = events;
    relay->ctx = ctx;
    relay->poll.data = relay;
    if (uv_poll_init(session->loop, &relay->poll, fd) != 0)
        abort(); // only for what is no socket
    return relay;
}

// Gives the new relay, or undoes it when it got no channel.
static kl_ssh_relay *started(kl_ssh_relay *relay)
{
    if (relay->channel != NULL)
        return relay;
    relay->listener = NULL;
    finish(relay);
    return NULL;
}

kl_ssh_relay *kl_ssh_relay_open(kl_ssh_session *session, int fd, const char *host, int port,
                                const kl_ssh_relay_events *events, void *ctx,
                                kl_failure *out_failure)
{
    kl_ssh_relay *relay = relay_new(session, fd, events, ctx);
    relay->channel = kl_ssh_channel_tunnel(session, host, port, &tunnel_events, relay, out_failure);
    return started(relay);
}

kl_ssh_relay *kl_ssh_relay_accept(kl_ssh_session *session, int fd, void *handle,
                                  const kl_ssh_relay_events *events, void *ctx,
                                  kl_failure *out_failure)
{
    kl_ssh_relay *relay = relay_new(session, fd, events, ctx);
    relay->channel = kl_ssh_channel_new(session, &tunnel_events, relay, out_failure);
    if (relay->channel != NULL) {
        relay->channel->tunnel = true;
        relay->channel->handle = handle;
        relay->channel->state = KL_CHANNEL_RUNNING;
    }
    return started(relay);
}

void kl_ssh_relay_forget(kl_ssh_relay *relay)
{
    relay->listener = NULL;
}

void kl_ssh_relay_close(kl_ssh_relay *relay)
{
    relay->listener = NULL;
    finish(relay);
}
