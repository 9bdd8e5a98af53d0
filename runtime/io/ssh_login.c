// Logs in with a user's keys, one after the other, until the host takes one.
#include "io/ssh_session_internal.h"

#include "io/ssh_agent.h"

#include <stdio.h>
#include <string.h>

#define AGENT_SECONDS 60 // it may ask its user

static void agent_answered(void *ctx, const kl_ssh_string *answer, const kl_failure *failure)
{
    kl_ssh_session *session = ctx;
    kl_ssh_login *login = &session->login;
    login->asked = NULL;
    login->answered = true;
    kl_ssh_string signature;
    if (failure != NULL)
        login->problem = *failure;
    else if (kl_ssh_agent_take_sign(*answer, login->data.data, login->data.length, &signature))
        kl_buf_append(&login->signature, signature.data, signature.length);
    else
        kl_failure_set(&login->problem, "auth", 0, "the ssh-agent did not sign with the %s key %s",
                       login->keys[login->at]->type, login->keys[login->at]->comment);
    kl_ssh_session_kick(session);
}

static void ask_agent(kl_ssh_session *session, const kl_ssh_key *key, const void *data,
                      size_t length)
{
    kl_ssh_login *login = &session->login;
    kl_buf message = {0};
    login->data.length = 0;
    kl_buf_append(&login->data, data, length);
    kl_ssh_agent_put_sign(&message, key, data, length);
    login->asked = kl_ssh_agent_ask(session->loop, key->agent, &message, AGENT_SECONDS,
                                    agent_answered, session);
    kl_buf_free(&message);
}

// libssh2 wants a signature; asks again after EAGAIN.
static LIBSSH2_USERAUTH_PUBLICKEY_SIGN_FUNC(sign)
{
    (void)session;
    kl_ssh_session *self = *abstract;
    kl_ssh_login *login = &self->login;
    if (self->state != KL_SSH_LOGIN)
        return -1;
    const kl_ssh_key *key = login->keys[login->at];
    if (key->agent != NULL && !login->answered) {
        if (login->asked == NULL)
            ask_agent(self, key, data, data_len);
        return LIBSSH2_ERROR_EAGAIN;
    }
    if (key->agent == NULL && !kl_ssh_key_sign(key, &login->signature, data, data_len))
        kl_failure_set(&login->problem, "auth", 0, "OpenSSL cannot sign with the %s key %s",
                       key->type, key->comment);
    if (login->signature.length == 0)
        return -1;
    *sig = kl_ssh_memory_copy(self, login->signature.data, login->signature.length);
    *sig_len = login->signature.length;
    return *sig != NULL ? 0 : -1;
}

// What libssh2 is to take for the key's blob. 1.10.0 signs RSA with SHA-1 only, as the blob's name
// says. It copies that name, then allocates the packet that carries the blob: until the second of
// these allocations the blob begins with the name of the algorithm instead (RFC 8332 section 3).
static const char *blob_of(kl_ssh_session *session, const kl_ssh_key *key)
{
    static const char name[] = "\0\0\0\x0crsa-sha2-512";
    if (strcmp(key->type, "ssh-rsa") != 0 || kl_ssh_rsa_works())
        return key->blob.data;
    kl_buf *blob = &session->login.blob;
    size_t length = sizeof name - 1;
    blob->length = 0;
    kl_buf_append(blob, key->blob.data, key->blob.length);
    memcpy(blob->data, name, length);
    kl_ssh_memory_restore(&session->memory, blob->data, key->blob.data, length, 2);
    return blob->data;
}

static int attempt(kl_ssh_session *session)
{
    kl_ssh_login *login = &session->login;
    const kl_ssh_key *key = login->keys[login->at];
    const char *blob = login->under_way ? key->blob.data : blob_of(session, key);
    login->under_way = true;
    void *self = session;
    int rc = libssh2_userauth_publickey(session->handle, session->user, (const unsigned char *)blob,
                                        key->blob.length, sign, &self);
    if (rc != LIBSSH2_ERROR_EAGAIN)
        login->under_way = false;
    return rc;
}

// Notes the refusal and goes on with the next key. False: there is none.
static bool next_key(kl_ssh_session *session)
{
    kl_ssh_login *login = &session->login;
    const kl_ssh_key *key = login->keys[login->at];
    char shown[64];
    kl_ssh_fingerprint(shown, key->public.data, key->public.length);
    kl_buf_printf(&login->refused, "%s%s %s%s%s", login->at > 0 ? ", " : "", key->type, shown,
                  key->comment[0] != '\0' ? " " : "", key->comment);
    login->signature.length = 0;
    login->answered = false;
    if (kl_failed(&login->problem) && !kl_failed(&login->first_problem))
        login->first_problem = login->problem;
    login->problem = (kl_failure){0};
    return ++login->at < login->count;
}

static void refused(const kl_ssh_session *session, kl_failure *out)
{
    const kl_ssh_login *login = &session->login;
    if (kl_failed(&login->first_problem))
        kl_failure_set(out, login->first_problem.kind, 0, "%s: %s", session->name,
                       login->first_problem.message);
    else if (login->at == 0)
        kl_failure_set(out, "auth", 0,
                       "%s: the host refused the key for user %s: it allows no login by key",
                       session->name, session->user);
    else
        kl_failure_set(out, "auth", LIBSSH2_ERROR_AUTHENTICATION_FAILED,
                       "%s: the host refused the key for user %s (%.300s)", session->name,
                       session->user, kl_buf_text(&login->refused));
}

bool kl_ssh_login_step(kl_ssh_session *session, int *out_rc, kl_failure *out_failure)
{
    kl_ssh_login *login = &session->login;
    int rc = attempt(session);
    while (rc != LIBSSH2_ERROR_EAGAIN && rc != 0 && session->wire.error == 0 &&
           session->state == KL_SSH_LOGIN) {
        if (!next_key(session)) {
            refused(session, out_failure);
            break;
        }
        rc = attempt(session);
    }
    if (rc != 0 && rc != LIBSSH2_ERROR_EAGAIN && !kl_failed(out_failure) && login->at > 0)
        refused(session, out_failure); // it closed the connection after too many keys
    *out_rc = rc;
    return rc != LIBSSH2_ERROR_EAGAIN;
}

void kl_ssh_login_unwind(kl_ssh_session *session)
{
    if (session->login.under_way)
        attempt(session);
}

void kl_ssh_login_free(kl_ssh_login *login)
{
    if (login->asked != NULL)
        kl_ssh_agent_cancel(login->asked);
    login->asked = NULL;
    for (size_t i = 0; i < login->count; i++)
        kl_ssh_key_drop(login->keys[i]);
    login->count = 0;
    kl_buf_free(&login->blob);
    kl_buf_free(&login->data);
    kl_buf_free(&login->signature);
    kl_buf_free(&login->refused);
}
