// Ports that lead through a session of rt.ssh, from here or from its host.
#include "prim/ssh.h"

#include "bridge/fail.h"
#include "bridge/op.h"
#include "bridge/opts.h"
#include "bridge/own.h"
#include "io/ssh_forward.h"

#include <string.h>

typedef struct ssh_forward {
    kl_ssh_forward *here; // one of the two, NULL once closed
    kl_ssh_listen *there;
    int port;
} ssh_forward;

static void forward_close(void *self)
{
    ssh_forward *forward = self;
    if (forward->here != NULL)
        kl_ssh_forward_close(forward->here);
    if (forward->there != NULL)
        kl_ssh_listen_close(forward->there);
    forward->here = NULL;
    forward->there = NULL;
}

static int forward_port(lua_State *L);
static int forward_failure(lua_State *L);

static const luaL_Reg ssh_forward_methods[] = {
    {"port", forward_port}, {"failure", forward_failure}, {NULL, NULL}};

static const kl_own_class forward_class = {"rt.ssh.forward", ssh_forward_methods, forward_close};

static int forward_port(lua_State *L)
{
    lua_pushinteger(L, ((const ssh_forward *)kl_own_check(L, 1, &forward_class))->port);
    return 1;
}

static int forward_failure(lua_State *L)
{
    const ssh_forward *forward = kl_own_check(L, 1, &forward_class);
    const kl_failure *failure = forward->here != NULL    ? kl_ssh_forward_failure(forward->here)
                                : forward->there != NULL ? kl_ssh_listen_failure(forward->there)
                                                         : NULL;
    if (failure == NULL)
        return 0;
    kl_fail(L, failure);
    return 1; // the error alone
}

typedef struct ends {
    const char *host;
    int port;
    const char *to_host;
    int to_port;
} ends;

static int read_port(lua_State *L, kl_opts *opts, const char *name, lua_Integer lowest)
{
    lua_Integer port = kl_opts_integer(opts, name, 0);
    if (port < lowest || port > 65535)
        luaL_error(L, "option '%s' must be from %d to 65535", name, (int)lowest);
    return (int)port;
}

static void read_ends(lua_State *L, ends *out)
{
    kl_opts opts;
    luaL_checktype(L, 2, LUA_TTABLE);
    kl_opts_begin(L, 2, &opts);
    out->host = kl_opts_string(&opts, "host", "127.0.0.1");
    out->port = read_port(L, &opts, "port", 0);
    out->to_host = kl_opts_string(&opts, "to_host", "127.0.0.1");
    out->to_port = read_port(L, &opts, "to_port", 1);
    luaL_argcheck(L, strlen(out->host) < 256 && strlen(out->to_host) < 256, 2,
                  "option 'host' or 'to_host' is too long");
    kl_opts_end(&opts);
}

int kl_ssh_session_forward(lua_State *L)
{
    ends between;
    kl_failure failure = {0};
    kl_ssh_session *session = kl_ssh_check(L, 1);
    read_ends(L, &between);
    ssh_forward *forward = kl_own_new(L, sizeof *forward, &forward_class);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, 1); // the port keeps its session
    forward->here = kl_ssh_forward_open(session, between.host, between.port, between.to_host,
                                        between.to_port, &failure);
    if (forward->here == NULL)
        return kl_fail(L, &failure);
    forward->port = kl_ssh_forward_port(forward->here);
    return 1;
}

typedef struct listen_op {
    kl_op op;
    kl_ssh_listen *listen; // until it is pushed
    int port;
    kl_failure failure;
} listen_op;

static void listening(void *ctx, int port, const kl_failure *failure)
{
    listen_op *self = ctx;
    self->port = port;
    if (failure != NULL)
        self->failure = *failure;
    kl_op_settle(&self->op);
}

static void listen_release(kl_op *op)
{
    listen_op *self = (listen_op *)op;
    if (self->listen != NULL)
        kl_ssh_listen_close(self->listen);
    self->listen = NULL;
}

static int listen_push(lua_State *L, kl_op *op)
{
    listen_op *self = (listen_op *)op;
    if (kl_failed(&self->failure))
        return kl_fail(L, &self->failure);
    ssh_forward *forward = kl_own_new(L, sizeof *forward, &forward_class);
    forward->there = self->listen;
    forward->port = self->port;
    self->listen = NULL;
    return 1;
}

static const kl_op_class listen_class = {"ssh.listen", listen_release, listen_push, listen_release};

int kl_ssh_session_listen(lua_State *L)
{
    ends between;
    kl_ssh_session *session = kl_ssh_check(L, 1);
    read_ends(L, &between);
    listen_op *self = kl_op_new(L, sizeof *self, &listen_class);
    self->listen = kl_ssh_listen_open(session, between.host, between.port, between.to_host,
                                      between.to_port, listening, self, &self->failure);
    if (self->listen == NULL)
        kl_op_settle(&self->op);
    return kl_op_wait(L, &self->op);
}
