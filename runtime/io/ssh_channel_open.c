// Opening channels: in their order, as many as the host allows. libssh2 opens one at a time; while
// a command starts, the next channel opens.
#include "io/ssh_channel_internal.h"

#define REFUSED_MS 50 // doubles up to sixteen times
#define REFUSALS 7    // with no command of ours running: about 3 s

int kl_ssh_channels_active(const kl_ssh_session *session)
{
    int count = 0;
    for (const kl_ssh_channel *at = session->channels; at != NULL; at = at->next)
        count += !at->tunnel && at->state != KL_CHANNEL_QUEUED && at->state != KL_CHANNEL_GONE;
    return count;
}

static void no_room(kl_ssh_channel *channel)
{
    kl_ssh_channel_error(channel, LIBSSH2_ERROR_CHANNEL_FAILURE,
                         "the host opens no more channels, perhaps for commands that were left and "
                         "still run");
}

static void step_queued(kl_ssh_channel *channel, uint64_t now)
{
    kl_ssh_session *session = channel->session;
    if (channel->spare && kl_ssh_channels_active(session) >= KL_CHANNELS_AT_ONCE) {
        no_room(channel);
        return;
    }
    if (session->opener != NULL || channel->retry_ms > now ||
        (!channel->tunnel && kl_ssh_channels_active(session) >= KL_CHANNELS_AT_ONCE))
        return;
    session->opener = channel;
    channel->state = KL_CHANNEL_OPENING;
}

// The host's limit is reached, perhaps only because it has not yet noticed a close: try again.
static void open_refused(kl_ssh_channel *channel, uint64_t now)
{
    channel->session->opener = NULL;
    channel->asked_ns = 0;
    channel->state = KL_CHANNEL_QUEUED;
    channel->retry_ms =
        now + ((uint64_t)REFUSED_MS << (channel->refusals < 4 ? channel->refusals : 4));
    channel->refusals++;
    if (channel->events == NULL)
        channel->state = KL_CHANNEL_GONE;
    else if (channel->spare ||
             (kl_ssh_channels_active(channel->session) == 0 && channel->refusals > REFUSALS))
        no_room(channel);
}

static void step_tunnel(kl_ssh_channel *channel)
{
    if (!kl_ssh_tunnel_open(channel))
        return;
    channel->session->opener = NULL;
    channel->session->again = true; // the next one may open
}

static void step_opening(kl_ssh_channel *channel, uint64_t now)
{
    kl_ssh_session *session = channel->session;
    if (channel->asked_ns == 0)
        channel->asked_ns = uv_hrtime();
    channel->handle = libssh2_channel_open_session(session->handle);
    int rc = channel->handle != NULL ? 0 : libssh2_session_last_errno(session->handle);
    if (rc == LIBSSH2_ERROR_EAGAIN)
        return;
    if (rc == LIBSSH2_ERROR_CHANNEL_FAILURE) {
        open_refused(channel, now);
        return;
    }
    if (rc != 0) {
        session->opener = NULL;
        channel->state = KL_CHANNEL_QUEUED; // there is nothing to close
        kl_ssh_channel_error(channel, rc, "opening a channel");
        return;
    }
    session->opener = NULL;
    session->again = true; // the next one may open
    channel->state = KL_CHANNEL_STARTING;
    double trip = (double)(uv_hrtime() - channel->asked_ns) / 1e9;
    if (session->round_trip == 0 || trip < session->round_trip)
        session->round_trip = trip;
}

static int start(kl_ssh_channel *channel)
{
    if (channel->pty) {
        int rc = libssh2_channel_request_pty(channel->handle, "xterm");
        if (rc != 0)
            return rc;
        channel->pty = false;
    }
    return libssh2_channel_process_startup(channel->handle, "exec", 4, channel->command.data,
                                           (unsigned int)channel->command.length);
}

static void step_starting(kl_ssh_channel *channel)
{
    int rc = start(channel);
    if (rc == LIBSSH2_ERROR_EAGAIN)
        return;
    channel->state = channel->events != NULL && rc == 0 ? KL_CHANNEL_RUNNING : KL_CHANNEL_CLOSING;
    kl_buf_free(&channel->command);
    if (rc != 0)
        kl_ssh_channel_error(channel, rc, "starting the command");
}

void kl_ssh_channel_step_open(kl_ssh_channel *channel, uint64_t now)
{
    if (channel->state == KL_CHANNEL_QUEUED)
        step_queued(channel, now);
    if (channel->state == KL_CHANNEL_OPENING && channel->tunnel)
        step_tunnel(channel);
    else if (channel->state == KL_CHANNEL_OPENING)
        step_opening(channel, now);
    if (channel->state == KL_CHANNEL_STARTING)
        step_starting(channel);
}

void kl_ssh_channels_encourage(kl_ssh_session *session)
{
    for (kl_ssh_channel *at = session->channels; at != NULL; at = at->next) {
        if (at->state == KL_CHANNEL_QUEUED) {
            at->retry_ms = 0;
            at->refusals = 0;
        }
    }
    session->again = true;
}

void kl_ssh_channels_unwind(kl_ssh_session *session)
{
    kl_ssh_channel *opener = session->opener;
    session->opener = NULL;
    if (opener != NULL && opener->tunnel)
        kl_ssh_tunnel_open(opener);
    else if (opener != NULL)
        libssh2_channel_open_session(session->handle);
    for (kl_ssh_channel *at = session->channels; at != NULL; at = at->next)
        if (at->state == KL_CHANNEL_STARTING)
            start(at);
}
