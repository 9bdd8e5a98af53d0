// The user's keys of rt.ssh: opened from text in a thread, since a passphrase costs time.
#include "prim/ssh.h"

#include "bridge/fail.h"
#include "bridge/op.h"
#include "bridge/opts.h"
#include "bridge/own.h"
#include "bridge/scratch.h"

#include <string.h>

typedef struct ssh_key {
    kl_ssh_key *io; // NULL once closed
} ssh_key;

static void key_close(void *self)
{
    ssh_key *key = self;
    kl_ssh_key_drop(key->io);
    key->io = NULL;
}

static int key_public(lua_State *L);
static int key_comment(lua_State *L);

static const luaL_Reg ssh_key_methods[] = {
    {"public", key_public}, {"comment", key_comment}, {NULL, NULL}};

static const kl_own_class key_class = {"rt.ssh.key", ssh_key_methods, key_close};

kl_ssh_key *kl_ssh_key_check(lua_State *L, int index)
{
    const ssh_key *key = kl_own_check(L, index, &key_class);
    luaL_argcheck(L, key->io != NULL, index, "the key was closed");
    return key->io;
}

kl_ssh_key **kl_ssh_key_new(lua_State *L)
{
    ssh_key *key = kl_own_new(L, sizeof *key, &key_class);
    return &key->io;
}

static int key_public(lua_State *L)
{
    const kl_ssh_key *key = kl_ssh_key_check(L, 1);
    kl_buf *line = kl_scratch(L);
    kl_ssh_key_line(line, key->public.data, key->public.length);
    kl_scratch_push(L, line);
    return 1;
}

static int key_comment(lua_State *L)
{
    lua_pushstring(L, kl_ssh_key_check(L, 1)->comment);
    return 1;
}

typedef struct open_op {
    kl_op op;
    uv_work_t work;
    kl_buf text;
    kl_buf passphrase;
    bool locked; // no passphrase was given
    kl_buf certificate;
    kl_ssh_key *key; // the result
    kl_buf public;
    kl_failure failure;
} open_op;

// Runs in a thread.
static void open_key(uv_work_t *work)
{
    open_op *self = work->data;
    self->key = kl_ssh_key_read(self->text.data, self->text.length,
                                self->locked ? NULL : kl_buf_text(&self->passphrase), &self->public,
                                &self->failure);
    bool good = self->key != NULL &&
                (self->certificate.length == 0 ||
                 kl_ssh_key_certify(self->key, self->certificate.data, &self->failure)) &&
                kl_ssh_key_usable(self->key, &self->failure);
    if (good)
        return;
    kl_ssh_key_drop(self->key);
    self->key = NULL;
}

static void opened(uv_work_t *work, int status)
{
    open_op *self = work->data;
    if (status != 0)
        kl_failure_set(&self->failure, "cancelled", 0, "the key was not opened");
    kl_op_settle(&self->op);
    kl_op_drop(&self->op);
}

static void open_cancel(kl_op *op)
{
    uv_cancel((uv_req_t *)&((open_op *)op)->work); // if it has not begun
}

static int open_push(lua_State *L, kl_op *op)
{
    open_op *self = (open_op *)op;
    if (self->key != NULL) {
        kl_ssh_key **place = kl_ssh_key_new(L);
        *place = self->key;
        self->key = NULL;
        return 1;
    }
    int pushed = kl_fail(L, &self->failure);
    if (self->public.length > 0) {
        lua_pushlstring(L, self->public.data, self->public.length);
        lua_setfield(L, -2, "public");
    }
    return pushed;
}

static void open_free(kl_op *op)
{
    open_op *self = (open_op *)op;
    kl_scratch_wipe(&self->text);
    kl_scratch_wipe(&self->passphrase);
    kl_buf_free(&self->certificate);
    kl_buf_free(&self->public);
    kl_ssh_key_drop(self->key);
}

static const kl_op_class open_class = {"ssh.key", open_cancel, open_push, open_free};

int kl_ssh_key_open(lua_State *L)
{
    kl_opts opts;
    size_t text_length, passphrase_length = 0;
    luaL_checktype(L, 1, LUA_TTABLE);
    kl_opts_begin(L, 1, &opts);
    const char *text = kl_opts_bytes(&opts, "text", &text_length);
    if (text == NULL)
        return luaL_error(L, "option 'text' is missing: the text of a private key");
    const char *passphrase = kl_opts_bytes(&opts, "passphrase", &passphrase_length);
    const char *certificate = kl_opts_string(&opts, "certificate", "");
    kl_opts_end(&opts);

    open_op *self = kl_op_new(L, sizeof *self, &open_class);
    kl_buf_append(&self->text, text, text_length);
    kl_buf_append(&self->passphrase, passphrase != NULL ? passphrase : "", passphrase_length);
    self->locked = passphrase == NULL;
    kl_buf_puts(&self->certificate, certificate);
    self->work.data = kl_op_hold(&self->op);
    uv_queue_work(kl_loop(L), &self->work, open_key, opened);
    return kl_op_wait(L, &self->op);
}
