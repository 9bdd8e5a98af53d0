// How a session starts: the way to its host, the algorithms that kiln prefers.
#include "io/ssh_session_internal.h"

#include "io/ssh_cipher.h"
#include "io/ssh_relay.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

// What a default sshd accepts, the cheap ones first: group16 and -exchange hold the loop for 20 ms.
const char kl_ssh_key_exchanges[] =
    "curve25519-sha256,curve25519-sha256@libssh.org,ecdh-sha2-nistp256,ecdh-sha2-nistp384,"
    "diffie-hellman-group14-sha256,diffie-hellman-group16-sha512,"
    "diffie-hellman-group-exchange-sha256";

// libssh2 1.10 has no others that are worth having; these are fastest with it. What 1.11 has
// besides comes last, for hosts that take nothing else: its -etm MACs and GCM leave libssh2's
// memory when a packet's length is changed on the way (libssh2 issue 1491, PR 2198).
#define CIPHERS "aes128-ctr,aes256-ctr"
#define MACS "hmac-sha2-256,hmac-sha2-512"

const char *kl_ssh_ciphers(void)
{
    return kl_ssh_rsa_works() ? CIPHERS ",chacha20-poly1305@openssh.com,aes256-gcm@openssh.com,"
                                        "aes128-gcm@openssh.com"
                              : CIPHERS;
}

const char *kl_ssh_macs(void)
{
    return kl_ssh_rsa_works() ? MACS ",hmac-sha2-256-etm@openssh.com,hmac-sha2-512-etm@openssh.com"
                              : MACS;
}

bool kl_ssh_library_ready(void)
{
    static int state = 1; // not tried yet
    if (state == 1) {
        state = libssh2_init(0);
        kl_ssh_cipher_start();
    }
    return state == 0;
}

void kl_ssh_session_copy(kl_ssh_session *session, const kl_ssh_options *options)
{
    session->keepalive = options->keepalive;
    snprintf(session->name, sizeof session->name, "%s:%d", options->host, options->port);
    snprintf(session->user, sizeof session->user, "%s", options->user);
    for (size_t i = 0; i < options->key_count; i++)
        session->login.keys[i] = kl_ssh_key_hold(options->keys[i]);
    session->login.count = options->key_count;
}

bool kl_ssh_session_prepare(kl_ssh_session *session)
{
    const struct {
        int method;
        const char *names;
    } preferences[] = {{LIBSSH2_METHOD_KEX, kl_ssh_key_exchanges},
                       {LIBSSH2_METHOD_HOSTKEY, kl_buf_text(&session->host_key_types)},
                       {LIBSSH2_METHOD_CRYPT_CS, kl_ssh_ciphers()},
                       {LIBSSH2_METHOD_CRYPT_SC, kl_ssh_ciphers()},
                       {LIBSSH2_METHOD_MAC_CS, kl_ssh_macs()},
                       {LIBSSH2_METHOD_MAC_SC, kl_ssh_macs()}};
    session->handle = kl_ssh_memory_session(session);
    if (session->handle == NULL)
        return false;
    libssh2_session_set_blocking(session->handle, 0);
    for (size_t i = 0; i < sizeof preferences / sizeof *preferences; i++)
        if (libssh2_session_method_pref(session->handle, preferences[i].method,
                                        preferences[i].names) != 0)
            return false;
    return true;
}

static void way_opened(void *ctx)
{
    kl_ssh_session *session = ctx;
    int fd = session->relay_fd;
    kl_ssh_relay_forget(session->relay); // it lives until one of its ends closes
    session->relay = NULL;
    kl_ssh_session_connected(session, fd, NULL);
}

static void way_ended(void *ctx, const kl_failure *failure)
{
    kl_ssh_session *session = ctx;
    kl_failure closed = {0};
    kl_failure_set(&closed, "unreachable", 0, "%s: the way through another host closed",
                   session->name);
    session->relay = NULL;
    close(session->relay_fd);
    kl_ssh_session_connected(session, -1, failure != NULL ? failure : &closed);
}

bool kl_ssh_session_go_through(kl_ssh_session *session, const kl_ssh_options *options)
{
    static const kl_ssh_relay_events events = {way_opened, way_ended};
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) != 0) {
        kl_failure_errno(&session->failure, errno, "a socket pair");
        return false;
    }
    session->relay_fd = pair[0];
    session->relay = kl_ssh_relay_open(options->via, pair[1], options->host, options->port, &events,
                                       session, &session->failure);
    if (session->relay == NULL)
        close(pair[0]);
    return session->relay != NULL;
}

void kl_ssh_session_stop_going(kl_ssh_session *session)
{
    if (session->relay == NULL)
        return;
    kl_ssh_relay_close(session->relay);
    session->relay = NULL;
    close(session->relay_fd);
}
