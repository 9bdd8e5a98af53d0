// One HTTP request: its options, what comes back, and what curl's verdict means.
#include "io/curl_internal.h"

#include <ctype.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

enum {
    HEADERS_MAX = 256 * 1024 // bytes of a response's headers
};

static char *url_part(CURLU *url, CURLUPart part)
{
    char *text = NULL;
    return curl_url_get(url, part, &text, 0) == CURLUE_OK ? text : NULL;
}

// Writes "GET http://host:port/path" without what may be secret.
static void describe(kl_curl_transfer *transfer, const char *method, CURLU *url)
{
    char *scheme = url_part(url, CURLUPART_SCHEME), *host = url_part(url, CURLUPART_HOST);
    char *port = url_part(url, CURLUPART_PORT), *path = url_part(url, CURLUPART_PATH);
    kl_buf text = {0};
    kl_buf_printf(&text, "%s %s://%s%s%s%s", method, scheme ? scheme : "?", host ? host : "?",
                  port ? ":" : "", port ? port : "", path ? path : "/");
    transfer->where = text.data;
    curl_free(scheme);
    curl_free(host);
    curl_free(port);
    curl_free(path);
}

static bool check_url(kl_curl_transfer *transfer, const kl_curl_request *request, kl_failure *out)
{
    CURLU *url = curl_url();
    CURLUcode code = curl_url_set(url, CURLUPART_URL, request->url, CURLU_NON_SUPPORT_SCHEME);
    char *scheme = code == CURLUE_OK ? url_part(url, CURLUPART_SCHEME) : NULL;
    if (code != CURLUE_OK)
        kl_failure_set(out, "invalid", (int)code, "%s: the URL cannot be read: %s", request->method,
                       curl_url_strerror(code));
    else if (scheme == NULL || (strcmp(scheme, "http") != 0 && strcmp(scheme, "https") != 0))
        kl_failure_set(out, "unsupported", 0, "%s: only http and https URLs are supported",
                       request->method);
    else
        describe(transfer, request->method, url);
    curl_free(scheme);
    curl_url_cleanup(url);
    return transfer->where != NULL;
}

static void keep_header(kl_curl_transfer *transfer, const char *line, size_t length)
{
    const char *colon = memchr(line, ':', length);
    if (colon == NULL || transfer->response.head) // a trailer says nothing that we ask for
        return;
    kl_buf *headers = &transfer->response.headers;
    for (const char *at = line; at < colon; at++) {
        char lower = (char)tolower((unsigned char)*at);
        kl_buf_append(headers, &lower, 1);
    }
    kl_buf_append(headers, "", 1);
    const char *start = colon + 1, *end = line + length;
    while (start < end && (*start == ' ' || *start == '\t'))
        start++;
    while (end > start && isspace((unsigned char)end[-1]))
        end--;
    if (memchr(start, '\0', (size_t)(end - start)) == NULL)
        kl_buf_append(headers, start, (size_t)(end - start));
    kl_buf_append(headers, "", 1);
}

// An empty line: the head is whole, unless it is an interim response's, or a trailer's.
static void head_ended(kl_curl_transfer *transfer)
{
    kl_curl_response *response = &transfer->response;
    curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &response->status);
    if (response->status < 200 || response->head)
        return;
    response->head = true;
    if (transfer->moved != NULL)
        transfer->moved(transfer->ctx);
}

static size_t on_header(char *line, size_t size, size_t count, void *ctx)
{
    kl_curl_transfer *transfer = ctx;
    size_t length = size * count;
    transfer->header_bytes += length;
    if (transfer->header_bytes > HEADERS_MAX) {
        transfer->over_limit = true;
        return 0;
    }
    kl_curl_response *response = &transfer->response;
    if (length >= 5 && memcmp(line, "HTTP/", 5) == 0)
        response->headers.length = 0; // an interim response came before it
    else if (length > 2)
        keep_header(transfer, line, length);
    else
        head_ended(transfer);
    return length;
}

// Runs before each sending. curl repeats any request, a POST too, when a kept connection ends
// before an answer; but the server may have read it, so that is allowed only where twice is like
// once.
static int on_send(void *ctx, char *remote, char *local, int remote_port, int local_port)
{
    (void)remote;
    (void)local;
    (void)remote_port;
    (void)local_port;
    kl_curl_transfer *transfer = ctx;
    long sent = 0;
    curl_easy_getinfo(transfer->easy, CURLINFO_REQUEST_SIZE, &sent);
    bool again = transfer->attempts++ > 0;
    if (!again || sent == 0)
        return CURL_PREREQFUNC_OK;
    if (transfer->repeatable) {
        transfer->response.resent++;
        return CURL_PREREQFUNC_OK;
    }
    transfer->lost = true;
    return CURL_PREREQFUNC_ABORT;
}

static bool has_header(const kl_curl_request *request, const char *name)
{
    for (size_t i = 0; i < request->header_count; i++) {
        if (strcasecmp(request->headers[i].name, name) == 0)
            return true;
    }
    return false;
}

static bool add_header(kl_curl_transfer *transfer, const char *name, const char *value)
{
    kl_buf line = {0};
    // "Name;" is how curl spells a header without a value, "Name:" removes one of its own.
    kl_buf_printf(&line, value[0] != '\0' ? "%s: %s" : "%s;", name, value);
    struct curl_slist *headers = curl_slist_append(transfer->headers, kl_buf_text(&line));
    OPENSSL_cleanse(line.data, line.length);
    kl_buf_free(&line);
    if (headers == NULL)
        return false;
    transfer->headers = headers;
    return true;
}

static bool set_headers(kl_curl_transfer *transfer, const kl_curl_request *request)
{
    for (size_t i = 0; i < request->header_count; i++) {
        if (!add_header(transfer, request->headers[i].name, request->headers[i].value))
            return false;
    }
    transfer->compressed = request->compressed && !has_header(request, "Accept-Encoding");
    if (transfer->compressed && !add_header(transfer, "Accept-Encoding", "gzip"))
        return false;
    static const char *const unasked[] = {"Expect", "Content-Type"}; // curl would add them
    for (size_t i = 0; i < sizeof unasked / sizeof *unasked; i++) {
        if (has_header(request, unasked[i]))
            continue;
        char removal[32];
        snprintf(removal, sizeof removal, "%s:", unasked[i]);
        struct curl_slist *headers = curl_slist_append(transfer->headers, removal);
        if (headers == NULL)
            return false;
        transfer->headers = headers;
    }
    curl_easy_setopt(transfer->easy, CURLOPT_HTTPHEADER, transfer->headers);
    return true;
}

static void set_method(kl_curl_transfer *transfer, const char *method)
{
    if (strcmp(method, "HEAD") == 0)
        curl_easy_setopt(transfer->easy, CURLOPT_NOBODY, 1L);
    else
        curl_easy_setopt(transfer->easy, CURLOPT_CUSTOMREQUEST, method);
}

static bool set_options(kl_curl_transfer *transfer, const kl_curl_request *request, kl_failure *out)
{
    CURL *easy = transfer->easy;
    curl_easy_setopt(easy, CURLOPT_URL, request->url);
    curl_easy_setopt(easy, CURLOPT_PRIVATE, transfer);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, transfer->error);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "kiln/" KILN_VERSION);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, transfer);
    curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, on_send);
    curl_easy_setopt(easy, CURLOPT_PREREQDATA, transfer);
    if (kl_curl_set_connection(easy, request) && kl_curl_set_body(transfer, request, out)) {
        set_method(transfer, request->method);
        transfer->repeatable = request->idempotent && !request->streams_up;
        if (set_headers(transfer, request))
            return true;
    }
    if (!kl_failed(out))
        kl_failure_set(out, "limit", 0, "%s: out of memory", transfer->where);
    return false;
}

kl_curl_transfer *kl_curl_transfer_new(const kl_curl_request *request, CURL *easy, kl_failure *out)
{
    kl_curl_transfer *transfer = calloc(1, sizeof *transfer);
    if (transfer == NULL) {
        kl_failure_set(out, "limit", 0, "%s: out of memory", request->method);
        if (easy != NULL)
            curl_easy_cleanup(easy);
        return NULL;
    }
    transfer->easy = easy != NULL ? easy : curl_easy_init();
    if (transfer->easy == NULL)
        kl_failure_set(out, "limit", 0, "%s: out of memory", request->method);
    else if (check_url(transfer, request, out) && set_options(transfer, request, out))
        return transfer;
    kl_curl_transfer_free(transfer);
    return NULL;
}

static const char *kind_of(CURLcode result)
{
    switch (result) {
    case CURLE_OPERATION_TIMEDOUT:
        return "timeout";
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_INTERFACE_FAILED:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_PROXY:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
        return "unreachable";
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_ENGINE_INITFAILED:
    case CURLE_SSL_INVALIDCERTSTATUS:
        return "tls";
    case CURLE_OUT_OF_MEMORY:
        return "limit";
    default:
        return "protocol";
    }
}

// With TLS 1.3 a server says after the handshake that it does not take the client's certificate.
static bool is_alert(const kl_curl_transfer *transfer, CURLcode result)
{
    return (result == CURLE_RECV_ERROR || result == CURLE_SEND_ERROR) &&
           strstr(transfer->error, "SSL routines") != NULL &&
           strstr(transfer->error, "alert") != NULL;
}

// curl's words for the verdict, and the system's where curl only says that it could not connect.
static const char *text_of(const kl_curl_transfer *transfer, CURLcode result)
{
    long error = 0;
    if (result == CURLE_COULDNT_CONNECT)
        curl_easy_getinfo(transfer->easy, CURLINFO_OS_ERRNO, &error);
    if (result == CURLE_COULDNT_CONNECT && error == 0) { // curl does not say why it got no socket
        int spare = dup(STDERR_FILENO);
        error = spare < 0 ? errno : 0;
        if (spare >= 0)
            close(spare);
    }
    if (error != 0)
        return strerror((int)error);
    if (result == CURLE_OPERATION_TIMEDOUT && transfer->attempts == 0 && transfer->error[0] == '\0')
        return "no connection was free before the deadline";
    return transfer->error[0] != '\0' ? transfer->error : curl_easy_strerror(result);
}

static int http_version(CURL *easy)
{
    long version = 0;
    curl_easy_getinfo(easy, CURLINFO_HTTP_VERSION, &version);
    return version == CURL_HTTP_VERSION_1_0 ? 10 : version == CURL_HTTP_VERSION_2_0 ? 20 : 11;
}

void kl_curl_transfer_ended(kl_curl_transfer *transfer, CURLcode result)
{
    kl_curl_response *response = &transfer->response;
    long sent = 0;
    curl_easy_getinfo(transfer->easy, CURLINFO_REQUEST_SIZE, &sent);
    curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &response->status);
    curl_easy_getinfo(transfer->easy, CURLINFO_TOTAL_TIME, &response->seconds);
    response->maybe_sent = sent > 0 && transfer->attempts > 0; // a proxy's CONNECT counts as sent
    response->http = http_version(transfer->easy);
    if (result == CURLE_OK && !kl_curl_unpack_whole(transfer))
        kl_failure_set(&transfer->failure, "protocol", 0, "%s: the packed body ends early",
                       transfer->where);
    if (result == CURLE_OK || kl_failed(&transfer->failure))
        return;
    if (transfer->over_limit && transfer->header_bytes > HEADERS_MAX)
        kl_failure_set(&transfer->failure, "limit", 0, "%s: the response's headers exceed %d bytes",
                       transfer->where, HEADERS_MAX);
    else if (transfer->over_limit)
        kl_failure_set(&transfer->failure, "limit", 0, "%s: the response exceeds %zu bytes",
                       transfer->where, transfer->max_body);
    else if (transfer->lost)
        kl_failure_set(&transfer->failure, "unreachable", (int)result,
                       "%s: the connection ended after the request was sent", transfer->where);
    else
        kl_failure_set(&transfer->failure, is_alert(transfer, result) ? "tls" : kind_of(result),
                       (int)result, "%s: %s", transfer->where, text_of(transfer, result));
}

void kl_curl_transfer_free(kl_curl_transfer *transfer)
{
    if (transfer->easy != NULL)
        curl_easy_cleanup(transfer->easy);
    for (struct curl_slist *at = transfer->headers; at != NULL; at = at->next)
        OPENSSL_cleanse(at->data, strlen(at->data));
    curl_slist_free_all(transfer->headers);
    kl_curl_source_free(&transfer->source);
    kl_curl_unpack_free(transfer);
    free(transfer->where);
    kl_buf_free(&transfer->response.headers);
    kl_buf_free(&transfer->response.body);
    free(transfer);
}
