// Tunnels: TCP connections that an SSH session's host makes for us (RFC 4254 section 7.2).
#include "io/ssh_channel_internal.h"

#include <string.h>

kl_ssh_channel *kl_ssh_channel_tunnel(kl_ssh_session *session, const char *host, int port,
                                      const kl_ssh_channel_events *events, void *ctx,
                                      kl_failure *out_failure)
{
    kl_ssh_channel *channel = kl_ssh_channel_new(session, events, ctx, out_failure);
    if (channel == NULL)
        return NULL;
    channel->tunnel = true;
    channel->port = port;
    kl_buf_puts(&channel->command, host);
    return channel;
}

// libssh2 tells the host's reason only in words.
static void open_failed(kl_ssh_channel *channel, int rc)
{
    kl_ssh_session *session = channel->session;
    char *text = NULL;
    channel->state = KL_CHANNEL_QUEUED; // there is nothing to close
    if (rc != LIBSSH2_ERROR_CHANNEL_FAILURE) {
        kl_ssh_channel_error(channel, rc, "opening a tunnel");
        return;
    }
    libssh2_session_last_error(session->handle, &text, NULL, 0);
    bool denied = text != NULL && strstr(text, "prohibited") != NULL;
    kl_failure failure;
    if (denied)
        kl_failure_set(&failure, "denied", rc,
                       "%s: its sshd forbids tunnels to %s:%d (AllowTcpForwarding, PermitOpen)",
                       session->name, kl_buf_text(&channel->command), channel->port);
    else
        kl_failure_set(&failure, "unreachable", rc, "%s: %s:%d does not answer from there (%s)",
                       session->name, kl_buf_text(&channel->command), channel->port,
                       text != NULL ? text : "no reason given");
    kl_ssh_channel_fail(channel, &failure);
}

bool kl_ssh_tunnel_open(kl_ssh_channel *channel)
{
    kl_ssh_session *session = channel->session;
    channel->handle = libssh2_channel_direct_tcpip_ex(
        session->handle, kl_buf_text(&channel->command), channel->port, "127.0.0.1", 0);
    int rc = channel->handle != NULL ? 0 : libssh2_session_last_errno(session->handle);
    if (rc == LIBSSH2_ERROR_EAGAIN)
        return false;
    if (rc != 0) {
        if (session->state != KL_SSH_CLOSED)
            open_failed(channel, rc);
        return true;
    }
    bool wanted = channel->events != NULL;
    channel->state = wanted ? KL_CHANNEL_RUNNING : KL_CHANNEL_CLOSING;
    if (wanted && channel->events->opened != NULL)
        channel->events->opened(channel->ctx);
    return true;
}

void kl_ssh_tunnel_ending(kl_ssh_channel *channel)
{
    if (channel->state != KL_CHANNEL_RUNNING || channel->paused ||
        libssh2_channel_eof(channel->handle) != 1)
        return;
    if (!channel->ended) {
        channel->ended = true;
        channel->events->data(channel->ctx, KL_SSH_OUT, NULL, 0);
    }
    if (channel->state != KL_CHANNEL_RUNNING)
        return;
    // Over when both have ended, or the host has closed the channel altogether.
    int rc = libssh2_channel_wait_closed(channel->handle);
    if (rc == 0 || channel->input_ended)
        channel->state = KL_CHANNEL_CLOSING;
    else if (rc != LIBSSH2_ERROR_EAGAIN)
        kl_ssh_channel_error(channel, rc, "waiting for a tunnel's end");
}
