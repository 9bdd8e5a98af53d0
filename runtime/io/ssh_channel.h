// Commands on an SSH session, and tunnels through it: each in a channel of its own, several at
// once.
#ifndef KL_IO_SSH_CHANNEL_H
#define KL_IO_SSH_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "io/ssh_session.h"

typedef struct kl_ssh_channel kl_ssh_channel;

typedef enum kl_ssh_stream { KL_SSH_OUT = 0, KL_SSH_ERR = 1 } kl_ssh_stream;

typedef struct kl_ssh_exit {
    int code;        // -1 if a signal ended it
    char signal[32]; // "KILL"; empty if none
} kl_ssh_exit;

// What `pull` returns when it has no input yet: kl_ssh_channel_wake asks again.
#define KL_SSH_LATER (-2)

// Called from the loop; they may start and close channels, but not close the session.
typedef struct kl_ssh_channel_events {
    // Bytes of one stream, borrowed for the call; of a tunnel also none: the other side's end.
    void (*data)(void *ctx, kl_ssh_stream stream, const char *bytes, size_t length);
    // Writes up to `size` bytes of standard input and returns their number, 0 at its end,
    // KL_SSH_LATER, or -1 when `out_failure` says what went wrong. NULL: no input.
    ssize_t (*pull)(void *ctx, char *out, size_t size, kl_failure *out_failure);
    // The end, once, unless closed before: how the command ended, or the failure (timeout
    // unreachable limit denied …) with `exit` NULL. The channel is gone afterwards.
    void (*done)(void *ctx, const kl_ssh_exit *exit, const kl_failure *failure);
    // A tunnel's far end is connected. NULL: nobody asks.
    void (*opened)(void *ctx);
} kl_ssh_channel_events;

// Queues a command of the host's /bin/sh, in the environment that the login shell sets up;
// `timeout` in seconds from now to its end, 0: none. NULL and `out_failure` when the session is
// closed. The channel is valid until `done` or kl_ssh_channel_close.
kl_ssh_channel *kl_ssh_channel_exec(kl_ssh_session *session, const char *command, double timeout,
                                    const kl_ssh_channel_events *events, void *ctx,
                                    kl_failure *out_failure);
// Asks for a terminal before the command starts: one stream, and a hang-up when the channel closes.
void kl_ssh_channel_want_pty(kl_ssh_channel *channel);
// Lets the host send so many bytes before it hears that some were taken, which is what comes in one
// round trip (2 MB, the fastest where that is short). What is paused may fill memory with them.
void kl_ssh_channel_widen(kl_ssh_channel *channel, unsigned long bytes);
// Has it end with `limit` at once if the host or others of ours leave it no room.
void kl_ssh_channel_want_spare(kl_ssh_channel *channel);
// Queues a TCP connection that the session's host makes, to a name or address as it sees them. Ends
// with `unreachable` or `denied` when it cannot. While it connects, no other channel opens.
kl_ssh_channel *kl_ssh_channel_tunnel(kl_ssh_session *session, const char *host, int port,
                                      const kl_ssh_channel_events *events, void *ctx,
                                      kl_failure *out_failure);
// There is input now, or its end.
void kl_ssh_channel_wake(kl_ssh_channel *channel);
// Stops and restarts reading, for a consumer that is slower than the host.
void kl_ssh_channel_pause(kl_ssh_channel *channel, bool pause);
// Gives up: no event comes any more; the channel is closed on the host in the background.
void kl_ssh_channel_close(kl_ssh_channel *channel);

#endif
