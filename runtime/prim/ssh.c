// rt.ssh: connections to machines whose host key is known.
#include "prim/ssh.h"

#include "bridge/fail.h"
#include "bridge/op.h"
#include "bridge/opts.h"
#include "bridge/own.h"
#include "bridge/secret.h"
#include "bridge/words.h"
#include "prim/prims.h"
#include "prim/proc.h"

#include <string.h>

typedef struct ssh_session {
    kl_ssh_session *io;  // NULL once closed
    kl_ssh_session *via; // a reference to the one it goes through; NULL: none
} ssh_session;

typedef struct connect_op {
    kl_op op;
    kl_ssh_session *session; // owned until it is pushed
    kl_ssh_session *via;     // a reference
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
    if (session->via != NULL)
        kl_ssh_session_drop(session->via);
    session->via = NULL;
}

static int session_alive(lua_State *L);

static const luaL_Reg ssh_session_methods[] = {{"alive", session_alive},
                                               {"forward", kl_ssh_session_forward},
                                               {"listen", kl_ssh_session_listen},
                                               {NULL, NULL}};

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
    if (session != NULL) {
        kl_ssh_session_close(session);
        kl_ssh_session_drop(session);
    }
    if (self->via != NULL)
        kl_ssh_session_drop(self->via);
    self->via = NULL;
}

static int connect_push(lua_State *L, kl_op *op)
{
    connect_op *self = (connect_op *)op;
    if (kl_failed(&self->failure))
        return kl_fail(L, &self->failure);
    ssh_session *session = kl_own_new(L, sizeof *session, &session_class);
    session->io = self->session;
    session->via = self->via;
    self->session = self->via = NULL;
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

static void pins_close(void *self)
{
    kl_ssh_pins_free(self);
}

static const luaL_Reg no_methods[] = {{NULL, NULL}};
static const kl_own_class pins_class = {"rt.ssh.pins", no_methods, pins_close};

typedef struct connect_options {
    kl_ssh_options io;
    kl_ssh_key *keys[KL_SSH_KEYS]; // borrowed from values on the stack
    kl_failure failure;            // of a key's text or a host key's
} connect_options;

// Calls `add` with each item of the value on the top, a list or a single one; it may raise.
static void each_item(lua_State *L, connect_options *out,
                      void (*add)(lua_State *, connect_options *))
{
    if (!lua_istable(L, -1)) {
        add(L, out);
        return;
    }
    lua_Integer count = luaL_len(L, -1);
    for (lua_Integer i = 1; i <= count; i++) {
        lua_geti(L, -1, i);
        add(L, out);
        lua_pop(L, 1);
    }
}

static void add_key(lua_State *L, connect_options *out)
{
    if (out->io.key_count == KL_SSH_KEYS)
        luaL_error(L, "option 'key' has more than %d keys", KL_SSH_KEYS);
    out->keys[out->io.key_count++] = kl_ssh_key_check(L, -1);
}

static void add_pin(lua_State *L, connect_options *out)
{
    const char *line = lua_tostring(L, -1);
    if (line == NULL)
        luaL_error(L, "option 'host_key' must be a public key, or a list of them");
    if (!kl_failed(&out->failure))
        kl_ssh_pins_add((kl_ssh_pins *)(uintptr_t)out->io.pins, line, &out->failure);
}

// Reads option 'key': text, a secret, a key or a list of keys. Leaves it on the stack. [-0, +1, e]
static void read_key(lua_State *L, kl_opts *opts, connect_options *out)
{
    kl_opts_value(opts, "key");
    if (lua_isnil(L, -1))
        luaL_error(L, "option 'key' is missing: a private key");
    size_t length;
    const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tolstring(L, -1, &length)
                                                      : kl_secret_bytes(L, -1, &length);
    if (text != NULL) {
        kl_ssh_key **place = kl_ssh_key_new(L);
        *place = kl_ssh_key_read(text, length, NULL, NULL, &out->failure);
        lua_replace(L, -2);
        if (*place == NULL || !kl_ssh_key_usable(*place, &out->failure))
            return;
    }
    each_item(L, out, add_key);
    if (out->io.key_count == 0)
        luaL_error(L, "option 'key' has no key");
}

static void read_host_key(lua_State *L, kl_opts *opts, connect_options *out)
{
    out->io.pins = kl_own_new(L, sizeof *out->io.pins, &pins_class);
    kl_opts_value(opts, "host_key");
    if (lua_isnil(L, -1))
        luaL_error(L, "option 'host_key' is missing: a connection needs the host's public key");
    each_item(L, out, add_pin);
    lua_pop(L, 1);
}

// Reads option 'proxy_command', a list of words. Leaves them on the stack. [-0, +(0|2), e]
static void read_proxy(lua_State *L, kl_opts *opts, connect_options *out)
{
    if (!kl_opts_table(opts, "proxy_command")) {
        lua_pop(L, 1);
        return;
    }
    if (luaL_len(L, -1) == 0)
        luaL_error(L, "option 'proxy_command' must be a list: a program and its arguments");
    if (out->io.via != NULL)
        luaL_error(L, "options 'proxy_command' and 'via' exclude each other");
    out->io.proxy = kl_words_push(L, lua_gettop(L), "every word of 'proxy_command'");
    out->io.family = kl_proc_family(L);
}

// Leaves what the options borrow on the stack. [-0, +n, e]
static void read_options(lua_State *L, connect_options *out)
{
    kl_opts opts;
    kl_opts_begin(L, 1, &opts);
    out->io.host = kl_opts_need_string(&opts, "host");
    lua_Integer port = kl_opts_integer(&opts, "port", 22);
    luaL_argcheck(L, port > 0 && port < 65536, 1, "option 'port' must be from 1 to 65535");
    out->io.port = (int)port;
    out->io.user = kl_opts_string(&opts, "user", "root");
    luaL_argcheck(L, strlen(out->io.host) < 256 && strlen(out->io.user) < 64, 1,
                  "option 'host' or 'user' is too long");
    out->io.keys = out->keys;
    kl_opts_value(&opts, "via");
    if (!lua_isnil(L, -1))
        out->io.via = kl_ssh_check(L, -1); // the options keep it until the call is over
    lua_pop(L, 1);
    read_proxy(L, &opts, out);
    read_key(L, &opts, out);
    read_host_key(L, &opts, out);
    out->io.timeout = kl_opts_number(&opts, "timeout", 30);
    out->io.keepalive = kl_opts_number(&opts, "keepalive", 15);
    luaL_argcheck(L, out->io.timeout > 0 && out->io.timeout < 1e6, 1,
                  "option 'timeout' is out of range");
    luaL_argcheck(L, out->io.keepalive >= 1 && out->io.keepalive < 1e6, 1,
                  "option 'keepalive' must be at least 1 second");
    kl_opts_end(&opts);
}

static int ssh_connect(lua_State *L)
{
    connect_options options = {0};
    luaL_checktype(L, 1, LUA_TTABLE);
    read_options(L, &options);
    connect_op *self = kl_op_new(L, sizeof *self, &connect_class);
    if (options.io.via != NULL)
        self->via = kl_ssh_session_hold(options.io.via);
    if (kl_failed(&options.failure))
        self->failure = options.failure;
    else
        self->session =
            kl_ssh_session_open(kl_loop(L), &options.io, connect_ready, self, &self->failure);
    if (self->session == NULL)
        kl_op_settle(&self->op);
    return kl_op_wait(L, &self->op);
}

static int ssh_library(lua_State *L)
{
    lua_pushstring(L, kl_ssh_library());
    return 1;
}

static const luaL_Reg ssh_functions[] = {{"connect", ssh_connect},
                                         {"key", kl_ssh_key_open},
                                         {"agent", kl_ssh_agent_keys},
                                         {"library", ssh_library},
                                         {NULL, NULL}};

KL_PRIM(ssh)
{
    kl_proc_family(L);
    luaL_newlib(L, ssh_functions);
    return 1;
}
