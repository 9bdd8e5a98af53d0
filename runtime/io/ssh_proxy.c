// A session through a program: its standard input and output are the connection, as with ssh's
// ProxyCommand. The program has its arguments from the caller; no shell reads them.
#include "io/ssh_session_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define GRACE_MS 2000 // between SIGTERM and SIGKILL
#define ERRORS_KEPT 4096
#define ERRORS_SHOWN 240
#define ENDING_MS 1000 // after the connection ended, for the program to say why

static void changed(void *context)
{
    kl_ssh_session_kick(context);
}

int kl_ssh_proxy_start(kl_ssh_session *session, const kl_ssh_options *options)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
        kl_failure_errno(&session->failure, errno, "a socket pair");
        return -1;
    }
    kl_process_config config = {.argv = options->proxy,
                                .socket = pair[1],
                                .grace_ms = GRACE_MS,
                                .max_output = ERRORS_KEPT,
                                .notify = changed,
                                .context = session};
    session->proxy = kl_process_start(session->loop, options->family, &config, &session->failure);
    close(pair[1]);
    if (session->proxy == NULL) {
        close(pair[0]);
        return -1;
    }
    snprintf(session->proxy_name, sizeof session->proxy_name, "%s", options->proxy[0]);
    fcntl(pair[0], F_SETFL, O_NONBLOCK); // ours alone: the program's end blocks, as it expects
    return pair[0];
}

bool kl_ssh_proxy_is_ending(kl_ssh_session *session)
{
    if (session->proxy == NULL || session->wire.error == 0 ||
        kl_process_ended(session->proxy) != NULL)
        return false;
    uint64_t now = uv_now(session->loop);
    if (session->proxy_until_ms == 0) {
        session->proxy_until_ms = now + ENDING_MS;
        shutdown(session->wire.fd, SHUT_WR);
    }
    return now < session->proxy_until_ms;
}

// The last lines of its standard error, in one line.
static void last_errors(const kl_process *proxy, char out[ERRORS_SHOWN * 2])
{
    const kl_buf *errors = kl_process_errors(proxy);
    const char *text = kl_buf_text(errors);
    size_t end = errors->length, length = 0;
    while (end > 0 && strchr("\r\n", text[end - 1]) != NULL)
        end--;
    size_t at = end > ERRORS_SHOWN ? end - ERRORS_SHOWN : 0;
    for (; at < end; at++) {
        if (text[at] == '\n') {
            out[length++] = ';';
            out[length++] = ' ';
        } else if (text[at] != '\r' && text[at] != '\0') {
            out[length++] = text[at];
        }
    }
    out[length] = '\0';
}

void kl_ssh_proxy_explain(const kl_ssh_session *session, kl_failure *failure)
{
    bool connection =
        strcmp(failure->kind, "unreachable") == 0 || strcmp(failure->kind, "timeout") == 0;
    if (session->proxy == NULL || !connection)
        return;
    char errors[ERRORS_SHOWN * 2], how[64] = "still runs";
    const kl_process_result *result = kl_process_ended(session->proxy);
    kl_failure plain = *failure;
    last_errors(session->proxy, errors);
    if (result != NULL && result->signal != 0)
        snprintf(how, sizeof how, "was ended by signal %d", result->signal);
    else if (result != NULL)
        snprintf(how, sizeof how, "ended with status %d", result->code);
    kl_failure_set(failure, plain.kind, plain.code, "%.200s; the proxy command '%s' %s%s%s",
                   plain.message, session->proxy_name, how, errors[0] != '\0' ? ": " : "", errors);
}

void kl_ssh_proxy_release(kl_ssh_session *session)
{
    if (session->proxy != NULL)
        kl_process_release(session->proxy);
    session->proxy = NULL;
}
