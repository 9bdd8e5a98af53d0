// What ssh_channel.c and ssh_channel_open.c share.
#ifndef KL_IO_SSH_CHANNEL_INTERNAL_H
#define KL_IO_SSH_CHANNEL_INTERNAL_H

#include "io/ssh_channel.h"
#include "io/ssh_session_internal.h"

// sshd's default MaxSessions is 10, and it frees a slot a moment after our close.
#define KL_CHANNELS_AT_ONCE 8

typedef enum kl_ssh_channel_state {
    KL_CHANNEL_QUEUED,
    KL_CHANNEL_OPENING,
    KL_CHANNEL_STARTING,
    KL_CHANNEL_RUNNING,
    KL_CHANNEL_CLOSING,
    KL_CHANNEL_GONE
} kl_ssh_channel_state;

struct kl_ssh_channel {
    kl_ssh_session *session;
    kl_ssh_channel *next;
    LIBSSH2_CHANNEL *handle;
    kl_ssh_channel_state state;
    const kl_ssh_channel_events *events; // NULL: nobody listens any more
    void *ctx;
    bool pty;             // a terminal is still to be asked for
    bool spare;           // it takes only a slot that is free
    unsigned long window; // 0: libssh2's
    uint64_t asked_ns;    // when libssh2 was first asked to open it; 0: not yet
    bool tunnel;
    kl_buf command; // of a tunnel, the host to connect to
    int port;
    bool ended; // the other side's end was told
    uint64_t deadline_ms;
    uint64_t retry_ms; // when refused: not before
    int refusals;
    bool paused;
    bool input_ended;
    kl_buf input; // being sent; libssh2 wants the same bytes again after EAGAIN
    size_t input_at;
    size_t input_peak;         // bytes of the buffer that were ever used
    unsigned long host_window; // the largest that it offered
    unsigned long extra;       // bytes that may be under way besides what usually may
    uint64_t held_ms;          // input is held back until then; 0: it is not
};

// ssh_channel.c
// Makes a channel at the end of the session's list. NULL and `out_failure` when it is closed.
kl_ssh_channel *kl_ssh_channel_new(kl_ssh_session *session, const kl_ssh_channel_events *events,
                                   void *ctx, kl_failure *out_failure);
// Ends a channel that has nothing to close.
void kl_ssh_channel_fail(kl_ssh_channel *channel, const kl_failure *failure);
// A libssh2 call failed: of the channel alone, or because the connection is gone.
void kl_ssh_channel_error(kl_ssh_channel *channel, int rc, const char *what);

// ssh_tunnel.c
// Moves a tunnel on that is open.
void kl_ssh_tunnel_ending(kl_ssh_channel *channel);
// Tries to open it. True when that has ended.
bool kl_ssh_tunnel_open(kl_ssh_channel *channel);

// ssh_flow.c
// Whether enough of the input is under way for now; asks again when the host took some, or at
// `held_ms`.
bool kl_ssh_flow_holds(kl_ssh_channel *channel);

// ssh_channel_open.c
// Moves a channel that does not run yet towards it.
void kl_ssh_channel_step_open(kl_ssh_channel *channel, uint64_t now);
// Commands that take a slot of the host; its MaxSessions does not count tunnels.
int kl_ssh_channels_active(const kl_ssh_session *session);
// A slot of the host is free, or will be in a moment: those it refused may try again.
void kl_ssh_channels_encourage(kl_ssh_session *session);

#endif
