// rt.httpd's requests: how they are answered.
#include "prim/httpd.h"

#include "bridge/fail.h"
#include "bridge/op.h"
#include "bridge/opts.h"
#include "bridge/scratch.h"
#include "bridge/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct write_op {
    kl_op op;
    kl_httpd_request *request; // NULL once it has closed
} write_op;

static void wake_writer(void *ctx)
{
    kl_httpd_request *self = ctx;
    write_op *writer = self->writer;
    if (writer == NULL ||
        (kl_http_request_is_open(self->io) && !kl_http_request_has_room(self->io)))
        return;
    self->writer = NULL;
    kl_op_settle(&writer->op);
}

void kl_httpd_request_close(void *ctx)
{
    kl_httpd_request *self = ctx;
    kl_http_request *io = self->io;
    self->io = NULL;
    if (self->writer != NULL) {
        self->writer->request = NULL;
        kl_op_settle(&self->writer->op);
        self->writer = NULL;
    }
    if (io != NULL)
        kl_http_request_drop(io);
}

// Headers that only the server itself can set right.
static bool is_framing(const char *name)
{
    return strcasecmp(name, "content-length") == 0 || strcasecmp(name, "transfer-encoding") == 0;
}

// Appends the options' headers to `out`. [-0, +1, e]
static void read_headers(kl_opts *opts, kl_buf *out)
{
    lua_State *L = opts->L;
    if (!kl_opts_table(opts, "headers"))
        return;
    for (lua_pushnil(L); lua_next(L, -2) != 0; lua_pop(L, 1)) {
        bool text = lua_type(L, -2) == LUA_TSTRING && lua_type(L, -1) == LUA_TSTRING;
        if (!text)
            luaL_error(L, "option 'headers' must map names to strings");
        size_t name_length, value_length;
        const char *name = lua_tolstring(L, -2, &name_length);
        const char *value = lua_tolstring(L, -1, &value_length);
        if (strcspn(name, "\r\n\t: ") != name_length || name_length == 0 || is_framing(name))
            luaL_error(L, "option 'headers': '%s' cannot be set", name);
        if (strcspn(value, "\r\n") != value_length)
            luaL_error(L, "the value of header '%s' has a line break or a zero byte", name);
        kl_buf_append(out, name, name_length + 1);
        kl_buf_append(out, value, value_length + 1);
    }
}

static kl_httpd_request *check_request(lua_State *L)
{
    kl_httpd_request *self = kl_own_check(L, 1, &kl_httpd_request_class);
    luaL_argcheck(L, self->io != NULL, 1, "the request was dropped");
    return self;
}

static kl_httpd_request *check_unanswered(lua_State *L)
{
    kl_httpd_request *self = check_request(L);
    luaL_argcheck(L, !self->streams && !kl_http_request_answered(self->io), 1,
                  "the request has its response");
    return self;
}

static unsigned read_status(kl_opts *opts)
{
    lua_Integer status = kl_opts_integer(opts, "status", 200);
    luaL_argcheck(opts->L, status >= 200 && status <= 599, 2,
                  "option 'status' must be from 200 to 599");
    return (unsigned)status;
}

// Returns the descriptor of a regular file, or -1.
static int open_file(const char *path, size_t *out_length, kl_failure *out)
{
    struct stat stat = {0};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd >= 0 && fstat(fd, &stat) == 0 && S_ISREG(stat.st_mode)) {
        *out_length = (size_t)stat.st_size;
        return fd;
    }
    if (stat.st_mode != 0)
        kl_failure_set(out, "invalid", 0, "%s: only a regular file can be a body", path);
    else
        kl_failure_errno(out, errno, path);
    if (fd >= 0)
        close(fd);
    return -1;
}

int kl_httpd_respond(lua_State *L)
{
    const kl_httpd_request *self = check_unanswered(L);
    lua_settop(L, 2);
    kl_buf *headers = kl_scratch(L);
    kl_opts opts;
    kl_opts_begin(L, 2, &opts);
    unsigned status = read_status(&opts);
    size_t length;
    const char *body = kl_opts_bytes(&opts, "body", &length);
    const char *file = kl_opts_string(&opts, "file", NULL);
    luaL_argcheck(L, body == NULL || file == NULL, 2, "option 'body' or 'file', not both");
    read_headers(&opts, headers);
    kl_opts_end(&opts);
    bool possible;
    if (file != NULL) {
        kl_failure failure = {0};
        int fd = open_file(file, &length, &failure);
        if (fd < 0)
            return kl_fail(L, &failure);
        possible = kl_http_request_answer_file(self->io, status, headers, fd, length);
    } else {
        possible =
            kl_http_request_answer(self->io, status, headers, body != NULL ? body : "", length);
    }
    kl_buf_free(headers);
    lua_pushboolean(L, possible);
    return 1;
}

int kl_httpd_start(lua_State *L)
{
    kl_httpd_request *self = check_unanswered(L);
    lua_settop(L, 2);
    kl_buf *headers = kl_scratch(L);
    kl_opts opts;
    kl_opts_begin(L, 2, &opts);
    unsigned status = read_status(&opts);
    luaL_argcheck(L, status != 204 && status != 304, 2, "such an answer has no body");
    read_headers(&opts, headers);
    kl_opts_end(&opts);
    self->streams = true;
    lua_pushboolean(L, kl_http_request_stream(self->io, status, headers, wake_writer, self));
    kl_buf_free(headers);
    return 1;
}

static void write_cancel(kl_op *op)
{
    const write_op *self = (write_op *)op;
    if (self->request != NULL && self->request->writer == self)
        self->request->writer = NULL;
}

static int write_push(lua_State *L, kl_op *op)
{
    const kl_httpd_request *request = ((write_op *)op)->request;
    if (request == NULL || request->io == NULL)
        return kl_fail_as(L, "stopped", "the request was dropped");
    if (!kl_http_request_is_open(request->io))
        return kl_fail_as(L, "unreachable", "the peer no longer takes the answer");
    lua_pushboolean(L, 1);
    return 1;
}

static const kl_op_class write_class = {"httpd.write", write_cancel, write_push, write_cancel};

int kl_httpd_write(lua_State *L)
{
    size_t length;
    kl_httpd_request *self = check_request(L);
    const char *bytes = kl_secret_or_string(L, 2, &length);
    luaL_argcheck(L, self->streams && !self->finished, 1, "the response is no open stream");
    luaL_argcheck(L, self->writer == NULL, 1, "another task waits for the same");
    lua_settop(L, 2);
    write_op *op = kl_op_new(L, sizeof *op, &write_class);
    op->request = self;
    bool open = kl_http_request_write(self->io, bytes, length);
    if (!open || kl_http_request_has_room(self->io))
        kl_op_settle(&op->op);
    else
        self->writer = op;
    return kl_op_wait(L, &op->op);
}

int kl_httpd_finish(lua_State *L)
{
    kl_httpd_request *self = check_request(L);
    luaL_argcheck(L, self->streams, 1, "the response is no stream");
    self->finished = true;
    kl_http_request_finish(self->io);
    return 0;
}

int kl_httpd_hang_up(lua_State *L)
{
    kl_httpd_request *self = check_request(L);
    self->finished = true;
    kl_http_request_hang_up(self->io);
    return 0;
}

int kl_httpd_is_open(lua_State *L)
{
    const kl_httpd_request *self = kl_own_check(L, 1, &kl_httpd_request_class);
    lua_pushboolean(L, self->io != NULL && kl_http_request_is_open(self->io));
    return 1;
}
