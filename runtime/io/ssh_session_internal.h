// What ssh_session.c, ssh_wire.c and ssh_channel.c share.
#ifndef KL_IO_SSH_SESSION_INTERNAL_H
#define KL_IO_SSH_SESSION_INTERNAL_H

#include <libssh2.h>
#include <stdint.h>

#include "base/buf.h"
#include "io/dial.h"
#include "io/ssh_key.h"
#include "io/ssh_pin.h"
#include "io/ssh_session.h"

struct kl_ssh_channel;
struct kl_ssh_listen;

// The bytes between the socket and libssh2. libssh2 reads and writes only these buffers: its sends
// are always accepted whole, so that it never holds a half-sent packet of one channel while another
// wants to send (which 1.10 answers with corruption, libssh2 PR 169 and 1397, or a hang, 2110).
typedef struct kl_ssh_wire {
    int fd; // -1: none
    kl_buf in;
    size_t in_at;
    size_t allowance; // bytes that libssh2 may still have of it in this pump
    kl_buf opening;   // a copy of the first bytes, until the handshake is over
    bool opened;
    kl_buf out;
    size_t out_at;
    uint64_t sent;        // bytes that libssh2 wanted sent
    uint64_t received;    // bytes that came
    uint64_t received_ms; // when the peer was last heard
    int unanswered;       // signs of life asked for since then
    int error;            // errno of the lost connection, -1: closed by the peer, 0: fine
    bool cut;             // nothing goes out or comes in any more
} kl_ssh_wire;

// What libssh2 allocated for one session: 1.10 forgets some of it, like the old host key at a new
// key exchange, or the key exchange's buffers when it fails (libssh2 1691).
typedef struct kl_ssh_memory {
    struct kl_ssh_block *first;
    // kl_ssh_memory_restore
    int restore_after;
    char *restore_at;
    const char *restore_from;
    size_t restore_length;
} kl_ssh_memory;

// The user's keys and how far the login has come with them.
typedef struct kl_ssh_login {
    kl_ssh_key *keys[KL_SSH_KEYS]; // references
    size_t count;
    size_t at;
    bool under_way;             // libssh2 is in the middle of this key
    struct kl_ssh_agent *asked; // for a signature
    bool answered;
    kl_buf blob;      // that libssh2 is told
    kl_buf data;      // that the agent is to sign
    kl_buf signature; // of them
    kl_failure problem;
    kl_failure first_problem;
    kl_buf refused; // what was tried, in words
} kl_ssh_login;

typedef enum kl_ssh_state {
    KL_SSH_DIALING,
    KL_SSH_HANDSHAKE,
    KL_SSH_LOGIN,
    KL_SSH_OPEN,
    KL_SSH_CLOSED
} kl_ssh_state;

struct kl_ssh_session {
    uv_loop_t *loop;
    kl_ssh_state state;
    int references;
    int handles; // open handles of the loop
    bool polling;
    int events; // that the poll waits for
    bool pumping;
    bool kicked; // it is to run at the next turn
    bool again;  // the pump has more to do
    bool trusted;
    char name[280]; // "host:port"
    char user[64];
    kl_ssh_login login;
    kl_ssh_pins pins;
    kl_buf host_key_types; // to ask the host for: "ssh-ed25519,…"
    double keepalive;
    // Seconds: the shortest of the login's first answer and the openings of channels, for a host
    // that is busy answers late over a short way, too. 0: not known yet.
    double round_trip;
    uint64_t login_ns;       // when the login asked first
    uint64_t login_received; // the bytes that had come then
    uint64_t pump_ns;        // CPU when the pump that runs began
    int pump_packets;        // of commands' input that it sent
    uint64_t deadline_ms;    // of the connect
    uint64_t keepalive_ms;   // when the next sign of life is due
    int withheld;            // signs of life that libssh2 did not send
    kl_dial *dial;
    struct kl_ssh_relay *relay; // to its socket through another session, until that is open
    int relay_fd;               // the socket meanwhile
    kl_process *proxy;          // the program that connects; NULL: none
    char proxy_name[128];
    uint64_t proxy_until_ms; // when a session whose connection ended no longer waits for its end
    LIBSSH2_SESSION *handle;
    kl_ssh_memory memory;
    kl_ssh_wire wire;
    uv_poll_t poll;
    uv_timer_t timer;
    kl_ssh_ready_fn ready;
    void *ctx;
    kl_failure failure;              // why it closed
    struct kl_ssh_channel *channels; // in order of their start
    struct kl_ssh_listen *listens;   // ports that the host listens on for us
    struct kl_ssh_channel *opener;   // the one that may open: libssh2 opens one at a time
};

// ssh_memory.c
// Makes libssh2's half of a session, which allocates from its `memory`. NULL: out of memory.
LIBSSH2_SESSION *kl_ssh_memory_session(kl_ssh_session *session);
// Bytes for libssh2 to free. NULL: out of memory.
unsigned char *kl_ssh_memory_copy(kl_ssh_session *session, const void *bytes, size_t length);
// Writes `from` over `at`, both borrowed, when libssh2 makes its allocation number `after` from
// now.
void kl_ssh_memory_restore(kl_ssh_memory *memory, char *at, const char *from, size_t length,
                           int after);
// Frees what is left, after libssh2_session_free.
void kl_ssh_memory_free(kl_ssh_memory *memory);

// ssh_wire.c
void kl_ssh_wire_attach(kl_ssh_wire *wire, int fd, LIBSSH2_SESSION *handle);
// Takes what the socket has, sends what waits.
void kl_ssh_wire_fill(kl_ssh_wire *wire, uint64_t now_ms);
void kl_ssh_wire_flush(kl_ssh_wire *wire);
// Whether there is input that libssh2 was not allowed to have yet.
bool kl_ssh_wire_withholds(const kl_ssh_wire *wire);
bool kl_ssh_wire_wants_input(const kl_ssh_wire *wire);
bool kl_ssh_wire_has_output(const kl_ssh_wire *wire);
// Whether a bulk writer should wait.
bool kl_ssh_wire_full(const kl_ssh_wire *wire);
void kl_ssh_wire_close(kl_ssh_wire *wire);

// ssh_login.c
// Goes on with the login. True when it has ended: `out_rc` 0, or an error which `out_failure` may
// describe.
bool kl_ssh_login_step(kl_ssh_session *session, int *out_rc, kl_failure *out_failure);
// Lets the call that was interrupted fail, so that libssh2 frees what it holds.
void kl_ssh_login_unwind(kl_ssh_session *session);
void kl_ssh_login_free(kl_ssh_login *login);

// ssh_judge.c
// Whether bytes may go to this peer: its key is not known yet, or it is the pinned one.
bool kl_ssh_session_trusts(kl_ssh_session *session);
// Describes a handshake that failed, from what the host said.
void kl_ssh_session_handshake_error(kl_ssh_session *session, kl_failure *out, int rc);
// Describes libssh2's last error.
void kl_ssh_session_error(kl_ssh_session *session, kl_failure *out, int rc, const char *what);

// ssh_start.c
// Starts libssh2, once. False: it cannot.
bool kl_ssh_library_ready(void);
// Copies the names of the options, and takes references to their keys.
void kl_ssh_session_copy(kl_ssh_session *session, const kl_ssh_options *options);
// Makes libssh2's half, with kiln's preferences. False: it cannot.
bool kl_ssh_session_prepare(kl_ssh_session *session);
extern const char kl_ssh_key_exchanges[];
const char *kl_ssh_ciphers(void);
const char *kl_ssh_macs(void);

// Has the host of `via` connect to ours; false with `session->failure` set when it cannot.
bool kl_ssh_session_go_through(kl_ssh_session *session, const kl_ssh_options *options);
void kl_ssh_session_stop_going(kl_ssh_session *session);

// ssh_proxy.c
// Starts the program of the options. Returns our end of the connection; -1 and `session->failure`
// when it cannot start.
int kl_ssh_proxy_start(kl_ssh_session *session, const kl_ssh_options *options);
// Whether the connection has ended and the program may yet say why.
bool kl_ssh_proxy_is_ending(kl_ssh_session *session);
// Adds to a failure of the connection how the program ended and what it printed last.
void kl_ssh_proxy_explain(const kl_ssh_session *session, kl_failure *failure);
// Ends the program.
void kl_ssh_proxy_release(kl_ssh_session *session);

// ssh_listen.c
// Moves every listening port on, and ends them all with the session.
void kl_ssh_listens_step(kl_ssh_session *session);
void kl_ssh_listens_fail(kl_ssh_session *session);

// ssh_clock.c
// Ends the session when its time is over or its host is gone; asks for signs of life.
void kl_ssh_clocks_check(kl_ssh_session *session);
// Whether the pump that runs has taken long; it goes on at the next turn.
void kl_ssh_pump_begins(kl_ssh_session *session);
bool kl_ssh_pump_is_long(const kl_ssh_session *session);
// Whether sessions have had their share of this turn of the loop.
bool kl_ssh_turn_is_spent(const kl_ssh_session *session);

// ssh_session.c
// Ends it for this reason.
void kl_ssh_session_fail(kl_ssh_session *session, const kl_failure *failure);
// Has a connected socket, which the session takes; -1 and the failure: it could not be had.
void kl_ssh_session_connected(kl_ssh_session *session, int fd, const kl_failure *failure);
// Runs the session at the next turn of the loop.
void kl_ssh_session_kick(kl_ssh_session *session);

// ssh_channel.c
// Moves every channel on; returns the earliest deadline in milliseconds, UINT64_MAX if none.
void kl_ssh_channels_step(kl_ssh_session *session);
uint64_t kl_ssh_channels_due(const kl_ssh_session *session);
// Ends every channel with the failure.
void kl_ssh_channels_fail(kl_ssh_session *session, const kl_failure *failure);
// Frees them; their libssh2 halves went with the session.
void kl_ssh_channels_free(kl_ssh_session *session);
// ssh_channel_open.c
// Lets the call that was interrupted fail, so that libssh2 frees what it holds.
void kl_ssh_channels_unwind(kl_ssh_session *session);

#endif
