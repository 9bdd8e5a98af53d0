// One SSH connection on the event loop, by libssh2: connects, checks the pinned host key, logs in,
// and carries channels (io/ssh_channel.h).
#ifndef KL_IO_SSH_SESSION_H
#define KL_IO_SSH_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

#include "base/failure.h"
#include "io/process.h"
#include "io/ssh_key.h"
#include "io/ssh_pin.h"

typedef struct kl_ssh_session kl_ssh_session;

#define KL_SSH_KEYS 32

// Everything is copied, the keys are held.
typedef struct kl_ssh_options {
    const char *host;
    int port;
    const char *user;
    kl_ssh_key *const *keys; // tried in this order
    size_t key_count;        // 1 to KL_SSH_KEYS
    const kl_ssh_pins *pins; // the only host keys that are accepted
    kl_ssh_session *via;     // go through this one's host; NULL: dial. Must live on
    char *const *proxy;      // arguments of a program whose input and output are the connection to
                             // the host; NULL: none
    kl_process_family *family; // that the program belongs to
    double timeout;            // seconds from the first packet to the login
    double keepalive;          // seconds between signs of life; after three without, it is lost
} kl_ssh_options;

// Called once: NULL when logged in; else unreachable timeout host_key auth protocol unsupported,
// and the session is closed.
typedef void (*kl_ssh_ready_fn)(void *ctx, const kl_failure *failure);

// Starts connecting. NULL and `out_failure` when the keys cannot work (invalid, unsupported), or
// the proxy's program cannot start (not_found, denied).
// Returns owned: one reference. Never calls `ready` before it returned.
kl_ssh_session *kl_ssh_session_open(uv_loop_t *loop, const kl_ssh_options *options,
                                    kl_ssh_ready_fn ready, void *ctx, kl_failure *out_failure);
// Logged in and not lost.
bool kl_ssh_session_alive(const kl_ssh_session *session);
// Seconds to the host and back, through all that is on the way; 0 before a command ran.
double kl_ssh_session_round_trip(const kl_ssh_session *session);
uv_loop_t *kl_ssh_session_loop(const kl_ssh_session *session);
// "host:port", borrowed while the session lives.
const char *kl_ssh_session_name(const kl_ssh_session *session);
// Ends the connection now, without waiting for the peer. `ready` is not called any more; channels
// end with `cancelled`. May run twice.
void kl_ssh_session_close(kl_ssh_session *session);
kl_ssh_session *kl_ssh_session_hold(kl_ssh_session *session);
// Gives a reference back; the last one closes.
void kl_ssh_session_drop(kl_ssh_session *session);

#endif
