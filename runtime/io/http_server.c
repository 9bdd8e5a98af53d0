// An HTTP server on the event loop: libmicrohttpd's own epoll descriptor is polled by libuv.
#include "io/http_server.h"

#include "io/http_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

struct kl_http_server {
    uv_poll_t poll;
    uv_timer_t timer;
    int handles; // that are not closed yet
    struct MHD_Daemon *daemon;
    kl_http_server_fn on_request;
    void *ctx;
    kl_http_request *requests;
    size_t max_body;
    int port;
    char *unix_socket; // to remove at the end
};

void kl_http_server_link(kl_http_server *server, kl_http_request *request)
{
    request->next = server->requests;
    if (server->requests != NULL)
        server->requests->previous = request;
    server->requests = request;
}

void kl_http_server_unlink(kl_http_server *server, kl_http_request *request)
{
    if (request->previous != NULL)
        request->previous->next = request->next;
    else
        server->requests = request->next;
    if (request->next != NULL)
        request->next->previous = request->previous;
}

void kl_http_server_give(kl_http_server *server, kl_http_request *request)
{
    server->on_request(server->ctx, request);
}

size_t kl_http_server_max_body(const kl_http_server *server)
{
    return server->max_body;
}

int kl_http_server_port(const kl_http_server *server)
{
    return server->port;
}

static void timer_fired(uv_timer_t *timer)
{
    kl_http_server_turn(timer->data);
}

static void poll_ready(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    kl_http_server_turn(poll->data);
}

void kl_http_server_turn(kl_http_server *server)
{
    MHD_run(server->daemon);
    MHD_UNSIGNED_LONG_LONG wait;
    if (MHD_get_timeout(server->daemon, &wait) == MHD_YES)
        uv_timer_start(&server->timer, timer_fired, wait, 0);
    else
        uv_timer_stop(&server->timer);
}

static int listen_unix(const char *path, kl_failure *out)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) {
        kl_failure_set(out, "invalid", 0, "%s: longer than %zu bytes", path,
                       sizeof address.sun_path - 1);
        return -1;
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    mode_t before = umask(0177);
    bool bound = fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0;
    int error = errno;
    umask(before);
    if (bound && listen(fd, SOMAXCONN) == 0)
        return fd;
    kl_failure_errno(out, bound ? errno : error, path);
    if (!bound && error == EADDRINUSE)
        out->kind = "exists";
    if (bound)
        unlink(path);
    if (fd >= 0)
        close(fd);
    return -1;
}

static int listen_tcp(const kl_http_server_options *options, kl_failure *out)
{
    char where[300], port[8];
    snprintf(where, sizeof where, "%s:%d", options->host, options->port);
    snprintf(port, sizeof port, "%d", options->port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_PASSIVE};
    struct addrinfo *found = NULL;
    int code = getaddrinfo(options->host, port, &hints, &found);
    if (code != 0) {
        kl_failure_set(out, "invalid", code, "%s: no numeric address", options->host);
        return -1;
    }
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int yes = 1;
    bool listens = fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) == 0 &&
                   bind(fd, found->ai_addr, found->ai_addrlen) == 0 && listen(fd, SOMAXCONN) == 0;
    int error = errno;
    freeaddrinfo(found);
    if (listens)
        return fd;
    kl_failure_errno(out, error, where);
    if (error == EADDRINUSE)
        out->kind = "exists";
    if (fd >= 0)
        close(fd);
    return -1;
}

static int port_of(int fd)
{
    struct sockaddr_storage address;
    socklen_t size = sizeof address;
    if (getsockname(fd, (struct sockaddr *)&address, &size) != 0)
        return 0;
    if (address.ss_family == AF_INET)
        return ntohs(((struct sockaddr_in *)&address)->sin_port);
    return address.ss_family == AF_INET6 ? ntohs(((struct sockaddr_in6 *)&address)->sin6_port) : 0;
}

static struct MHD_Daemon *start_daemon(kl_http_server *server, int fd,
                                       const kl_http_server_options *options)
{
    return MHD_start_daemon(MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_TURBO, 0, NULL, NULL,
                            kl_http_request_step, server, MHD_OPTION_LISTEN_SOCKET, (MHD_socket)fd,
                            MHD_OPTION_NOTIFY_COMPLETED, kl_http_request_completed, server,
                            MHD_OPTION_CONNECTION_MEMORY_LIMIT, options->max_headers,
                            MHD_OPTION_CONNECTION_LIMIT, options->connections,
                            MHD_OPTION_CONNECTION_TIMEOUT, options->idle_timeout,
                            MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, MHD_OPTION_END);
}

static void watch(kl_http_server *server, uv_loop_t *loop)
{
    const union MHD_DaemonInfo *info =
        MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    uv_poll_init(loop, &server->poll, info->epoll_fd);
    uv_timer_init(loop, &server->timer);
    server->handles = 2;
    server->poll.data = server;
    server->timer.data = server;
    uv_poll_start(&server->poll, UV_READABLE, poll_ready);
}

kl_http_server *kl_http_server_open(uv_loop_t *loop, const kl_http_server_options *options,
                                    kl_http_server_fn on_request, void *ctx, kl_failure *out)
{
    int fd = options->unix_socket != NULL ? listen_unix(options->unix_socket, out)
                                          : listen_tcp(options, out);
    if (fd < 0)
        return NULL;
    kl_http_server *server = calloc(1, sizeof *server);
    if (server == NULL || (server->daemon = start_daemon(server, fd, options)) == NULL) {
        kl_failure_set(out, "limit", 0, "the HTTP server cannot be started");
        close(fd);
        if (options->unix_socket != NULL)
            unlink(options->unix_socket);
        free(server);
        return NULL;
    }
    server->on_request = on_request;
    server->ctx = ctx;
    server->max_body = options->max_body;
    server->port = port_of(fd);
    if (options->unix_socket != NULL)
        server->unix_socket = strdup(options->unix_socket);
    watch(server, loop);
    return server;
}

static void handle_closed(uv_handle_t *handle)
{
    kl_http_server *server = handle->data;
    if (--server->handles > 0)
        return;
    free(server->unix_socket);
    free(server);
}

void kl_http_server_close(kl_http_server *server)
{
    MHD_run(server->daemon);
    for (kl_http_request *at = server->requests; at != NULL; at = at->next) {
        if (at->suspended) { // libmicrohttpd does not stop with a waiting request
            at->hang_up = true;
            kl_http_request_resume(at);
        }
    }
    uv_close((uv_handle_t *)&server->poll, handle_closed); // before its descriptor closes
    MHD_stop_daemon(server->daemon);
    uv_close((uv_handle_t *)&server->timer, handle_closed);
    if (server->unix_socket != NULL)
        unlink(server->unix_socket);
}
