// rt.ssh.agent: the keys that an ssh-agent holds.
#include "prim/ssh.h"

#include "bridge/fail.h"
#include "bridge/op.h"
#include "bridge/opts.h"
#include "io/ssh_agent.h"

#define LISTED_MAX 2048 // OpenSSH's own limit

typedef struct list_op {
    kl_op op;
    kl_ssh_agent *agent; // NULL once it answered
    kl_buf path;
    kl_buf answer;
    kl_failure failure;
} list_op;

static void answered(void *ctx, const kl_ssh_string *answer, const kl_failure *failure)
{
    list_op *self = ctx;
    self->agent = NULL;
    if (failure != NULL)
        self->failure = *failure;
    else
        kl_buf_append(&self->answer, answer->data, answer->length);
    kl_op_settle(&self->op);
}

static void list_cancel(kl_op *op)
{
    list_op *self = (list_op *)op;
    if (self->agent != NULL)
        kl_ssh_agent_cancel(self->agent);
    self->agent = NULL;
}

static void list_free(kl_op *op)
{
    list_op *self = (list_op *)op;
    list_cancel(op);
    kl_buf_free(&self->path);
    kl_buf_free(&self->answer);
}

static int list_push(lua_State *L, kl_op *op)
{
    list_op *self = (list_op *)op;
    kl_ssh_reader reader;
    uint32_t count;
    if (kl_failed(&self->failure))
        return kl_fail(L, &self->failure);
    kl_ssh_string answer = {self->answer.data, self->answer.length};
    if (!kl_ssh_agent_take_list(answer, &reader, &count) || count > LISTED_MAX)
        return kl_fail_as(L, "protocol", "the ssh-agent at %s does not list its keys",
                          kl_buf_text(&self->path));
    lua_newtable(L);
    lua_Integer at = 0;
    for (uint32_t i = 0; i < count; i++) {
        kl_ssh_string blob = kl_ssh_take_string(&reader);
        kl_ssh_string comment = kl_ssh_take_string(&reader);
        if (reader.bad)
            break;
        kl_ssh_key **place = kl_ssh_key_new(L);
        *place = kl_ssh_key_of_agent(self->path.data, blob.data, blob.length, comment.data,
                                     comment.length);
        kl_failure unusable;
        if (kl_ssh_key_usable(*place, &unusable))
            lua_rawseti(L, -2, ++at);
        else
            lua_pop(L, 1);
    }
    return 1;
}

static const kl_op_class list_class = {"ssh.agent", list_cancel, list_push, list_free};

int kl_ssh_agent_keys(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1);
    kl_opts opts;
    kl_opts_begin(L, 2, &opts);
    lua_Number timeout = kl_opts_number(&opts, "timeout", 10);
    luaL_argcheck(L, timeout > 0 && timeout < 1e6, 2, "option 'timeout' is out of range");
    kl_opts_end(&opts);

    list_op *self = kl_op_new(L, sizeof *self, &list_class);
    kl_buf message = {0};
    kl_buf_puts(&self->path, path);
    kl_ssh_agent_put_list(&message);
    self->agent = kl_ssh_agent_ask(kl_loop(L), path, &message, timeout, answered, self);
    kl_buf_free(&message);
    return kl_op_wait(L, &self->op);
}
