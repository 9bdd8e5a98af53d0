// rt.gzip: bytes packed and unpacked in memory, as gzip (RFC 1952).
#include "prim/prims.h"

#include "bridge/fail.h"
#include "bridge/scratch.h"

#include <limits.h>
#include <stdbool.h>
#include <zlib.h>

#define GZIP_FORMAT (15 + 16)       // zlib's number for a gzip header and the largest window
#define MEMORY_LEVEL 8              // zlib's default
#define PACK_MAX (16 * 1024 * 1024) // a call holds the loop up: what is larger is a file's work

// Unpacks one member after the other; false when the bytes are no gzip or cut off, or when they
// come to more than `most`: then `out` is longer than that.
static bool unpack(z_stream *stream, kl_buf *out, size_t most)
{
    unsigned char chunk[16 * 1024];
    int state = Z_OK;
    while (out->length <= most) {
        stream->next_out = chunk;
        stream->avail_out = sizeof chunk;
        state = inflate(stream, Z_NO_FLUSH);
        if (state != Z_OK && state != Z_STREAM_END)
            return false;
        kl_buf_append(out, chunk, sizeof chunk - stream->avail_out);
        if (state == Z_STREAM_END && stream->avail_in == 0)
            return out->length <= most;
        if (state == Z_STREAM_END && inflateReset(stream) != Z_OK)
            return false;
        if (state == Z_OK && stream->avail_in == 0 && stream->avail_out > 0)
            return false; // cut off
    }
    return false;
}

static int gzip_unpack(lua_State *L)
{
    size_t length;
    const char *bytes = luaL_checklstring(L, 1, &length);
    lua_Integer most = luaL_checkinteger(L, 2);
    luaL_argcheck(L, most >= 0, 2, "must not be negative");
    luaL_argcheck(L, length <= UINT_MAX, 1, "too long");
    kl_buf *out = kl_scratch(L);
    z_stream stream = {.next_in = (z_const Bytef *)bytes, .avail_in = (uInt)length};
    bool ready = inflateInit2(&stream, GZIP_FORMAT) == Z_OK;
    bool whole = ready && unpack(&stream, out, (size_t)most);
    if (ready)
        inflateEnd(&stream);
    if (whole) {
        kl_scratch_push(L, out);
        return 1;
    }
    bool large = out->length > (size_t)most;
    kl_buf_free(out);
    if (large)
        return kl_fail_as(L, "limit", "unpacked, it has more than %lld bytes", (long long)most);
    return kl_fail_as(L, "invalid", "it is no gzip, or cut off");
}

static int gzip_pack(lua_State *L)
{
    size_t length;
    const char *bytes = luaL_checklstring(L, 1, &length);
    luaL_argcheck(L, length <= PACK_MAX, 1, "more than 16 MiB");
    kl_buf *out = kl_scratch(L);
    z_stream stream = {.next_in = (z_const Bytef *)bytes, .avail_in = (uInt)length};
    if (deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, GZIP_FORMAT, MEMORY_LEVEL,
                     Z_DEFAULT_STRATEGY) != Z_OK)
        return luaL_error(L, "not enough memory");
    uLong bound = deflateBound(&stream, (uLong)length);
    kl_buf_reserve(out, bound);
    stream.next_out = (Bytef *)out->data;
    stream.avail_out = (uInt)bound;
    int result = deflate(&stream, Z_FINISH);
    out->length = stream.total_out;
    deflateEnd(&stream);
    if (result != Z_STREAM_END) // does not come: deflateBound is an upper bound
        return luaL_error(L, "zlib: error %d", result);
    kl_scratch_push(L, out);
    return 1;
}

static const luaL_Reg gzip_functions[] = {
    {"pack", gzip_pack}, {"unpack", gzip_unpack}, {NULL, NULL}};

KL_PRIM(gzip)
{
    luaL_newlib(L, gzip_functions);
    return 1;
}
