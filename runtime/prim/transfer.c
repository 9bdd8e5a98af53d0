// rt.transfer: files and trees over an SSH session, whole or not at all.
#include "io/ssh_transfer.h"

#include "bridge/fail.h"
#include "bridge/op.h"
#include "bridge/opts.h"
#include "bridge/own.h"
#include "bridge/words.h"
#include "prim/prims.h"
#include "prim/ssh.h"
#include "prim/transfer.h"

#include <string.h>

typedef struct transfer_op {
    kl_op op;
    kl_ssh_transfer *io; // NULL once ended
    kl_ssh_transferred result;
    kl_failure failure;
} transfer_op;

static void transfer_release(kl_op *op)
{
    transfer_op *self = (transfer_op *)op;
    if (self->io != NULL)
        kl_ssh_transfer_close(self->io);
    self->io = NULL;
}

static int transfer_push(lua_State *L, kl_op *op)
{
    const transfer_op *self = (const transfer_op *)op;
    if (kl_failed(&self->failure))
        return kl_fail(L, &self->failure);
    lua_createtable(L, 0, 3);
    lua_pushinteger(L, (lua_Integer)self->result.bytes);
    lua_setfield(L, -2, "bytes");
    lua_pushinteger(L, (lua_Integer)self->result.resumed);
    lua_setfield(L, -2, "resumed");
    lua_pushstring(L, self->result.sha256);
    lua_setfield(L, -2, "sha256");
    return 1;
}

static const kl_op_class transfer_class = {"transfer", transfer_release, transfer_push,
                                           transfer_release};

static void transfer_done(void *ctx, const kl_ssh_transferred *result, const kl_failure *failure)
{
    transfer_op *self = ctx;
    self->io = NULL;
    if (failure != NULL)
        self->failure = *failure;
    else
        self->result = *result;
    kl_op_settle(&self->op);
}

// What Lua reads a transfer's progress from: it keeps the operation, not the other way round.
typedef struct transfer_progress {
    transfer_op *watched; // NULL: nothing yet, or closed
} transfer_progress;

static void progress_close(void *self)
{
    transfer_progress *progress = self;
    if (progress->watched != NULL)
        kl_op_drop(&progress->watched->op);
    progress->watched = NULL;
}

static int progress_read(lua_State *L);

static const luaL_Reg transfer_progress_methods[] = {{"read", progress_read}, {NULL, NULL}};

static const kl_own_class progress_class = {"rt.transfer.progress", transfer_progress_methods,
                                            progress_close};

static int progress_read(lua_State *L)
{
    const transfer_op *op =
        ((const transfer_progress *)kl_own_check(L, 1, &progress_class))->watched;
    uint64_t bytes = 0, total = 0;
    if (op != NULL && op->io != NULL)
        kl_ssh_transfer_progress(op->io, &bytes, &total);
    else if (op != NULL)
        bytes = total = op->result.bytes;
    lua_pushinteger(L, (lua_Integer)bytes);
    if (total == 0)
        return 1;
    lua_pushinteger(L, (lua_Integer)total);
    return 2;
}

static int transfer_new_progress(lua_State *L)
{
    kl_own_new(L, sizeof(transfer_progress), &progress_class);
    return 1;
}

static transfer_progress *read_progress(kl_opts *opts)
{
    transfer_progress *progress = NULL;
    if (kl_opts_value(opts, "progress") != LUA_TNIL) {
        progress = kl_own_check(opts->L, -1, &progress_class);
        luaL_argcheck(opts->L, progress->watched == NULL || progress->watched->io == NULL, 2,
                      "'progress' watches another transfer");
    }
    lua_pop(opts->L, 1);
    return progress;
}

static transfer_op *new_op(lua_State *L, transfer_progress *progress)
{
    transfer_op *self = kl_op_new(L, sizeof *self, &transfer_class);
    if (progress != NULL) {
        progress_close(progress);
        progress->watched = (transfer_op *)kl_op_hold(&self->op);
    }
    return self;
}

static int transfer_wait(lua_State *L, transfer_op *self)
{
    if (self->io == NULL)
        kl_op_settle(&self->op);
    return kl_op_wait(L, &self->op);
}

static double read_timeout(kl_opts *opts)
{
    lua_Number timeout = kl_opts_number(opts, "timeout", 600);
    luaL_argcheck(opts->L, timeout > 0 && timeout < 1e9, 2,
                  "option 'timeout' must be more than 0 seconds");
    return timeout;
}

static const char *need_target(kl_opts *opts)
{
    const char *target = kl_opts_need_string(opts, "target");
    size_t length = strlen(target);
    bool ends_in_slash = length > 1 && target[length - 1] == '/';
    luaL_argcheck(opts->L, length > 0 && length < 4096 && !ends_in_slash, 2,
                  "option 'target' must be a path that does not end in '/'");
    return target;
}

static void check_mode(lua_State *L, const char *mode)
{
    size_t length = strlen(mode);
    luaL_argcheck(L, length >= 3 && length <= 4 && strspn(mode, "01234567") == length, 2,
                  "option 'mode' must be three or four octal digits, like \"0644\"");
}

static int transfer_upload(lua_State *L)
{
    kl_ssh_session *session = kl_ssh_check(L, 1);
    luaL_checktype(L, 2, LUA_TTABLE);
    kl_ssh_upload upload = {0};
    kl_opts opts;
    kl_opts_begin(L, 2, &opts);
    upload.source = kl_opts_string(&opts, "source", NULL);
    upload.content = kl_opts_bytes(&opts, "content", &upload.length);
    luaL_argcheck(L, (upload.source == NULL) != (upload.content == NULL), 2,
                  "give either 'source' or 'content'");
    upload.target = need_target(&opts);
    upload.mode = kl_opts_string(&opts, "mode", "0644");
    check_mode(L, upload.mode);
    upload.resume = kl_opts_boolean(&opts, "resume", false);
    luaL_argcheck(L, !upload.resume || upload.source != NULL, 2, "option 'resume' needs 'source'");
    upload.owner = kl_opts_string(&opts, "owner", NULL);
    upload.timeout = read_timeout(&opts);
    transfer_progress *progress = read_progress(&opts);
    kl_opts_end(&opts);
    transfer_op *self = new_op(L, progress);
    self->io = kl_ssh_upload_file(session, &upload, transfer_done, self, &self->failure);
    return transfer_wait(L, self);
}

// Replacing /etc or /usr would end the machine, and no recipe means it.
static bool deep_enough(const char *target)
{
    if (target[0] != '/')
        return true;
    target += strspn(target, "/");
    target += strcspn(target, "/");
    target += strspn(target, "/");
    return *target != '\0' && strcmp(target, ".") != 0 && strcmp(target, "..") != 0;
}

static int transfer_upload_tree(lua_State *L)
{
    kl_ssh_session *session = kl_ssh_check(L, 1);
    luaL_checktype(L, 2, LUA_TTABLE);
    kl_ssh_upload upload = {0};
    kl_opts opts;
    kl_opts_begin(L, 2, &opts);
    upload.source = kl_opts_need_string(&opts, "source");
    upload.target = need_target(&opts);
    upload.owner = kl_opts_string(&opts, "owner", NULL);
    upload.replace = kl_opts_boolean(&opts, "replace", false);
    luaL_argcheck(L, !upload.replace || deep_enough(upload.target), 2,
                  "'replace' on a directory at the top of the file system");
    upload.timeout = read_timeout(&opts);
    transfer_progress *progress = read_progress(&opts);
    int exclude = kl_opts_table(&opts, "exclude") ? lua_gettop(L) : 0;
    kl_opts_end(&opts);
    if (exclude != 0)
        upload.exclude = kl_words_push(L, exclude, "every pattern of 'exclude'");
    transfer_op *self = new_op(L, progress);
    self->io = kl_ssh_upload_tree(session, &upload, transfer_done, self, &self->failure);
    return transfer_wait(L, self);
}

static int transfer_download(lua_State *L)
{
    kl_ssh_session *session = kl_ssh_check(L, 1);
    luaL_checktype(L, 2, LUA_TTABLE);
    kl_ssh_download download = {0};
    kl_opts opts;
    kl_opts_begin(L, 2, &opts);
    download.source = kl_opts_need_string(&opts, "source");
    download.target = need_target(&opts);
    download.mode = kl_opts_string(&opts, "mode", NULL);
    if (download.mode != NULL)
        check_mode(L, download.mode);
    download.resume = kl_opts_boolean(&opts, "resume", false);
    download.timeout = read_timeout(&opts);
    transfer_progress *progress = read_progress(&opts);
    kl_opts_end(&opts);
    transfer_op *self = new_op(L, progress);
    self->io = kl_ssh_download_file(session, &download, transfer_done, self, &self->failure);
    return transfer_wait(L, self);
}

static int transfer_download_tree(lua_State *L)
{
    kl_ssh_session *session = kl_ssh_check(L, 1);
    luaL_checktype(L, 2, LUA_TTABLE);
    kl_ssh_download download = {0};
    kl_opts opts;
    kl_opts_begin(L, 2, &opts);
    download.source = kl_opts_need_string(&opts, "source");
    download.target = need_target(&opts);
    download.replace = kl_opts_boolean(&opts, "replace", false);
    luaL_argcheck(L, !download.replace || deep_enough(download.target), 2,
                  "'replace' on a directory at the top of the file system");
    download.timeout = read_timeout(&opts);
    transfer_progress *progress = read_progress(&opts);
    int exclude = kl_opts_table(&opts, "exclude") ? lua_gettop(L) : 0;
    kl_opts_end(&opts);
    if (exclude != 0)
        download.exclude = kl_words_push(L, exclude, "every pattern of 'exclude'");
    transfer_op *self = new_op(L, progress);
    self->io = kl_ssh_download_tree(session, &download, transfer_done, self, &self->failure);
    return transfer_wait(L, self);
}

static const luaL_Reg transfer_functions[] = {{"upload", transfer_upload},
                                              {"upload_tree", transfer_upload_tree},
                                              {"download", transfer_download},
                                              {"download_tree", transfer_download_tree},
                                              {"progress", transfer_new_progress},
                                              {"digest", kl_transfer_digest},
                                              {NULL, NULL}};

KL_PRIM(transfer)
{
    luaL_newlib(L, transfer_functions);
    return 1;
}
