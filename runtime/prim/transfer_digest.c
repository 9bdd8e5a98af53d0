// rt.transfer: the digest that an upload of a tree would have, without sending it.
#include "prim/transfer.h"

#include "bridge/fail.h"
#include "bridge/op.h"
#include "bridge/opts.h"
#include "bridge/words.h"
#include "io/tar_tree.h"

#include <lauxlib.h>
#include <stdatomic.h>

typedef struct digest_op {
    kl_op op;
    uv_work_t work;
    kl_tar_tree *tree; // owned; NULL: it could not be listed
    atomic_bool stop;
    kl_failure failure;
} digest_op;

// Reads the stream to its end. Runs in a thread.
static void read_tree(uv_work_t *work)
{
    digest_op *self = work->data;
    char block[65536];
    ssize_t got;
    do {
        got = kl_tar_tree_read(self->tree, block, sizeof block, &self->failure);
    } while (got > 0 && !self->stop);
}

static void read_done(uv_work_t *work, int status)
{
    (void)status;
    kl_op_settle(work->data);
    kl_op_drop(work->data);
}

static void digest_cancel(kl_op *op)
{
    digest_op *self = (digest_op *)op;
    self->stop = true;
    if (self->work.data != NULL)
        uv_cancel((uv_req_t *)&self->work); // if it has not begun
}

static int digest_push(lua_State *L, kl_op *op)
{
    const digest_op *self = (const digest_op *)op;
    if (kl_failed(&self->failure))
        return kl_fail(L, &self->failure);
    char hex[65];
    kl_tar_tree_digest(self->tree, hex);
    lua_pushstring(L, hex);
    return 1;
}

static void digest_free(kl_op *op)
{
    digest_op *self = (digest_op *)op;
    if (self->tree != NULL)
        kl_tar_tree_close(self->tree);
}

static const kl_op_class digest_class = {"transfer.digest", digest_cancel, digest_push,
                                         digest_free};

int kl_transfer_digest(lua_State *L)
{
    const char *source = luaL_checkstring(L, 1);
    kl_opts opts;
    kl_opts_begin(L, 2, &opts);
    int list = kl_opts_table(&opts, "exclude") ? lua_gettop(L) : 0;
    kl_opts_end(&opts);
    char **exclude = list != 0 ? kl_words_push(L, list, "every pattern of 'exclude'") : NULL;
    digest_op *self = kl_op_new(L, sizeof *self, &digest_class);
    self->tree = kl_tar_tree_open(source, "sums", exclude, &self->failure);
    if (self->tree == NULL) {
        kl_op_settle(&self->op);
        return kl_op_wait(L, &self->op);
    }
    self->work.data = kl_op_hold(&self->op);
    uv_queue_work(kl_loop(L), &self->work, read_tree, read_done);
    return kl_op_wait(L, &self->op);
}
