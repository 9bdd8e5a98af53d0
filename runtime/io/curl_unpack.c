// Unpacks an answer's body that comes as gzip. libcurl 7.88 would too, but takes one that was cut
// off for whole.
#include "io/curl_internal.h"

#include "base/ending.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <zlib.h>

enum {
    PIECE = 32 * 1024,
    GZIP_FORMAT = 15 + 16, // zlib's number for gzip and the largest window
    GZIP_FIRST = 0x1f
};

struct kl_curl_unpacking {
    z_stream stream;
    size_t taken; // of the bytes that come again after a pause
    bool ended;   // at the end of a gzip member, where a file may end
    bool ignores; // what follows the last one, as gzip(1) does
};

static const char *header(const kl_curl_transfer *transfer, const char *name)
{
    const kl_buf *headers = &transfer->response.headers;
    const char *at = headers->data, *end = at + headers->length;
    while (headers->length > 0 && at < end) {
        const char *value = at + strlen(at) + 1;
        if (strcmp(at, name) == 0)
            return value;
        at = value + strlen(value) + 1;
    }
    return NULL;
}

bool kl_curl_unpack_begin(kl_curl_transfer *transfer)
{
    const char *how = header(transfer, "content-encoding");
    if (how == NULL || how[0] == '\0' || strcasecmp(how, "identity") == 0)
        return true;
    if (strcasecmp(how, "gzip") != 0 && strcasecmp(how, "x-gzip") != 0) {
        kl_failure_set(&transfer->failure, "protocol", 0,
                       "%s: the body comes packed as '%.40s', which was not asked for",
                       transfer->where, how);
        return false;
    }
    transfer->unpack = kl_need(calloc(1, sizeof *transfer->unpack));
    if (inflateInit2(&transfer->unpack->stream, GZIP_FORMAT) != Z_OK)
        kl_out_of_memory();
    return true;
}

// Takes the next bytes after a member: another one's, or what is none.
static void next_member(kl_curl_unpacking *unpack, char first)
{
    unpack->ended = false;
    if (first == GZIP_FIRST)
        inflateReset(&unpack->stream);
    else
        unpack->ignores = unpack->ended = true;
}

static bool add(kl_curl_transfer *transfer, const char *bytes, size_t length)
{
    if (length > transfer->max_body - transfer->received) {
        transfer->over_limit = true;
        return false;
    }
    transfer->received += length;
    kl_buf_append(&transfer->response.body, bytes, length);
    return true;
}

// False: a failure, or the bound of the body.
static bool unpack_piece(kl_curl_transfer *transfer, int *out_rc)
{
    z_stream *stream = &transfer->unpack->stream;
    char piece[PIECE];
    stream->next_out = (unsigned char *)piece;
    stream->avail_out = PIECE;
    int rc = *out_rc = inflate(stream, Z_NO_FLUSH);
    transfer->unpack->ended = rc == Z_STREAM_END;
    if (rc != Z_OK && rc != Z_STREAM_END && rc != Z_BUF_ERROR) {
        kl_failure_set(&transfer->failure, rc == Z_MEM_ERROR ? "limit" : "protocol", rc,
                       "%s: the body is no gzip: %s", transfer->where,
                       stream->msg != NULL ? stream->msg : zError(rc));
        return false;
    }
    return add(transfer, piece, PIECE - stream->avail_out);
}

size_t kl_curl_unpack(kl_curl_transfer *transfer, char *bytes, size_t length, size_t window)
{
    kl_curl_unpacking *unpack = transfer->unpack;
    z_stream *stream = &unpack->stream;
    int rc = Z_OK;
    stream->next_in = (unsigned char *)bytes + unpack->taken;
    stream->avail_in = (unsigned int)(length - unpack->taken);
    do {
        if (transfer->response.body.length >= window) {
            unpack->taken = length - stream->avail_in;
            transfer->paused_down = true;
            return CURL_WRITEFUNC_PAUSE; // the same bytes come again
        }
        if (unpack->ended && !unpack->ignores && stream->avail_in > 0)
            next_member(unpack, (char)stream->next_in[0]);
        if (unpack->ignores || (unpack->ended && stream->avail_in == 0))
            break;
        if (!unpack_piece(transfer, &rc))
            return 0;
    } while (stream->avail_in > 0 || stream->avail_out == 0);
    unpack->taken = 0;
    return length;
}

bool kl_curl_unpack_whole(const kl_curl_transfer *transfer)
{
    return transfer->unpack == NULL || transfer->unpack->ended;
}

void kl_curl_unpack_free(kl_curl_transfer *transfer)
{
    if (transfer->unpack != NULL)
        inflateEnd(&transfer->unpack->stream);
    free(transfer->unpack);
}
