// http_test: the HTTP client and server on one loop, without Lua: whole requests, and ends in the
// middle.
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "io/curl_multi.h"
#include "io/http_server.h"

typedef struct site {
    uv_loop_t loop;
    kl_http_server *server;
    kl_curl *curl;
    char url[64];
    kl_http_request *waiting[8];
    int waiting_count;
    int answered;
    int failed;
} site;

static void on_request(void *ctx, kl_http_request *request)
{
    site *self = ctx;
    self->waiting[self->waiting_count++] = request;
}

static void on_done(void *ctx, const kl_curl_response *response, const kl_failure *failure)
{
    site *self = ctx;
    if (failure == NULL) {
        bool whole = response->status == 200 && strcmp(kl_buf_text(&response->body), "hello") == 0;
        assert(whole || response->status == 500);
        self->answered++;
    } else {
        self->failed++;
    }
}

static void open_site(site *self)
{
    kl_failure failure = {0};
    *self = (site){0};
    assert(uv_loop_init(&self->loop) == 0);
    kl_http_server_options options = {.host = "127.0.0.1",
                                      .max_headers = 32768,
                                      .max_body = 1000,
                                      .max_buffered = 10000,
                                      .connections = 100,
                                      .idle_timeout = 10,
                                      .request_timeout = 10,
                                      .answer_timeout = 10};
    self->server = kl_http_server_open(&self->loop, &options, on_request, self, &failure);
    assert(self->server != NULL);
    self->curl = kl_curl_open(&self->loop);
    assert(self->curl != NULL);
    snprintf(self->url, sizeof self->url, "http://127.0.0.1:%d/",
             kl_http_server_port(self->server));
}

static kl_curl_transfer *ask(site *self)
{
    kl_failure failure = {0};
    const kl_curl_piece body = {.bytes = "question", .length = 8};
    kl_curl_request request = {.method = "POST",
                               .url = self->url,
                               .pieces = &body,
                               .piece_count = 1,
                               .connect_timeout = 5,
                               .timeout = 5,
                               .max_body = 1000};
    kl_curl_transfer *transfer = kl_curl_start(self->curl, &request, on_done, self, &failure);
    assert(transfer != NULL);
    return transfer;
}

static void run_until_waiting(site *self, int count)
{
    while (self->waiting_count < count)
        uv_run(&self->loop, UV_RUN_ONCE);
}

// Nothing may be left on the loop; the sanitizer says whether memory is.
static void close_loop(site *self)
{
    uv_run(&self->loop, UV_RUN_DEFAULT);
    assert(uv_loop_close(&self->loop) == 0);
}

static void test_whole_requests(void)
{
    site self;
    const kl_buf none = {0};
    open_site(&self);
    kl_curl_transfer *transfers[2] = {ask(&self), ask(&self)};
    run_until_waiting(&self, 2);
    for (int i = 1; i >= 0; i--) {
        assert(strcmp(kl_buf_text(&kl_http_request_asked(self.waiting[i])->body), "question") == 0);
        assert(kl_http_request_answer(self.waiting[i], 200, &none, "hello", 5));
        kl_http_request_drop(self.waiting[i]);
    }
    while (self.answered < 2)
        uv_run(&self.loop, UV_RUN_ONCE);
    kl_curl_drop(transfers[0]);
    kl_curl_drop(transfers[1]);
    kl_curl_close(self.curl);
    kl_http_server_close(self.server);
    close_loop(&self);
}

// An idle client keeps the loop from nothing: uv_run returns as soon as the server is closed.
static void test_idle_client(void)
{
    site self;
    open_site(&self);
    kl_curl_transfer *transfer = ask(&self);
    run_until_waiting(&self, 1);
    kl_http_request_drop(self.waiting[0]); // a 500, on a connection that is kept
    while (!self.answered && !self.failed)
        uv_run(&self.loop, UV_RUN_ONCE);
    kl_curl_drop(transfer);
    kl_http_server_close(self.server);
    uv_run(&self.loop, UV_RUN_DEFAULT);
    kl_curl_close(self.curl);
    close_loop(&self);
}

static void test_client_ends_first(void)
{
    site self;
    const kl_buf none = {0};
    open_site(&self);
    kl_curl_transfer *transfers[2] = {ask(&self), ask(&self)};
    run_until_waiting(&self, 2);
    kl_curl_drop(transfers[0]);
    kl_curl_close(self.curl);
    kl_curl_drop(transfers[1]); // after its pool
    uv_run(&self.loop, UV_RUN_NOWAIT);
    for (int i = 0; i < 2; i++) {
        kl_http_request_answer(self.waiting[i], 200, &none, "hello", 5);
        kl_http_request_drop(self.waiting[i]);
    }
    kl_http_server_close(self.server);
    close_loop(&self);
    assert(self.answered == 0 && self.failed == 0);
}

static void test_server_ends_first(void)
{
    site self;
    const kl_buf none = {0};
    open_site(&self);
    kl_curl_transfer *transfers[2] = {ask(&self), ask(&self)};
    run_until_waiting(&self, 2);
    kl_http_server_close(self.server);
    while (self.failed < 2)
        uv_run(&self.loop, UV_RUN_ONCE);
    assert(!kl_http_request_answer(self.waiting[0], 200, &none, "late", 4));
    kl_http_request_drop(self.waiting[0]);
    kl_http_request_drop(self.waiting[1]);
    kl_curl_drop(transfers[0]);
    kl_curl_drop(transfers[1]);
    kl_curl_close(self.curl);
    close_loop(&self);
}

int main(void)
{
    test_whole_requests();
    test_idle_client();
    test_client_ends_first();
    test_server_ends_first();
    return 0;
}
