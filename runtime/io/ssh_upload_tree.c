// Uploads of a tree, as one tar stream.
#include "io/ssh_transfer_internal.h"

#include "base/ending.h"

#include <stdio.h>
#include <stdlib.h>

#include "io/gzip.h"
#include "io/tar_tree.h"

#define WORTH_PACKING (64 * 1024) // bytes

// A new tree is renamed into place. Into a directory that exists, its files are renamed one by one,
// so each is the old or the new one, and no second copy needs room: owner and mode of directories
// that are there stay, links to directories (/lib) are followed, nothing is deleted.
// Names that sha256sum escapes are left to it; else openssl is asked, which takes a third of the
// time.
static const char tree_script[] =
    "t=$1 owner=$2 replace=$3 p=$1.$4 sums=$4 packed=$5 keep=0\n" KL_UPLOAD_START
    "mkdir -m 0700 -- \"$p\"\n"
    "tar -x ${packed:+-z} -p -o -f - -C \"$p\"\n"
    "same() {\n"
    "  cd -- \"$p\" || return\n"
    "  [ -s \"$sums\" ] || return 0\n"
    "  if ! command -v openssl > /dev/null || grep -q '^\\\\' -- \"$sums\"\n"
    "  then sha256sum -c --quiet -- \"$sums\"; return; fi\n"
    "  cut -c67- -- \"$sums\" | tr '\\n' '\\0' | xargs -0 openssl dgst -sha256 -r |\n"
    "    cut -c1-64 > \"$sums.there\"\n"
    "  cut -c1-64 -- \"$sums\" | cmp -s - \"$sums.there\"\n"
    "}\n"
    "if ! (same >&2); then\n"
    "  echo 'the files that arrived have another sha256' >&2\n"
    "  exit 80\n"
    "fi\n"
    "rm -f -- \"$p/$sums\" \"$p/$sums.there\"\n"
    "[ -z \"$owner\" ] || chown -R -h -- \"$owner\" \"$p\"\n"
    "if [ \"$replace\" = 1 ] && { [ -e \"$t\" ] || [ -L \"$t\" ]; }; then\n"
    "  mv -T -- \"$t\" \"$p.old\"\n"
    "  mv -T -- \"$p\" \"$t\" || { mv -T -- \"$p.old\" \"$t\"; exit 1; }\n"
    "  rm -rf -- \"$p.old\"\n"
    "elif [ -d \"$t\" ]; then\n"
    "  find \"$p/.\" -type d ! -perm -u=rwx -exec chmod u+rwx {} +\n"
    "  (cd -- \"$p\" && find . -type d -print0) |\n"
    "    tar -C \"$p\" -c --null --no-recursion -T - -f - |\n"
    "    tar -x -p --keep-directory-symlink --no-overwrite-dir -f - -C \"$t\"\n"
    "  case $t in /*) ;; *) t=$PWD/$t ;; esac\n"
    "  export t\n"
    "  (cd -- \"$p\" && find . -type d -print0 | xargs -0 sh -c 'for d; do\n"
    "    find \"$d\" -mindepth 1 -maxdepth 1 ! -type d -exec mv -f -t \"$t/$d\" -- {} + ||\n"
    "      exit 1\n"
    "  done' sh)\n"
    "else\n"
    "  mv -T -- \"$p\" \"$t\"\n"
    "fi\n";

typedef struct tree_upload {
    kl_ssh_transfer transfer;
    kl_tar_tree *tree;
    kl_gzip *gzip; // NULL: it travels as it is
} tree_upload;

static ssize_t read_tree(void *tree, char *out, size_t size, kl_failure *out_failure)
{
    return kl_tar_tree_read(tree, out, size, out_failure);
}

static ssize_t tree_pull(kl_ssh_transfer *transfer, char *out, size_t size, kl_failure *out_failure)
{
    const tree_upload *self = (const tree_upload *)transfer;
    return self->gzip != NULL ? kl_gzip_read(self->gzip, out, size, out_failure)
                              : kl_tar_tree_read(self->tree, out, size, out_failure);
}

static void tree_finish(kl_ssh_transfer *transfer)
{
    const tree_upload *self = (const tree_upload *)transfer;
    kl_ssh_transferred result = {.bytes = kl_tar_tree_bytes(self->tree)};
    kl_tar_tree_digest(self->tree, result.sha256);
    kl_ssh_transfer_end(transfer, &result);
}

static void tree_progress(const kl_ssh_transfer *transfer, uint64_t *out_bytes, uint64_t *out_total)
{
    const tree_upload *self = (const tree_upload *)transfer;
    *out_bytes = kl_tar_tree_bytes(self->tree);
    *out_total = kl_tar_tree_total(self->tree);
}

static void tree_free(kl_ssh_transfer *transfer)
{
    tree_upload *self = (tree_upload *)transfer;
    if (self->gzip != NULL)
        kl_gzip_close(self->gzip);
    kl_tar_tree_close(self->tree);
}

static const kl_ssh_transfer_kind tree_kind = {"upload of a tree to", tree_pull,     NULL,
                                               tree_finish,           tree_progress, tree_free};

kl_ssh_transfer *kl_ssh_upload_tree(kl_ssh_session *session, const kl_ssh_upload *upload,
                                    kl_ssh_transfer_fn done, void *ctx, kl_failure *out_failure)
{
    char token[17], beside[32];
    kl_ssh_transfer_token(token);
    snprintf(beside, sizeof beside, "kiln-%s", token);
    kl_tar_tree *tree = kl_tar_tree_open(upload->source, beside, upload->exclude, out_failure);
    if (tree == NULL)
        return NULL;
    tree_upload *self = calloc(1, sizeof *self);
    if (self == NULL)
        kl_out_of_memory();
    self->transfer = (kl_ssh_transfer){.kind = &tree_kind, .done = done, .ctx = ctx};
    self->tree = tree;
    if (kl_ssh_session_round_trip(session) >= KL_PACKING_TRIP &&
        kl_tar_tree_total(tree) >= WORTH_PACKING)
        self->gzip = kl_gzip_open(read_tree, tree);
    const char *words[] = {upload->target,
                           upload->owner != NULL ? upload->owner : "",
                           upload->replace ? "1" : "0",
                           beside,
                           self->gzip != NULL ? "1" : "",
                           NULL};
    return kl_ssh_transfer_start(&self->transfer, session, upload->target, tree_script, words,
                                 upload->timeout, out_failure);
}
