// Judges what the other side shows: whether its key is the pinned one, what libssh2's errors mean.
#include "io/ssh_session_internal.h"

#include <openssl/crypto.h>
#include <string.h>

bool kl_ssh_session_trusts(kl_ssh_session *session)
{
    if (session->trusted || session->failure.kind != NULL)
        return session->trusted;
    size_t length = 0;
    int type = 0;
    const char *key = libssh2_session_hostkey(session->handle, &length, &type);
    if (key == NULL)
        return true; // it has not shown its key yet, and gets nothing but the key exchange
    session->trusted = length == session->pin.blob.length &&
                       CRYPTO_memcmp(key, session->pin.blob.data, length) == 0;
    if (!session->trusted) {
        char shown[64], pinned[64];
        kl_ssh_fingerprint(shown, key, length);
        kl_ssh_fingerprint(pinned, session->pin.blob.data, session->pin.blob.length);
        kl_failure_set(&session->failure, "host_key", 0,
                       "%s shows the host key %s, not the pinned %s; nothing was sent to it",
                       session->name, shown, pinned);
    }
    return session->trusted;
}

static const char *kind_of(int rc)
{
    switch (rc) {
    case LIBSSH2_ERROR_SOCKET_NONE:
    case LIBSSH2_ERROR_BANNER_RECV:
    case LIBSSH2_ERROR_BANNER_SEND:
    case LIBSSH2_ERROR_SOCKET_SEND:
    case LIBSSH2_ERROR_SOCKET_RECV:
    case LIBSSH2_ERROR_SOCKET_DISCONNECT:
    case LIBSSH2_ERROR_SOCKET_TIMEOUT:
    case LIBSSH2_ERROR_TIMEOUT:
        return "unreachable";
    case LIBSSH2_ERROR_FILE:
    case LIBSSH2_ERROR_METHOD_NONE:
    case LIBSSH2_ERROR_AUTHENTICATION_FAILED:
    case LIBSSH2_ERROR_PUBLICKEY_UNVERIFIED:
    case LIBSSH2_ERROR_KEYFILE_AUTH_FAILED:
        return "auth";
    case LIBSSH2_ERROR_CHANNEL_FAILURE:
        return "limit";
    case LIBSSH2_ERROR_CHANNEL_REQUEST_DENIED:
        return "denied";
    default:
        return "protocol";
    }
}

void kl_ssh_session_error(kl_ssh_session *session, kl_failure *out, int rc, const char *what)
{
    if (session->failure.kind != NULL) { // the first cause says more
        *out = session->failure;
        return;
    }
    if (session->wire.error != 0) {
        kl_failure_set(out, "unreachable", session->wire.error, "%s: %s: %s", session->name, what,
                       session->wire.error > 0 ? strerror(session->wire.error)
                                               : "the host closed the connection");
        return;
    }
    char *text = NULL;
    libssh2_session_last_error(session->handle, &text, NULL, 0);
    kl_failure_set(out, kind_of(rc), rc, "%s: %s: %s", session->name, what,
                   text != NULL && *text != '\0' ? text : "libssh2 gave no reason");
}
