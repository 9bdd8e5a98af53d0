// app: the example's service. It greets, tells its health, and stops without losing a request.
#include "health.h"

#include <linux/filter.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifndef APP_VERSION
#define APP_VERSION "dev"
#endif

enum {
    CONNECTIONS_MAX = 256, // more of them wait in the listener's backlog
    HEAD_MAX = 8192,       // bytes of a request line and its headers
    SLOW_MAX_MS = 10000,
    HEAD_MS = 10000,  // from the first byte of a request to its last
    IDLE_MS = 15000,  // a kept connection without a request
    KEEP_MS = 5000,   // a kept connection: a client follows the front within this time
    GRACE_MS = 1000,  // the same, once the service stops
    QUIET_MS = 100,   // no new connection for so long: none is on its way
    LINGER_MS = 1000, // for the peer to take the last answer
    STOP_MS = 15000,  // from SIGTERM to the end
};

typedef struct client {
    int fd;
    size_t used;   // bytes received and not yet consumed
    int64_t until; // when the connection is kept no more
    char bytes[HEAD_MAX];
} client;

typedef struct request {
    const char *method, *target; // in the client's bytes
    int hosts;
    bool minor_zero, close, keep, body;
} request;

static int stopping;         // eventfd: readable for everyone once the service stops
static int freed;            // eventfd: a connection ended
static atomic_int connected; // connections now

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static bool readable(int fd, int64_t within_ms)
{
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    return poll(&wait, 1, within_ms < 0 ? 0 : (int)within_ms) == 1;
}

static void signal_event(int fd)
{
    uint64_t one = 1;
    if (write(fd, &one, sizeof one) < 0)
        perror("app: eventfd");
}

// More bytes of this client before the deadline; false at its end.
static bool receive(client *self, int64_t deadline)
{
    if (!readable(self->fd, deadline - now_ms()))
        return false;
    ssize_t got = recv(self->fd, self->bytes + self->used, sizeof self->bytes - self->used, 0);
    if (got > 0)
        self->used += (size_t)got;
    return got > 0;
}

static void consume(client *self, size_t length)
{
    self->used -= length;
    memmove(self->bytes, self->bytes + length, self->used);
}

static bool send_all(int fd, const char *bytes, size_t length)
{
    while (length > 0) {
        ssize_t sent = send(fd, bytes, length, MSG_NOSIGNAL); // SO_SNDTIMEO bounds it
        if (sent <= 0)
            return false;
        bytes += sent;
        length -= (size_t)sent;
    }
    return true;
}

// Answers; the connection stays open only if the peer and the service both want that.
static bool respond(client *self, const request *asked, int status, const char *type,
                    const char *format, ...) __attribute__((format(printf, 5, 6)));
static bool respond(client *self, const request *asked, int status, const char *type,
                    const char *format, ...)
{
    char body[1024];
    va_list arguments;
    va_start(arguments, format);
    int written = vsnprintf(body, sizeof body, format, arguments);
    va_end(arguments);
    size_t length = written < (int)sizeof body ? (size_t)written : sizeof body - 1;

    bool keep = asked != NULL && (asked->minor_zero ? asked->keep : !asked->close) &&
                now_ms() < self->until && !readable(stopping, 0);
    char date[64];
    time_t now = time(NULL);
    struct tm split;
    strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&now, &split));

    char head[512];
    int size = snprintf(head, sizeof head,
                        "HTTP/1.1 %d %s\r\nDate: %s\r\nX-App-Version: " APP_VERSION
                        "\r\nContent-Type: %s\r\nContent-Length: %zu\r\nConnection: %s\r\n\r\n",
                        status, status < 400 ? "OK" : "Error", date, type, length,
                        keep ? "keep-alive" : "close");
    bool bodyless = asked != NULL && strcmp(asked->method, "HEAD") == 0;
    char answer[sizeof head + sizeof body]; // one send: one segment, no waiting for its ACK
    memcpy(answer, head, (size_t)size);
    memcpy(answer + size, body, length);
    return send_all(self->fd, answer, (size_t)size + (bodyless ? 0 : length)) && keep;
}

static bool respond_error(client *self, int status, const char *what)
{
    return respond(self, NULL, status, "application/json", "{\"error\":\"%s\"}\n", what);
}

static bool has_token(const char *list, const char *token)
{
    size_t length = strlen(token);
    for (; *list != '\0'; list += strcspn(list, ",")) {
        list += strspn(list, ", \t");
        if (strncasecmp(list, token, length) == 0 && strchr(", \t", list[length]) != NULL)
            return true;
    }
    return false;
}

// One header line, ended by a zero byte. False: not HTTP.
static bool parse_header(request *out, char *line)
{
    char *colon = strchr(line, ':');
    if (colon == NULL || colon == line || strcspn(line, " \t") < (size_t)(colon - line))
        return false; // also a folded line, which RFC 9112 section 5.2 lets us refuse
    *colon = '\0';
    char *value = colon + 1 + strspn(colon + 1, " \t");
    if (strcasecmp(line, "Host") == 0) {
        out->hosts++;
    } else if (strcasecmp(line, "Transfer-Encoding") == 0) {
        out->body = true;
    } else if (strcasecmp(line, "Content-Length") == 0) {
        out->body = out->body || strcmp(value, "0") != 0;
    } else if (strcasecmp(line, "Connection") == 0) {
        out->close = out->close || has_token(value, "close");
        out->keep = out->keep || has_token(value, "keep-alive");
    }
    return true;
}

// The head of a request, `length` bytes that end in an empty line; changes them.
static bool parse_head(request *out, char *head, size_t length)
{
    memset(out, 0, sizeof *out);
    if (memchr(head, '\0', length) != NULL)
        return false;
    head[length - 2] = '\0'; // the last header line keeps its own CRLF
    char *next = strstr(head, "\r\n");
    *next = '\0';
    char *target = strchr(head, ' '), *version = target ? strchr(target + 1, ' ') : NULL;
    if (version == NULL || strncmp(version, " HTTP/1.", 8) != 0 ||
        (version[8] != '0' && version[8] != '1') || version[9] != '\0')
        return false;
    *target = *version = '\0';
    out->method = head;
    out->target = target + 1;
    out->minor_zero = version[8] == '0';
    for (char *line = next + 2; *line != '\0'; line = next + 2) {
        next = strstr(line, "\r\n");
        *next = '\0';
        if (!parse_header(out, line))
            return false;
    }
    return out->minor_zero ? out->hosts <= 1 : out->hosts == 1;
}

static bool health(client *self, const request *asked)
{
    char why[256];
    int status = health_check(why, sizeof why);
    if (status != 200)
        return respond(self, asked, status, "application/json", "{\"error\":\"%s\"}\n", why);
    return respond(self, asked, 200, "application/json",
                   "{\"status\":\"ok\",\"version\":\"" APP_VERSION "\"}\n");
}

static bool greet(client *self, const request *asked)
{
    const char *greeting = getenv("GREETING");
    char host[65] = "?";
    gethostname(host, sizeof host - 1);
    return respond(self, asked, 200, "text/plain; charset=utf-8", "%s from app %s on %s\n",
                   greeting ? greeting : "Hello", APP_VERSION, host);
}

static bool slow(client *self, const request *asked, const char *query)
{
    long wanted = strncmp(query, "?ms=", 4) == 0 ? strtol(query + 4, NULL, 10) : 0;
    int ms = wanted < 0 ? 0 : wanted > SLOW_MAX_MS ? SLOW_MAX_MS : (int)wanted;
    poll(NULL, 0, ms);
    return respond(self, asked, 200, "text/plain; charset=utf-8", "waited %d ms\n", ms);
}

static bool route(client *self, const request *asked)
{
    size_t path = strcspn(asked->target, "?");
    if (path == 1 && asked->target[0] == '/')
        return greet(self, asked);
    if (path == 13 && strncmp(asked->target, "/health/check", path) == 0)
        return health(self, asked);
    if (path == 5 && strncmp(asked->target, "/slow", path) == 0)
        return slow(self, asked, asked->target + path);
    return respond(self, asked, 404, "application/json", "{\"error\":\"no such page\"}\n");
}

// Waits for the next request's first byte. A service that stops still answers what is on its way.
static bool wait_request(client *self)
{
    if (self->used > 0)
        return true;
    struct pollfd wait[] = {{.fd = self->fd, .events = POLLIN}, {.fd = stopping, .events = POLLIN}};
    if (poll(wait, 2, IDLE_MS) < 1)
        return false;
    return readable(self->fd, wait[0].revents != 0 ? 0 : GRACE_MS);
}

// One request and its answer; true if the connection is kept.
static bool serve(client *self)
{
    if (!wait_request(self))
        return false;
    int64_t deadline = now_ms() + HEAD_MS;
    char *end;
    while ((end = memmem(self->bytes, self->used, "\r\n\r\n", 4)) == NULL) {
        if (self->used == sizeof self->bytes)
            return respond_error(self, 431, "the request's head is too long");
        if (!receive(self, deadline))
            return self->used > 0 && respond_error(self, 408, "half a request");
    }
    size_t length = (size_t)(end - self->bytes) + 4;
    request asked;
    if (!parse_head(&asked, self->bytes, length))
        return respond_error(self, 400, "not HTTP/1.1");
    if (strcmp(asked.method, "GET") != 0 && strcmp(asked.method, "HEAD") != 0)
        return respond_error(self, 405, "GET or HEAD only");
    if (asked.body)
        return respond_error(self, 413, "a request here has no body");
    bool keep = route(self, &asked);
    consume(self, length);
    return keep;
}

static void *serve_client(void *self)
{
    client *mine = self;
    while (serve(mine))
        ;
    // Closing over unread bytes would reset the connection and take the last answer with it.
    int64_t deadline = now_ms() + LINGER_MS;
    shutdown(mine->fd, SHUT_WR);
    mine->used = 0;
    while (receive(mine, deadline))
        mine->used = 0;
    close(mine->fd);
    free(mine);
    atomic_fetch_sub(&connected, 1);
    signal_event(freed);
    return NULL;
}

// False: none waits, or none can be taken now.
static bool take_client(int listener)
{
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0)
        return false;
    struct timeval bound = {.tv_sec = HEAD_MS / 1000};
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &bound, sizeof bound);
    client *self = calloc(1, sizeof *self);
    pthread_t thread;
    atomic_fetch_add(&connected, 1);
    if (self != NULL) {
        self->fd = fd;
        self->until = now_ms() + KEEP_MS;
        if (pthread_create(&thread, NULL, serve_client, self) == 0) {
            pthread_detach(thread);
            return true;
        }
    }
    atomic_fetch_sub(&connected, 1);
    free(self);
    close(fd);
    return true;
}

// Stops accepting without resetting anyone: first no new handshake begins (their SYN goes unheard
// and is sent again later), then those already begun are served, then the port is closed.
static void close_door(int listener)
{
    struct sock_filter no_syn[] = {
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 13),          // the flags: RFC 9293 section 3.1
        BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0x12),       // SYN, ACK
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x02, 0, 1), // SYN alone
        BPF_STMT(BPF_RET | BPF_K, 0),                    // drop
        BPF_STMT(BPF_RET | BPF_K, 0xffff),               // pass
    };
    struct sock_fprog program = {.len = sizeof no_syn / sizeof *no_syn, .filter = no_syn};
    if (setsockopt(listener, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) < 0)
        perror("app: SO_ATTACH_FILTER");
    int64_t deadline = now_ms() + GRACE_MS;
    while (now_ms() < deadline && readable(listener, QUIET_MS))
        take_client(listener);
    close(listener);
}

static int listen_on(const char *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    socklen_t length = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), on = 1;
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        bind(fd, (struct sockaddr *)&address, length) < 0 || listen(fd, SOMAXCONN) < 0 ||
        getsockname(fd, (struct sockaddr *)&address, &length) < 0)
        return -1;
    printf("app " APP_VERSION " listens on port %d\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

int main(void)
{
    const char *port = getenv("PORT");
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    int told = signalfd(-1, &signals, SFD_CLOEXEC);
    stopping = eventfd(0, EFD_CLOEXEC);
    freed = eventfd(0, EFD_CLOEXEC);
    int listener = listen_on(port ? port : "8080");
    if (told < 0 || stopping < 0 || freed < 0 || listener < 0) {
        perror("app: cannot start");
        return 1;
    }
    struct pollfd wait[] = {{.fd = told, .events = POLLIN}, {.fd = freed, .events = POLLIN}, {0}};
    wait[2] = (struct pollfd){.fd = listener, .events = POLLIN};
    uint64_t drop;
    do {
        nfds_t watched = atomic_load(&connected) < CONNECTIONS_MAX ? 3 : 2;
        if (poll(wait, watched, -1) < 0)
            return 1;
        if (wait[1].revents != 0 && read(freed, &drop, sizeof drop) < 0)
            return 1;
        if (watched == 3 && wait[2].revents != 0 && !take_client(listener))
            poll(NULL, 0, 10); // out of descriptors: do not spin
    } while (wait[0].revents == 0);

    int64_t deadline = now_ms() + STOP_MS;
    signal_event(stopping);
    close_door(listener);
    while (atomic_load(&connected) > 0 && readable(freed, deadline - now_ms()))
        if (read(freed, &drop, sizeof drop) < 0)
            return 1;
    printf("app " APP_VERSION " stopped, %d connections cut\n", atomic_load(&connected));
    return 0;
}
