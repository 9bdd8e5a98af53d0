// Joins a socket here with a tunnel through an SSH session.
#ifndef KL_IO_SSH_RELAY_H
#define KL_IO_SSH_RELAY_H

#include <stdbool.h>

#include "base/failure.h"
#include "io/ssh_session.h"

typedef struct kl_ssh_relay kl_ssh_relay;

typedef struct kl_ssh_relay_events {
    // The far end is connected. May be NULL.
    void (*opened)(void *ctx);
    // The end, once, unless closed before; `failure` is NULL when both sides ended as they should.
    // The relay is gone afterwards.
    void (*ended)(void *ctx, const kl_failure *failure);
} kl_ssh_relay_events;

// Joins `fd`, which it takes and which must not block, with host:port as the session's host sees
// it. NULL and `out_failure` when the session is closed; then `fd` is closed too.
kl_ssh_relay *kl_ssh_relay_open(kl_ssh_session *session, int fd, const char *host, int port,
                                const kl_ssh_relay_events *events, void *ctx,
                                kl_failure *out_failure);
// The same with a channel that the host opened: `handle`, which it takes (a LIBSSH2_CHANNEL *).
kl_ssh_relay *kl_ssh_relay_accept(kl_ssh_session *session, int fd, void *handle,
                                  const kl_ssh_relay_events *events, void *ctx,
                                  kl_failure *out_failure);
// Leaves it to itself: it goes on until one of its ends closes, and calls nobody.
void kl_ssh_relay_forget(kl_ssh_relay *relay);
// Ends it now; `ended` is not called any more.
void kl_ssh_relay_close(kl_ssh_relay *relay);

#endif
