// Judges what the other side shows: whether its key is the pinned one, what libssh2's errors mean.
#include "io/ssh_session_internal.h"

#include "io/ssh_offer.h"

#include <string.h>

static void distrust(kl_ssh_session *session, const char *key, size_t length, const kl_ssh_pin *pin)
{
    char shown[64], known[64] = "";
    kl_ssh_fingerprint(shown, key, length);
    for (size_t i = 0; i < session->pins.count && known[0] == '\0'; i++)
        if (!session->pins.list[i].revoked)
            kl_ssh_fingerprint(known, session->pins.list[i].blob.data,
                               session->pins.list[i].blob.length);
    if (pin != NULL)
        kl_failure_set(&session->failure, "host_key", 0,
                       "%s shows the host key %s, which is revoked; nothing was sent to it",
                       session->name, shown);
    else
        kl_failure_set(&session->failure, "host_key", 0,
                       "%s shows the host key %s, not the pinned %s; nothing was sent to it",
                       session->name, shown, known);
}

bool kl_ssh_session_trusts(kl_ssh_session *session)
{
    if (session->trusted || session->failure.kind != NULL)
        return session->trusted;
    size_t length = 0;
    int type = 0;
    const char *key = libssh2_session_hostkey(session->handle, &length, &type);
    if (key == NULL)
        return true; // it has not shown its key yet, and gets nothing but the key exchange
    const kl_ssh_pin *pin = kl_ssh_pins_find(&session->pins, key, length);
    session->trusted = pin != NULL && !pin->revoked;
    if (!session->trusted)
        distrust(session, key, length, pin);
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

static int shown_length(kl_ssh_string text)
{
    return (int)(text.length < 160 ? text.length : 160);
}

// Says which algorithms of one kind the host offers, and which kiln has.
static void nothing_in_common(const kl_ssh_session *session, const char *what,
                              kl_ssh_string offered, const char *ours, kl_failure *out)
{
    bool newer_has_more = ours != kl_ssh_key_exchanges && !kl_ssh_rsa_works();
    kl_failure_set(
        out, "unsupported", 0,
        "%s and kiln have no %s in common: the host offers %.*s, kiln with libssh2 %s has "
        "%s%s",
        session->name, what, shown_length(offered), offered.data, libssh2_version(0), ours,
        newer_has_more ? "; with libssh2 1.11 (Debian 13) it has more" : "");
}

// No algorithm in common: says of which kind.
static void describe_offer(const kl_ssh_session *session, const kl_ssh_offer *offer,
                           kl_failure *out)
{
    static const char host_keys[] =
        "ssh-ed25519,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521";
    kl_ssh_string list = offer->host_keys;
    if (!kl_ssh_offer_common(list, host_keys) && !kl_ssh_rsa_works())
        nothing_in_common(session, "type of host key", list, host_keys, out);
    else if (!kl_ssh_offer_common(list, kl_buf_text(&session->host_key_types)))
        kl_failure_set(out, "host_key", 0,
                       "%s has no host key of the pinned type (%s), it has %.*s; nothing was sent "
                       "to it",
                       session->name, kl_buf_text(&session->host_key_types), shown_length(list),
                       list.data);
    else if (!kl_ssh_offer_common(offer->key_exchange, kl_ssh_key_exchanges))
        nothing_in_common(session, "key exchange", offer->key_exchange, kl_ssh_key_exchanges, out);
    else if (!kl_ssh_offer_common(offer->ciphers, kl_ssh_ciphers()))
        nothing_in_common(session, "cipher", offer->ciphers, kl_ssh_ciphers(), out);
    else
        nothing_in_common(session, "MAC", offer->macs, kl_ssh_macs(), out);
}

void kl_ssh_session_handshake_error(kl_ssh_session *session, kl_failure *out, int rc)
{
    kl_ssh_offer offer;
    kl_ssh_offer_read(&offer, &session->wire.opening);
    kl_ssh_session_error(session, out, rc, "key exchange");
    if (session->failure.kind != NULL)
        return;
    if (offer.listed && (rc == LIBSSH2_ERROR_KEX_FAILURE || rc == LIBSSH2_ERROR_METHOD_NONE ||
                         rc == LIBSSH2_ERROR_METHOD_NOT_SUPPORTED))
        describe_offer(session, &offer, out);
    else if (!offer.spoke && offer.line.length > 0)
        kl_failure_set(out, "unreachable", rc, "%s: the host says: %.*s", session->name,
                       shown_length(offer.line), offer.line.data);
}
