// How much of a command's input is under way: less than the host's window where the way is short.
#include "io/ssh_channel_internal.h"

// sshd keeps what a command has not read in one block of memory, which it moves and grows: 2 MB of
// it, its window, cost it more time than a tree's decryption.
#define UNDER_WAY 262144
#define RATE 400e6  // bytes a second that a round trip is not to limit
#define PATIENCE 20 // ms; a host that says nothing for so long may be one that says it seldom

bool kl_ssh_flow_holds(kl_ssh_channel *channel)
{
    const kl_ssh_session *session = channel->session;
    uint64_t now = uv_now(session->loop);
    unsigned long room = libssh2_channel_window_write_ex(channel->handle, NULL);
    if (room > channel->host_window)
        channel->host_window = room;
    double most = UNDER_WAY + session->round_trip * RATE + (double)channel->extra;
    if ((double)(channel->host_window - room) < most) {
        channel->held_ms = 0;
        return false;
    }
    if (channel->held_ms == 0)
        channel->held_ms = now + PATIENCE;
    if (now < channel->held_ms)
        return true;
    channel->extra += UNDER_WAY;
    channel->held_ms = 0;
    return false;
}
