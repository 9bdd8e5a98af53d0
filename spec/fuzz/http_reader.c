// http: fuzzes the HTTP server's request reader over a connection; every connection ends, and the
// server still answers afterwards.
#include "io/http_server.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { ANSWERS_EVERY = 256, BODY = 1000, SECONDS = 10 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);
void __wrap_kl_bcrypt_kdf(void);
void __wrap_kl_bcrypt_kdf(void)
{
    abort(); // no keys here
}

static uv_loop_t loop;
static struct sockaddr_un address = {.sun_family = AF_UNIX};

// Names and values come in pairs, each ended by a zero byte.
static void check_pairs(const kl_buf *pairs)
{
    size_t ends = 0;
    for (size_t i = 0; i < pairs->length; i++)
        ends += pairs->data[i] == '\0';
    if (ends % 2 != 0 || (pairs->length > 0 && pairs->data[pairs->length - 1] != '\0'))
        abort();
}

static void on_request(void *ctx, kl_http_request *request)
{
    (void)ctx;
    const kl_http_asked *asked = kl_http_request_asked(request);
    check_pairs(&asked->headers);
    check_pairs(&asked->query);
    if (asked->method[0] == '\0' || asked->target[0] == '\0' || asked->body.length > BODY ||
        strlen(asked->path) > strlen(asked->target))
        abort();
    const kl_buf none = {0};
    if (asked->target[1] != 'd') // "/d…" is dropped without an answer
        kl_http_request_answer(request, 200, &none, "hello", 5);
    kl_http_request_drop(request);
}

static void open_server(void)
{
    snprintf(address.sun_path, sizeof address.sun_path, "/tmp/kiln-fuzz-http-%d", (int)getpid());
    kl_http_server_options options = {.unix_socket = address.sun_path,
                                      .max_headers = 32768,
                                      .max_body = BODY,
                                      .max_buffered = 4 * BODY,
                                      .connections = 8,
                                      .idle_timeout = 600,
                                      .request_timeout = 600,
                                      .answer_timeout = 600};
    kl_failure failure = {0};
    if (uv_loop_init(&loop) != 0 ||
        kl_http_server_open(&loop, &options, on_request, NULL, &failure) == NULL) {
        fprintf(stderr, "%s\n", failure.message);
        abort();
    }
}

// Runs the server until it has ended the connection. Returns the answer's bytes, at most `size`.
static size_t finish(int fd, char *out, size_t size)
{
    size_t length = 0;
    uint64_t start = uv_hrtime();
    for (;;) {
        char block[4096];
        uv_run(&loop, UV_RUN_NOWAIT);
        ssize_t got = recv(fd, block, sizeof block, MSG_DONTWAIT);
        if (got == 0 || (got < 0 && errno != EAGAIN))
            return length;
        for (ssize_t i = 0; i < got && length < size; i++)
            out[length++] = block[i];
        if (uv_hrtime() - start > SECONDS * (uint64_t)1000000000) {
            fprintf(stderr, "the connection does not end\n");
            abort();
        }
    }
}

static void put(int fd, const void *bytes, size_t length)
{
    const char *at = bytes;
    while (length > 0) {
        ssize_t sent = send(fd, at, length, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN)
            return; // it has hung up
        at += sent > 0 ? sent : 0;
        length -= sent > 0 ? (size_t)sent : 0;
        uv_run(&loop, UV_RUN_NOWAIT);
    }
}

// Sends the bytes in two parts, as a network may.
static size_t talk(const uint8_t *data, size_t length, size_t first, char *out, size_t size)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0)
        abort();
    put(fd, data, first);
    put(fd, data + first, length - first);
    shutdown(fd, SHUT_WR);
    size_t got = finish(fd, out, size);
    close(fd);
    uv_run(&loop, UV_RUN_NOWAIT);
    return got;
}

static void check_answers(void)
{
    char request[BODY + 128], answer[256];
    int head = snprintf(request, sizeof request,
                        "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", BODY);
    memset(request + head, 'x', BODY);
    size_t got = talk((uint8_t *)request, (size_t)head + BODY, 10, answer, sizeof answer);
    if (got > 12 && memcmp(answer, "HTTP/1.1 200", 12) == 0)
        return;
    fprintf(stderr, "a good request got: %.*s\n", (int)got, answer);
    abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
    static unsigned runs;
    if (runs++ == 0)
        open_server();
    talk(data, length, length > 0 ? data[length - 1] % length : 0, NULL, 0);
    if (runs % ANSWERS_EVERY == 1)
        check_answers();
    return 0;
}
