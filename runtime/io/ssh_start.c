// Makes libssh2's half of a session, with the algorithms that kiln prefers.
#include "io/ssh_session_internal.h"

// What a default sshd accepts, the cheap ones first: group16 and -exchange hold the loop for 20 ms.
const char kl_ssh_key_exchanges[] =
    "curve25519-sha256,curve25519-sha256@libssh.org,ecdh-sha2-nistp256,ecdh-sha2-nistp384,"
    "diffie-hellman-group14-sha256,diffie-hellman-group16-sha512,"
    "diffie-hellman-group-exchange-sha256";

// libssh2 1.10 has no others that are worth having; these are fastest with it.
#define CIPHERS "aes128-ctr,aes256-ctr"
#define MACS "hmac-sha2-256,hmac-sha2-512"

bool kl_ssh_session_prepare(kl_ssh_session *session)
{
    const struct {
        int method;
        const char *names;
    } preferences[] = {{LIBSSH2_METHOD_KEX, kl_ssh_key_exchanges},
                       {LIBSSH2_METHOD_HOSTKEY, kl_buf_text(&session->host_key_types)},
                       {LIBSSH2_METHOD_CRYPT_CS, CIPHERS},
                       {LIBSSH2_METHOD_CRYPT_SC, CIPHERS},
                       {LIBSSH2_METHOD_MAC_CS, MACS},
                       {LIBSSH2_METHOD_MAC_SC, MACS}};
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
