// An HTTP server on the event loop: libmicrohttpd's own epoll descriptor is polled by libuv.
#include "io/http_server.h"

#include "base/ending.h"
#include "io/http_internal.h"

#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    SWEEP_MS = 500,         // how often deadlines are looked at
    LEAST_RATE = 16 * 1024, // bytes a second that a peer must manage beyond its time
    QUIET_TURNS = 32,       // in which nothing moved, before we stop turning at once
    QUIET_MS = 5            // between two turns from then on
};

struct kl_http_server {
    uv_loop_t *loop;
    uv_poll_t poll;
    uv_timer_t timer;
    uv_timer_t sweep;
    uv_idle_t again; // a turn in every round of the loop
    unsigned quiet;  // turns in which nothing moved
    bool made_room;  // a connection ended in this turn
    int handles;     // that are not closed yet
    struct MHD_Daemon *daemon;
    kl_http_server_fn on_request;
    void *ctx;
    kl_http_request *requests;
    kl_http_connection *connections;
    size_t max_body;
    size_t max_buffered;
    size_t buffered;
    unsigned request_timeout;
    unsigned answer_timeout;
    char *cert; // owned, as the key
    char *key;
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

bool kl_http_server_buffer(kl_http_server *server, size_t more)
{
    if (more > server->max_buffered - server->buffered)
        return false;
    server->buffered += more;
    return true;
}

void kl_http_server_unbuffer(kl_http_server *server, size_t less)
{
    server->buffered -= less;
}

void kl_http_server_expect(const kl_http_server *server, kl_http_connection *wire,
                           kl_http_turn turn)
{
    if (wire == NULL)
        return;
    unsigned seconds = turn == KL_HTTP_ASKS ? server->request_timeout : server->answer_timeout;
    wire->deadline = turn == KL_HTTP_WAITS ? 0 : uv_now(server->loop) + seconds * UINT64_C(1000);
}

void kl_http_server_allow(kl_http_connection *wire, size_t bytes)
{
    if (wire != NULL && wire->deadline != 0)
        wire->deadline += bytes * 1000 / LEAST_RATE;
}

// Ends the connections of peers that are too slow; libmicrohttpd finds them closed.
static void sweep_fired(uv_timer_t *timer)
{
    kl_http_server *server = timer->data;
    uint64_t now = uv_now(server->loop);
    bool ended = false;
    for (kl_http_connection *at = server->connections; at != NULL; at = at->next) {
        if (at->deadline == 0 || now < at->deadline)
            continue;
        at->deadline = 0;
        shutdown(at->fd, SHUT_RDWR);
        ended = true;
    }
    if (ended)
        kl_http_server_turn(server);
}

static void connection_started(kl_http_server *server, struct MHD_Connection *connection,
                               void **context)
{
    kl_http_connection *wire = calloc(1, sizeof *wire);
    *context = wire;
    if (wire == NULL)
        return;
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    wire->fd = info->connect_fd;
    kl_http_server_expect(server, wire, KL_HTTP_ASKS);
    wire->next = server->connections;
    if (wire->next != NULL)
        wire->next->previous = wire;
    server->connections = wire;
    if (!uv_is_active((uv_handle_t *)&server->sweep))
        uv_timer_start(&server->sweep, sweep_fired, SWEEP_MS, SWEEP_MS);
}

static void connection_ended(kl_http_server *server, kl_http_connection *wire)
{
    server->made_room = true;
    if (wire == NULL)
        return;
    if (wire->previous != NULL)
        wire->previous->next = wire->next;
    else
        server->connections = wire->next;
    if (wire->next != NULL)
        wire->next->previous = wire->previous;
    free(wire);
    if (server->connections == NULL)
        uv_timer_stop(&server->sweep);
}

static void on_connection(void *ctx, struct MHD_Connection *connection, void **context,
                          enum MHD_ConnectionNotificationCode code)
{
    if (code == MHD_CONNECTION_NOTIFY_STARTED)
        connection_started(ctx, connection, context);
    else
        connection_ended(ctx, *context);
}

int kl_http_server_port(const kl_http_server *server)
{
    return server->port;
}

static void timer_fired(uv_timer_t *timer)
{
    kl_http_server_turn(timer->data);
}

static void again_fired(uv_idle_t *idle)
{
    kl_http_server_turn(idle->data);
}

static void poll_ready(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    kl_http_server *server = poll->data;
    server->quiet = 0;
    kl_http_server_turn(server);
}

void kl_http_server_moved(kl_http_server *server)
{
    server->quiet = 0;
}

// libmicrohttpd has more to do at once, or says so: with a TLS handshake that waits for the peer it
// does, over and over. So turns in which nothing moves become rare; the peer's next bytes wake us.
static void turn_again(kl_http_server *server)
{
    if (server->quiet++ < QUIET_TURNS) {
        uv_timer_stop(&server->timer);
        uv_idle_start(&server->again, again_fired);
    } else {
        uv_idle_stop(&server->again);
        uv_timer_start(&server->timer, timer_fired, QUIET_MS, 0);
    }
}

void kl_http_server_turn(kl_http_server *server)
{
    server->made_room = false;
    MHD_run(server->daemon);
    MHD_UNSIGNED_LONG_LONG wait = 0;
    bool limited = MHD_get_timeout(server->daemon, &wait) == MHD_YES;
    // With room again, only the next run listens for those who waited for it (libmicrohttpd 1.0).
    if (server->made_room || (limited && wait == 0)) {
        turn_again(server);
        return;
    }
    uv_idle_stop(&server->again);
    if (limited)
        uv_timer_start(&server->timer, timer_fired, wait, 0);
    else
        uv_timer_stop(&server->timer);
}

static struct MHD_Daemon *start_daemon(kl_http_server *server, int fd,
                                       const kl_http_server_options *options)
{
    static char priorities[] = "NORMAL:-VERS-TLS1.0:-VERS-TLS1.1";
    struct MHD_OptionItem tls[] = {{MHD_OPTION_HTTPS_MEM_CERT, 0, server->cert},
                                   {MHD_OPTION_HTTPS_MEM_KEY, 0, server->key},
                                   {MHD_OPTION_HTTPS_PRIORITIES, 0, priorities},
                                   {MHD_OPTION_END, 0, NULL}};
    unsigned flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_TURBO;
    bool secure = server->cert != NULL;
    return MHD_start_daemon(
        secure ? flags | MHD_USE_TLS : flags, 0, NULL, NULL, kl_http_request_step, server,
        MHD_OPTION_LISTEN_SOCKET, (MHD_socket)fd, MHD_OPTION_NOTIFY_COMPLETED,
        kl_http_request_completed, server, MHD_OPTION_URI_LOG_CALLBACK, kl_http_request_start,
        server, MHD_OPTION_NOTIFY_CONNECTION, on_connection, server,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, options->max_headers, MHD_OPTION_CONNECTION_LIMIT,
        options->connections, MHD_OPTION_CONNECTION_TIMEOUT, options->idle_timeout,
        MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, MHD_OPTION_ARRAY,
        secure ? tls : &tls[3], MHD_OPTION_END);
}

static void watch(kl_http_server *server)
{
    const union MHD_DaemonInfo *info =
        MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    uv_poll_init(server->loop, &server->poll, info->epoll_fd);
    server->handles++;
    server->poll.data = server;
    uv_poll_start(&server->poll, UV_READABLE, poll_ready);
}

static void free_server(kl_http_server *server)
{
    if (server->key != NULL)
        OPENSSL_cleanse(server->key, strlen(server->key));
    free(server->key);
    free(server->cert);
    free(server->unix_socket);
    free(server);
}

static void handle_closed(uv_handle_t *handle)
{
    kl_http_server *server = handle->data;
    if (--server->handles == 0)
        free_server(server);
}

static char *copy(const char *text)
{
    return text != NULL ? kl_need(strdup(text)) : NULL;
}

static kl_http_server *server_new(uv_loop_t *loop, const kl_http_server_options *options)
{
    kl_http_server *server = calloc(1, sizeof *server);
    if (server == NULL)
        return NULL;
    server->loop = loop;
    server->max_body = options->max_body;
    server->max_buffered = options->max_buffered;
    server->request_timeout = options->request_timeout;
    server->answer_timeout = options->answer_timeout;
    server->unix_socket = copy(options->unix_socket);
    server->cert = copy(options->cert);
    server->key = copy(options->key);
    uv_timer_init(loop, &server->timer);
    uv_timer_init(loop, &server->sweep);
    uv_idle_init(loop, &server->again);
    server->handles = 3;
    server->timer.data = server;
    server->sweep.data = server;
    server->again.data = server;
    return server;
}

static void close_timers(kl_http_server *server)
{
    uv_close((uv_handle_t *)&server->again, handle_closed);
    uv_close((uv_handle_t *)&server->timer, handle_closed);
    uv_close((uv_handle_t *)&server->sweep, handle_closed);
}

kl_http_server *kl_http_server_open(uv_loop_t *loop, const kl_http_server_options *options,
                                    kl_http_server_fn on_request, void *ctx, kl_failure *out)
{
    int fd = kl_http_listen(options, out);
    if (fd < 0)
        return NULL;
    kl_http_server *server = server_new(loop, options);
    errno = 0;
    if (server == NULL || (server->daemon = start_daemon(server, fd, options)) == NULL) {
        if (errno == EMFILE || errno == ENFILE)
            kl_failure_errno(out, errno, "the HTTP server cannot be started");
        else
            kl_failure_set(out, options->cert != NULL ? "tls" : "limit", 0,
                           options->cert != NULL
                               ? "the HTTP server cannot be started: look at certificate and key"
                               : "the HTTP server cannot be started");
        close(fd);
        if (options->unix_socket != NULL)
            unlink(options->unix_socket);
        if (server != NULL)
            close_timers(server);
        return NULL;
    }
    server->on_request = on_request;
    server->ctx = ctx;
    server->port = kl_http_listen_port(fd);
    watch(server);
    return server;
}

void kl_http_server_close(kl_http_server *server)
{
    MHD_run(server->daemon);
    for (kl_http_request *at = server->requests; at != NULL; at = at->next)
        kl_http_request_abandon(at);
    uv_close((uv_handle_t *)&server->poll, handle_closed); // before its descriptor closes
    MHD_stop_daemon(server->daemon);
    close_timers(server);
    if (server->unix_socket != NULL)
        unlink(server->unix_socket);
}
