// HTTP requests on the event loop: sockets and the timer of libcurl's multi interface.
#include "io/curl_multi.h"

#include "io/curl_internal.h"

#include <stdlib.h>

enum {
    KEPT_MAX = 64,         // idle connections
    SPARE_MAX = 64,        // curl's handles, which take longer to make than to clear
    CONNECTIONS_MAX = 256, // at the same time; more requests wait for their turn
    HOST_MAX = 64,         // of them to one host
    GRACE_MS = 50          // curl keeps the deadlines of what it has begun itself
};

struct kl_curl {
    uv_loop_t *loop;
    CURLM *multi; // NULL while there is no connection to keep
    uv_timer_t timer;
    uv_timer_t due; // at the earliest deadline, while something runs
    int handles;    // that are not closed yet
    kl_curl_transfer *running;
    CURL *spare[SPARE_MAX]; // cleared
    int spares;
    long connections; // at most
    long per_host;
    bool forget; // close the connections once nothing runs
};

// One of curl's sockets being watched. Outlives its socket until the handle is closed.
typedef struct watch {
    uv_poll_t poll;
    kl_curl *curl;
    curl_socket_t socket;
    int events;
} watch;

// What a handle remembers of its requests is gone then, but not its TLS sessions.
static void put_back(kl_curl *curl, CURL *easy)
{
    if (curl->spares == SPARE_MAX) {
        curl_easy_cleanup(easy);
        return;
    }
    curl_easy_reset(easy);
    curl->spare[curl->spares++] = easy;
}

static CURL *take_spare(kl_curl *curl)
{
    return curl->spares > 0 ? curl->spare[--curl->spares] : NULL;
}

static void detach(kl_curl_transfer *transfer)
{
    kl_curl *curl = transfer->curl;
    transfer->curl = NULL;
    curl_multi_remove_handle(curl->multi, transfer->easy);
    put_back(curl, transfer->easy);
    transfer->easy = NULL;
    if (transfer->previous != NULL)
        transfer->previous->next = transfer->next;
    else
        curl->running = transfer->next;
    if (transfer->next != NULL)
        transfer->next->previous = transfer->previous;
    if (curl->running == NULL)
        uv_timer_stop(&curl->due);
}

static void cleanup_multi(kl_curl *curl)
{
    curl->forget = false;
    while (curl->spares > 0)
        curl_easy_cleanup(take_spare(curl));
    if (curl->multi == NULL)
        return;
    curl_multi_cleanup(curl->multi);
    curl->multi = NULL;
    uv_timer_stop(&curl->timer);
}

static void report(kl_curl_transfer *transfer, CURLcode result)
{
    kl_curl_transfer_ended(transfer, result);
    detach(transfer);
    transfer->done(transfer->ctx, &transfer->response,
                   kl_failed(&transfer->failure) ? &transfer->failure : NULL);
}

static void due_fired(uv_timer_t *timer);

static void watch_deadlines(kl_curl *curl)
{
    uint64_t now = uv_now(curl->loop), first = UINT64_MAX;
    for (const kl_curl_transfer *at = curl->running; at != NULL; at = at->next)
        first = at->due < first ? at->due : first;
    if (curl->running != NULL)
        uv_timer_start(&curl->due, due_fired, first > now ? first - now : 0, 0);
}

// curl forgets the deadline of a request that waits for a connection.
static void due_fired(uv_timer_t *timer)
{
    kl_curl *curl = timer->data;
    uint64_t now = uv_now(curl->loop);
    kl_curl_transfer *next;
    for (kl_curl_transfer *at = curl->running; at != NULL; at = next) {
        next = at->next;
        if (at->due <= now)
            report(at, CURLE_OPERATION_TIMEDOUT);
    }
    if (curl->forget && curl->running == NULL)
        cleanup_multi(curl);
    watch_deadlines(curl);
}

static void report_ended(kl_curl *curl)
{
    int left;
    CURLMsg *message;
    while ((message = curl_multi_info_read(curl->multi, &left)) != NULL) {
        if (message->msg != CURLMSG_DONE)
            continue;
        CURLcode result = message->data.result; // `message` is gone after the removal
        kl_curl_transfer *transfer = NULL;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&transfer);
        report(transfer, result);
    }
    if (curl->forget && curl->running == NULL)
        cleanup_multi(curl);
}

static void act(kl_curl *curl, curl_socket_t socket, int events)
{
    int running;
    curl_multi_socket_action(curl->multi, socket, events, &running);
    report_ended(curl);
}

static void timer_fired(uv_timer_t *timer)
{
    act(timer->data, CURL_SOCKET_TIMEOUT, 0);
}

static void socket_ready(uv_poll_t *poll, int status, int events)
{
    const watch *self = poll->data; // valid until its handle has closed, so through this turn
    int flags = events & UV_READABLE ? CURL_CSELECT_IN : 0;
    flags |= events & UV_WRITABLE ? CURL_CSELECT_OUT : 0;
    // A reset connection may still hold an answer: let curl read it and find the end itself.
    act(self->curl, self->socket, status < 0 ? CURL_CSELECT_IN | CURL_CSELECT_OUT : flags);
    if (status < 0 && !uv_is_closing((uv_handle_t *)poll)) // libuv stopped it
        uv_poll_start(poll, self->events, socket_ready);
}

static void watch_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static watch *watch_new(kl_curl *curl, curl_socket_t socket)
{
    watch *self = calloc(1, sizeof *self);
    if (self == NULL)
        return NULL;
    if (uv_poll_init_socket(curl->loop, &self->poll, socket) != 0) {
        free(self);
        return NULL;
    }
    self->poll.data = self;
    self->curl = curl;
    self->socket = socket;
    curl_multi_assign(curl->multi, socket, self);
    return self;
}

// curl says which of its sockets to watch, and for what.
static int on_socket(CURL *easy, curl_socket_t socket, int what, void *ctx, void *known)
{
    (void)easy;
    watch *self = known;
    if (what == CURL_POLL_REMOVE) {
        if (self != NULL)
            uv_close((uv_handle_t *)&self->poll, watch_closed);
        return 0;
    }
    if (self == NULL && (self = watch_new(ctx, socket)) == NULL)
        return -1;
    self->events =
        (what & CURL_POLL_IN ? UV_READABLE : 0) | (what & CURL_POLL_OUT ? UV_WRITABLE : 0);
    return uv_poll_start(&self->poll, self->events, socket_ready) == 0 ? 0 : -1;
}

// curl says when it wants to be called at the latest.
static int on_timer(CURLM *multi, long milliseconds, void *ctx)
{
    (void)multi;
    kl_curl *curl = ctx;
    if (milliseconds < 0) {
        uv_timer_stop(&curl->timer);
        return 0;
    }
    uv_update_time(curl->loop);
    uv_timer_start(&curl->timer, timer_fired, (uint64_t)milliseconds, 0);
    return 0;
}

static void set_bounds(kl_curl *curl)
{
    curl_multi_setopt(curl->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, curl->connections);
    curl_multi_setopt(curl->multi, CURLMOPT_MAX_HOST_CONNECTIONS, curl->per_host);
}

void kl_curl_bound(kl_curl *curl, long connections, long per_host)
{
    curl->connections = connections;
    curl->per_host = per_host;
    if (curl->multi != NULL)
        set_bounds(curl);
}

static bool ensure_multi(kl_curl *curl)
{
    if (curl->multi != NULL)
        return true;
    curl->multi = curl_multi_init();
    if (curl->multi == NULL)
        return false;
    curl_multi_setopt(curl->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(curl->multi, CURLMOPT_SOCKETDATA, curl);
    curl_multi_setopt(curl->multi, CURLMOPT_TIMERFUNCTION, on_timer);
    curl_multi_setopt(curl->multi, CURLMOPT_TIMERDATA, curl);
    curl_multi_setopt(curl->multi, CURLMOPT_MAXCONNECTS, (long)KEPT_MAX);
    set_bounds(curl);
    return true;
}

kl_curl *kl_curl_open(uv_loop_t *loop)
{
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return NULL;
    kl_curl *curl = calloc(1, sizeof *curl);
    if (curl == NULL)
        return NULL;
    curl->loop = loop;
    curl->connections = CONNECTIONS_MAX;
    curl->per_host = HOST_MAX;
    uv_timer_init(loop, &curl->timer);
    uv_timer_init(loop, &curl->due);
    curl->handles = 2;
    curl->timer.data = curl;
    curl->due.data = curl;
    return curl;
}

static void curl_closed(uv_handle_t *handle)
{
    kl_curl *curl = handle->data;
    if (--curl->handles > 0)
        return;
    free(curl);
    curl_global_cleanup();
}

void kl_curl_close(kl_curl *curl)
{
    while (curl->running != NULL)
        detach(curl->running);
    cleanup_multi(curl);
    uv_close((uv_handle_t *)&curl->timer, curl_closed);
    uv_close((uv_handle_t *)&curl->due, curl_closed);
}

void kl_curl_forget(kl_curl *curl)
{
    if (curl->running == NULL)
        cleanup_multi(curl);
    else
        curl->forget = true;
}

kl_curl_transfer *kl_curl_start(kl_curl *curl, const kl_curl_request *request, kl_curl_fn done,
                                void *ctx, kl_failure *out)
{
    kl_curl_transfer *transfer = kl_curl_transfer_new(request, take_spare(curl), out);
    if (transfer == NULL)
        return NULL;
    transfer->done = done;
    transfer->ctx = ctx;
    if (!ensure_multi(curl) || curl_multi_add_handle(curl->multi, transfer->easy) != CURLM_OK) {
        kl_failure_set(out, "limit", 0, "%s: out of memory", transfer->where);
        kl_curl_transfer_free(transfer);
        return NULL;
    }
    transfer->curl = curl;
    transfer->next = curl->running;
    if (curl->running != NULL)
        curl->running->previous = transfer;
    curl->running = transfer;
    transfer->due = uv_now(curl->loop) + (uint64_t)(request->timeout * 1e3) + GRACE_MS;
    if (!uv_is_active((uv_handle_t *)&curl->due) ||
        transfer->due < uv_now(curl->loop) + uv_timer_get_due_in(&curl->due))
        watch_deadlines(curl);
    return transfer;
}

void kl_curl_drop(kl_curl_transfer *transfer)
{
    if (transfer == NULL)
        return;
    kl_curl *curl = transfer->curl;
    if (curl != NULL) {
        detach(transfer);
        if (curl->forget && curl->running == NULL)
            cleanup_multi(curl);
    }
    kl_curl_transfer_free(transfer);
}

const kl_curl_response *kl_curl_response_of(const kl_curl_transfer *transfer)
{
    return &transfer->response;
}
