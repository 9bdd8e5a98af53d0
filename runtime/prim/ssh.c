// rt.ssh: connections to machines, with a pinned host key.
#include "prim/ssh.h"

#include "bridge/fail.h"
#include "bridge/op.h"
#include "bridge/opts.h"
#include "bridge/own.h"
#include "prim/prims.h"

#include <string.h>

typedef struct ssh_session {
    kl_ssh_session *io; // NULL once closed
} ssh_session;

typedef struct connect_op {
    kl_op op;
    kl_ssh_session *session; // owned until it is pushed
    kl_failure failure;
} connect_op;

static void session_close(void *self)
{
    ssh_session *session = self;
    kl_ssh_session *io = session->io;
    session->io = NULL;
    if (io == NULL)
        return;
    kl_ssh_session_close(io);
    kl_ssh_session_drop(io);
}

static int session_alive(lua_State *L);

static const luaL_Reg ssh_session_methods[] = {{"alive", session_alive}, {NULL, NULL}};

static const kl_own_class session_class = {"rt.ssh.session", ssh_session_methods, session_close};

static int session_alive(lua_State *L)
{
    const ssh_session *session = kl_own_check(L, 1, &session_class);
    lua_pushboolean(L, session->io != NULL && kl_ssh_session_alive(session->io));
    return 1;
}

kl_ssh_session *kl_ssh_check(lua_State *L, int index)
{
    const ssh_session *session = kl_own_check(L, index, &session_class);
    luaL_argcheck(L, session->io != NULL, index, "the session was closed");
    return session->io;
}

static void connect_release(kl_op *op)
{
    connect_op *self = (connect_op *)op;
    kl_ssh_session *session = self->session;
    self->session = NULL;
    if (session == NULL)
        return;
    kl_ssh_session_close(session);
    kl_ssh_session_drop(session);
}

static int connect_push(lua_State *L, kl_op *op)
{
    connect_op *self = (connect_op *)op;
    if (kl_failed(&self->failure))
        return kl_fail(L, &self->failure);
    ssh_session *session = kl_own_new(L, sizeof *session, &session_class);
    session->io = self->session;
    self->session = NULL;
    return 1;
}

static void connect_ready(void *ctx, const kl_failure *failure)
{
    connect_op *self = ctx;
    if (failure != NULL)
        self->failure = *failure;
    kl_op_settle(&self->op);
}

static const kl_op_class connect_class = {"ssh.connect", connect_release, connect_push,
                                          connect_release};

static void read_options(lua_State *L, kl_ssh_options *out)
{
    kl_opts opts;
    kl_opts_begin(L, 1, &opts);
    out->host = kl_opts_need_string(&opts, "host");
    lua_Integer port = kl_opts_integer(&opts, "port", 22);
    luaL_argcheck(L, port > 0 && port < 65536, 1, "option 'port' must be from 1 to 65535");
    out->port = (int)port;
    out->user = kl_opts_string(&opts, "user", "root");
    luaL_argcheck(L, strlen(out->host) < 256 && strlen(out->user) < 64, 1,
                  "option 'host' or 'user' is too long");
    out->key = kl_opts_bytes(&opts, "key", &out->key_length);
    if (out->key == NULL)
        luaL_error(L, "option 'key' is missing: the text of a private key");
    out->passphrase = kl_opts_bytes(&opts, "passphrase", NULL);
    out->host_key = kl_opts_string(&opts, "host_key", NULL);
    if (out->host_key == NULL)
        luaL_error(L, "option 'host_key' is missing: a connection needs the host's public key");
    out->timeout = kl_opts_number(&opts, "timeout", 30);
    out->keepalive = kl_opts_number(&opts, "keepalive", 15);
    luaL_argcheck(L, out->timeout > 0 && out->timeout < 1e6, 1, "option 'timeout' is out of range");
    luaL_argcheck(L, out->keepalive >= 1 && out->keepalive < 1e6, 1,
                  "option 'keepalive' must be at least 1 second");
    kl_opts_end(&opts);
}

static int ssh_connect(lua_State *L)
{
    kl_ssh_options options;
    luaL_checktype(L, 1, LUA_TTABLE);
    read_options(L, &options);
    connect_op *self = kl_op_new(L, sizeof *self, &connect_class);
    self->session = kl_ssh_session_open(kl_loop(L), &options, connect_ready, self, &self->failure);
    if (self->session == NULL)
        kl_op_settle(&self->op);
    return kl_op_wait(L, &self->op);
}

static const luaL_Reg ssh_functions[] = {{"connect", ssh_connect}, {NULL, NULL}};

KL_PRIM(ssh)
{
    luaL_newlib(L, ssh_functions);
    return 1;
}
