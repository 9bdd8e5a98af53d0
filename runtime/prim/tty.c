// rt.tty: the terminal's size, writes to it, and a line typed by the user.
#include "prim/prims.h"

#include "bridge/fail.h"
#include "bridge/op.h"
#include "bridge/opts.h"
#include "bridge/secret.h"
#include "io/terminal.h"

#include <string.h>
#include <unistd.h>

static int check_fd(lua_State *L, int index)
{
    lua_Integer fd = luaL_checkinteger(L, index);
    luaL_argcheck(L, fd >= 0 && fd <= 1 << 20, index, "no file descriptor");
    return (int)fd;
}

static int tty_is_tty(lua_State *L)
{
    lua_pushboolean(L, isatty(check_fd(L, 1)));
    return 1;
}

static int tty_size(lua_State *L)
{
    int columns, rows;
    int fd = check_fd(L, 1);
    if (!kl_terminal_size(fd, &columns, &rows))
        return kl_fail_as(L, "unsupported", "descriptor %d is no terminal", fd);
    lua_pushinteger(L, columns);
    lua_pushinteger(L, rows);
    return 2;
}

static int tty_write(lua_State *L)
{
    size_t length;
    int fd = check_fd(L, 1);
    const char *bytes = luaL_checklstring(L, 2, &length);
    kl_failure failure;
    if (!kl_terminal_write(fd, bytes, length, &failure))
        return kl_fail(L, &failure);
    lua_pushboolean(L, 1);
    return 1;
}

typedef struct line_op {
    kl_op op;
    kl_terminal_line *line; // NULL: did not start, or was cancelled
    bool echo;
    kl_failure failure;
} line_op;

static void line_ended(void *context)
{
    kl_op_settle(context);
}

static void line_release(kl_op *op)
{
    line_op *self = (line_op *)op;
    if (self->line != NULL)
        kl_terminal_release(self->line);
    self->line = NULL;
}

static int line_push(lua_State *L, kl_op *op)
{
    line_op *self = (line_op *)op;
    if (self->line == NULL)
        return kl_fail(L, &self->failure);
    kl_failure failure;
    const kl_buf *text = kl_terminal_result(self->line, &failure);
    if (kl_failed(&failure))
        return kl_fail(L, &failure);
    if (text == NULL)
        lua_pushnil(L);
    else if (self->echo)
        lua_pushlstring(L, kl_buf_text(text), text->length);
    else
        kl_secret_push(L, kl_buf_text(text), text->length);
    return 1;
}

static const kl_op_class line_class = {"tty.read_line", line_release, line_push, line_release};

static int tty_read_line(lua_State *L)
{
    const char *prompt = luaL_checkstring(L, 1);
    kl_opts opts;
    kl_opts_begin(L, 2, &opts);
    bool echo = kl_opts_boolean(&opts, "echo", true);
    kl_opts_end(&opts);

    line_op *self = kl_op_new(L, sizeof *self, &line_class);
    kl_op_idle(&self->op);
    self->echo = echo;
    self->line =
        kl_terminal_read_line(kl_loop(L), prompt, echo, line_ended, &self->op, &self->failure);
    if (self->line == NULL)
        kl_op_settle(&self->op);
    return kl_op_wait(L, &self->op);
}

static const luaL_Reg tty_functions[] = {{"is_tty", tty_is_tty},
                                         {"size", tty_size},
                                         {"write", tty_write},
                                         {"read_line", tty_read_line},
                                         {NULL, NULL}};

KL_PRIM(tty)
{
    luaL_newlib(L, tty_functions);
    return 1;
}
