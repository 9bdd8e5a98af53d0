// How an HTTP request's connection is made: deadlines, TLS, the proxy.
#include "io/curl_internal.h"

#include "io/route.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    IDLE_MAX_S = 30,            // a connection that was idle for longer is not used again
    STREAM_BUFFER = 128 * 1024, // bytes that curl moves at once
};

// A PEM text; curl keeps a copy. Nothing for NULL.
static bool set_blob(CURL *easy, CURLoption option, const char *bytes, size_t length)
{
    struct curl_blob blob = {
        .data = (void *)(uintptr_t)bytes, .len = length, .flags = CURL_BLOB_COPY};
    return bytes == NULL || curl_easy_setopt(easy, option, &blob) == CURLE_OK;
}

static bool set_text(CURL *easy, CURLoption option, const char *text)
{
    return text == NULL || curl_easy_setopt(easy, option, text) == CURLE_OK;
}

// The peer, and an https proxy, must show a certificate of a trusted authority for its name.
static bool set_tls(CURL *easy, const kl_curl_tls *tls)
{
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
    curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(easy, CURLOPT_PROXY_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(easy, CURLOPT_PROXY_SSL_VERIFYHOST, 2L);
    curl_easy_setopt(easy, CURLOPT_PROXY_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    return set_text(easy, CURLOPT_CAINFO, tls->ca_file) &&
           set_text(easy, CURLOPT_PROXY_CAINFO, tls->ca_file) &&
           set_blob(easy, CURLOPT_CAINFO_BLOB, tls->ca, tls->ca_length) &&
           set_blob(easy, CURLOPT_PROXY_CAINFO_BLOB, tls->ca, tls->ca_length) &&
           set_text(easy, CURLOPT_SSLCERT, tls->cert_file) &&
           set_blob(easy, CURLOPT_SSLCERT_BLOB, tls->cert, tls->cert_length) &&
           set_text(easy, CURLOPT_SSLKEY, tls->key_file) &&
           set_blob(easy, CURLOPT_SSLKEY_BLOB, tls->key, tls->key_length) &&
           set_text(easy, CURLOPT_KEYPASSWD, tls->key_password);
}

// The environment's proxy is never asked for a server of this machine; an explicit one is asked for
// everything but its own exceptions.
static bool set_proxy(CURL *easy, const kl_curl_request *request)
{
    if (request->direct)
        return set_text(easy, CURLOPT_NOPROXY, "*");
    if (request->proxy != NULL)
        return set_text(easy, CURLOPT_PROXY, request->proxy) &&
               set_text(easy, CURLOPT_NOPROXY, request->no_proxy != NULL ? request->no_proxy : "");
    const char *no_proxy = getenv("no_proxy");
    if (no_proxy == NULL)
        no_proxy = getenv("NO_PROXY");
    if (no_proxy != NULL && strcmp(no_proxy, "*") == 0)
        return set_text(easy, CURLOPT_NOPROXY, "*");
    kl_buf list = {0};
    kl_buf_printf(&list, "localhost,127.0.0.0/8,::1%s%s", no_proxy != NULL ? "," : "",
                  no_proxy != NULL ? no_proxy : "");
    bool set = set_text(easy, CURLOPT_NOPROXY, kl_buf_text(&list));
    kl_buf_free(&list);
    return set;
}

static void set_deadlines(CURL *easy, const kl_curl_request *request)
{
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L); // aborting does not wait for the resolver
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)(request->connect_timeout * 1e3));
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)(request->timeout * 1e3));
    if (request->stall_timeout > 0) {
        curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
        curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, (long)ceil(request->stall_timeout));
    }
}

static void set_protocol(CURL *easy, const kl_curl_request *request)
{
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L); // kiln.http knows what may go along
    curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    long version = request->http2 ? CURL_HTTP_VERSION_2TLS : CURL_HTTP_VERSION_1_1;
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, version);
    curl_easy_setopt(easy, CURLOPT_PIPEWAIT, request->http2 && !request->fresh_connection);
    if (request->streams_up || request->streams_down || request->piece_count > 1) {
        curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, (long)STREAM_BUFFER);
        curl_easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE, (long)STREAM_BUFFER);
    }
    curl_easy_setopt(easy, CURLOPT_MAXAGE_CONN, (long)IDLE_MAX_S);
    curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, request->fresh_connection ? 1L : 0L);
    curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, request->fresh_connection ? 1L : 0L);
}

static curl_socket_t on_open(void *ctx, curlsocktype purpose, struct curl_sockaddr *address)
{
    (void)ctx;
    (void)purpose;
    return kl_route_socket(&address->addr, address->socktype, address->protocol);
}

bool kl_curl_set_connection(CURL *easy, const kl_curl_request *request)
{
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, on_open);
    set_deadlines(easy, request);
    set_protocol(easy, request);
    return set_text(easy, CURLOPT_UNIX_SOCKET_PATH, request->unix_socket) &&
           set_tls(easy, &request->tls) && set_proxy(easy, request);
}
