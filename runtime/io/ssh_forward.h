// Ports: one here whose connections go out from a session's host, or one there that leads here.
#ifndef KL_IO_SSH_FORWARD_H
#define KL_IO_SSH_FORWARD_H

#include "base/failure.h"
#include "io/ssh_session.h"

typedef struct kl_ssh_forward kl_ssh_forward;

// Listens on host:port here (port 0: any that is free); each connection goes on to to_host:to_port
// as the session's host sees them. NULL and `out_failure`: it cannot listen.
kl_ssh_forward *kl_ssh_forward_open(kl_ssh_session *session, const char *host, int port,
                                    const char *to_host, int to_port, kl_failure *out_failure);
int kl_ssh_forward_port(const kl_ssh_forward *forward);
// Why the last connection failed that did; NULL: none has.
const kl_failure *kl_ssh_forward_failure(const kl_ssh_forward *forward);
// Ends it and its connections.
void kl_ssh_forward_close(kl_ssh_forward *forward);

typedef struct kl_ssh_listen kl_ssh_listen;

// Called once: the port that the host listens on, or 0 and the failure (`denied`, `unreachable`).
typedef void (*kl_ssh_listen_fn)(void *ctx, int port, const kl_failure *failure);

// Has the session's host listen on host:port; each connection leads to to_host:to_port as seen from
// here. Only on a session that has no other traffic yet: libssh2 mistakes the answer to a sign of
// life for the answer to this. NULL and `out_failure` when the session is closed.
kl_ssh_listen *kl_ssh_listen_open(kl_ssh_session *session, const char *host, int port,
                                  const char *to_host, int to_port, kl_ssh_listen_fn done,
                                  void *ctx, kl_failure *out_failure);
const kl_failure *kl_ssh_listen_failure(const kl_ssh_listen *listen);
// Ends it and its connections. The host stops listening with the session.
void kl_ssh_listen_close(kl_ssh_listen *listen);

#endif
