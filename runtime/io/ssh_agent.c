// Asks an ssh-agent.
#include "io/ssh_agent.h"

#include "base/ending.h"
#include "io/ssh_key_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

// Numbers of draft-miller-ssh-agent section 5.
#define REQUEST_IDENTITIES 11
#define IDENTITIES_ANSWER 12
#define SIGN_REQUEST 13
#define SIGN_RESPONSE 14
#define RSA_SHA2_256 2
#define RSA_SHA2_512 4

#define ANSWER_MAX (256 * 1024) // OpenSSH's own limit

struct kl_ssh_agent {
    uv_pipe_t pipe;
    uv_connect_t connect;
    uv_write_t write;
    uv_timer_t timer;
    int handles;
    bool closing;
    kl_buf message;
    kl_buf answer;
    char path[sizeof((struct sockaddr_un *)0)->sun_path];
    kl_failure failure;   // found before the first turn
    kl_ssh_agent_fn done; // NULL once called or cancelled
    void *ctx;
};

static void handle_closed(uv_handle_t *handle)
{
    kl_ssh_agent *agent = handle->data;
    if (--agent->handles > 0)
        return;
    kl_buf_free(&agent->message);
    kl_buf_free(&agent->answer);
    free(agent);
}

static void close_all(kl_ssh_agent *agent)
{
    if (agent->closing)
        return;
    agent->closing = true;
    uv_close((uv_handle_t *)&agent->pipe, handle_closed);
    uv_close((uv_handle_t *)&agent->timer, handle_closed);
}

static void finish(kl_ssh_agent *agent, const kl_ssh_string *answer, const char *kind,
                   const char *what)
{
    kl_ssh_agent_fn done = agent->done;
    agent->done = NULL;
    kl_failure failure;
    if (kind != NULL)
        kl_failure_set(&failure, kind, 0, "the ssh-agent at %s %s", agent->path, what);
    close_all(agent);
    if (done != NULL)
        done(agent->ctx, answer, kind != NULL ? &failure : NULL);
}

static void allocate(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
    (void)suggested;
    kl_ssh_agent *agent = handle->data;
    kl_buf_reserve(&agent->answer, 16384);
    *out = uv_buf_init(agent->answer.data + agent->answer.length, 16384);
}

static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *buf)
{
    (void)buf;
    kl_ssh_agent *agent = stream->data;
    if (count < 0) {
        finish(agent, NULL, "unreachable", "closed the connection; is it an agent?");
        return;
    }
    agent->answer.length += (size_t)count;
    kl_ssh_reader reader = kl_ssh_reader_of(agent->answer.data, agent->answer.length);
    uint32_t length = kl_ssh_take_u32(&reader);
    if (reader.bad)
        return;
    if (length > ANSWER_MAX) {
        finish(agent, NULL, "protocol", "gives an answer that is too long; is it an agent?");
        return;
    }
    if (reader.length >= length) {
        kl_ssh_string answer = {reader.data, length};
        finish(agent, &answer, NULL, NULL);
    }
}

static void on_written(uv_write_t *write, int status)
{
    kl_ssh_agent *agent = write->data;
    if (status < 0 && status != UV_ECANCELED)
        finish(agent, NULL, "unreachable", uv_strerror(status));
}

static void on_connected(uv_connect_t *connect, int status)
{
    kl_ssh_agent *agent = connect->data;
    if (status == UV_ECANCELED || agent->closing)
        return;
    if (status < 0) {
        char what[160];
        snprintf(what, sizeof what,
                 "does not answer: %s; start one and name its socket in "
                 "SSH_AUTH_SOCK",
                 uv_strerror(status));
        finish(agent, NULL, status == UV_EACCES ? "denied" : "unreachable", what);
        return;
    }
    uv_buf_t bytes = uv_buf_init(agent->message.data, (unsigned int)agent->message.length);
    uv_write(&agent->write, (uv_stream_t *)&agent->pipe, &bytes, 1, on_written);
    uv_read_start((uv_stream_t *)&agent->pipe, allocate, on_read);
}

static void on_timer(uv_timer_t *timer)
{
    kl_ssh_agent *agent = timer->data;
    if (kl_failed(&agent->failure))
        finish(agent, NULL, agent->failure.kind, agent->failure.message);
    else
        finish(agent, NULL, "timeout", "gave no answer in time; does it wait for a confirmation?");
}

kl_ssh_agent *kl_ssh_agent_ask(uv_loop_t *loop, const char *path, const kl_buf *message,
                               double timeout, kl_ssh_agent_fn done, void *ctx)
{
    kl_ssh_agent *agent = calloc(1, sizeof *agent);
    if (agent == NULL)
        kl_out_of_memory();
    agent->done = done;
    agent->ctx = ctx;
    agent->handles = 2;
    uv_pipe_init(loop, &agent->pipe, 0);
    uv_timer_init(loop, &agent->timer);
    agent->pipe.data = agent->timer.data = agent->connect.data = agent->write.data = agent;
    snprintf(agent->path, sizeof agent->path, "%s", path);
    kl_ssh_put_string(&agent->message, message->data, message->length);
    uv_update_time(loop);
    if (strlen(path) < sizeof agent->path) { // libuv would cut it
        uv_pipe_connect(&agent->connect, &agent->pipe, agent->path, on_connected);
    } else {
        kl_failure_set(&agent->failure, "invalid", 0, "has a path that is too long for a socket");
        timeout = 0;
    }
    uv_timer_start(&agent->timer, on_timer, (uint64_t)(timeout * 1e3), 0);
    return agent;
}

void kl_ssh_agent_cancel(kl_ssh_agent *agent)
{
    agent->done = NULL;
    close_all(agent);
}

void kl_ssh_agent_put_list(kl_buf *out)
{
    const char kind = REQUEST_IDENTITIES;
    kl_buf_append(out, &kind, 1);
}

bool kl_ssh_agent_take_list(kl_ssh_string answer, kl_ssh_reader *out, uint32_t *out_count)
{
    *out = kl_ssh_reader_of(answer.data, answer.length);
    bool listed = kl_ssh_take_byte(out) == IDENTITIES_ANSWER;
    *out_count = kl_ssh_take_u32(out);
    return listed && !out->bad;
}

void kl_ssh_agent_put_sign(kl_buf *out, const kl_ssh_key *key, const void *data, size_t length)
{
    const char kind = SIGN_REQUEST;
    kl_ssh_string algorithm = kl_ssh_sign_algorithm(data, length);
    kl_buf_append(out, &kind, 1);
    kl_ssh_put_string(out, key->blob.data, key->blob.length);
    kl_ssh_put_string(out, data, length);
    kl_ssh_put_u32(out, kl_ssh_string_starts(algorithm, "rsa-sha2-512")   ? RSA_SHA2_512
                        : kl_ssh_string_starts(algorithm, "rsa-sha2-256") ? RSA_SHA2_256
                                                                          : 0);
}

bool kl_ssh_agent_take_sign(kl_ssh_string answer, const void *data, size_t length,
                            kl_ssh_string *out)
{
    kl_ssh_reader reader = kl_ssh_reader_of(answer.data, answer.length);
    if (kl_ssh_take_byte(&reader) != SIGN_RESPONSE)
        return false;
    kl_ssh_string signature = kl_ssh_take_string(&reader);
    kl_ssh_reader inner = kl_ssh_reader_of(signature.data, signature.length);
    kl_ssh_string algorithm = kl_ssh_take_string(&inner);
    kl_ssh_string wanted = kl_ssh_sign_algorithm(data, length);
    *out = kl_ssh_take_string(&inner);
    // A certificate's name goes on where the name of its key ends.
    return !reader.bad && !inner.bad && algorithm.length > 0 && wanted.length >= algorithm.length &&
           memcmp(wanted.data, algorithm.data, algorithm.length) == 0;
}
