// Uploads: a file or bytes, and a tree as one tar stream.
#include "io/ssh_transfer_internal.h"

#include "base/ending.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/tar_tree.h"

enum {
    SKIP_A_TURN = 16, // blocks of 32 KiB hashed in one turn of the loop
    ANSWER_MAX = 64   // bytes of what the host says
};

// A script that loses its connection reads an early end, fails, and removes what it wrote.
#define SCRIPT_START                                                                               \
    "set -eu\n"                                                                                    \
    "export LC_ALL=C\n"                                                                            \
    "trap '[ \"$keep\" = 1 ] || rm -rf -- \"$p\"' EXIT\n"                                          \
    "trap 'exit 1' HUP INT PIPE TERM\n"                                                            \
    "umask 022\n"                                                                                  \
    "case $t in */*) mkdir -p -- \"${t%/*}/\" ;; esac\n"

// The sum comes after the bytes, so that the file is read once here. To be resumed, what arrived
// stays when the connection ends, and the next upload is told how much of it there is; the sum
// decides whether it was worth keeping.
static const char file_script[] =
    "t=$1 size=$2 mode=$3 owner=$4 p=$1.$5 keep=$6 there=0\n" SCRIPT_START "umask 077\n"
    "if [ \"$keep\" = 1 ]; then\n"
    "  if [ -f \"$p\" ] && [ ! -L \"$p\" ] && [ -O \"$p\" ]\n"
    "  then there=$(stat -c %s -- \"$p\")\n"
    "  else rm -rf -- \"$p\"\n"
    "  fi\n"
    "  [ \"$there\" -le \"$size\" ] || { rm -f -- \"$p\"; there=0; }\n"
    "  echo \"$there\"\n"
    "fi\n"
    "head -c $((size - there)) >> \"$p\"\n"
    "read -r want\n"
    "[ -z \"$owner\" ] || chown -- \"$owner\" \"$p\"\n"
    "chmod -- \"$mode\" \"$p\"\n"
    "if command -v openssl > /dev/null\n" // ten times as fast
    "then have=$(openssl dgst -sha256 -r < \"$p\")\n"
    "else have=$(sha256sum < \"$p\")\n"
    "fi\n"
    "if [ \"${have%% *}\" != \"$want\" ]; then\n"
    "  keep=0\n"
    "  echo 'the bytes that arrived have another sha256' >&2\n"
    "  exit 80\n"
    "fi\n"
    "mv -fT -- \"$p\" \"$t\"\n"
    "[ \"$keep\" = 0 ] || rm -f -- \"$t\".kiln-part-*\n";

// A new tree is renamed into place. Into a directory that exists, its files are renamed one by one,
// so each is the old or the new one, and no second copy needs room: owner and mode of directories
// that are there stay, links to directories (/lib) are followed, nothing is deleted.
static const char tree_script[] =
    "t=$1 owner=$2 replace=$3 p=$1.$4 sums=$4 keep=0\n" SCRIPT_START "mkdir -m 0700 -- \"$p\"\n"
    "tar -x -p -o -f - -C \"$p\"\n"
    "if ! (cd -- \"$p\" && { [ ! -s \"$sums\" ] || sha256sum -c --quiet \"$sums\" >&2; }); then\n"
    "  echo 'the files that arrived have another sha256' >&2\n"
    "  exit 80\n"
    "fi\n"
    "rm -f -- \"$p/$sums\"\n"
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

typedef struct file_upload {
    kl_ssh_transfer transfer;
    int file; // -1: from `content`
    kl_buf content;
    size_t content_at;
    uint64_t size;
    uint64_t left;
    bool asks;     // the host says first how much it has
    kl_buf answer; // what it said
    uint64_t skip; // bytes that it has and that we have not read yet
    uint64_t resumed;
    kl_sha256 sha;
    char sum[66]; // hex and a newline, once known
    size_t sum_at;
} file_upload;

typedef struct tree_upload {
    kl_ssh_transfer transfer;
    kl_tar_tree *tree;
} tree_upload;

// Reads the next bytes of the source; 0 only when there are none although some are due.
static ssize_t read_source(file_upload *self, char *out, size_t size)
{
    if (size > self->left)
        size = (size_t)self->left;
    if (self->file >= 0)
        return read(self->file, out, size);
    memcpy(out, self->content.data + self->content_at, size);
    self->content_at += size;
    return (ssize_t)size;
}

// Reads, for the sum alone, some of what the host has already. False: `out_failure`.
static bool skip_some(file_upload *self, kl_failure *out_failure)
{
    char bytes[32768];
    for (int i = 0; i < SKIP_A_TURN && self->skip > 0; i++) {
        ssize_t n =
            read(self->file, bytes, self->skip < sizeof bytes ? (size_t)self->skip : sizeof bytes);
        if (n <= 0) {
            kl_failure_set(out_failure, "io", errno, "the source shrank while it was read");
            return false;
        }
        kl_sha256_add(&self->sha, bytes, (size_t)n);
        self->skip -= (uint64_t)n;
        self->left -= (uint64_t)n;
    }
    return true;
}

static bool file_data(kl_ssh_transfer *transfer, const char *bytes, size_t length,
                      kl_failure *out_failure)
{
    file_upload *self = (file_upload *)transfer;
    kl_buf_append(&self->answer, bytes, length < ANSWER_MAX ? length : ANSWER_MAX);
    const char *text = kl_buf_text(&self->answer);
    if (self->asks && strchr(text, '\n') == NULL && self->answer.length < ANSWER_MAX)
        return true;
    char *end = NULL;
    unsigned long long there = strtoull(text, &end, 10);
    if (!self->asks || end == text || *end != '\n' || there > self->size) {
        kl_failure_set(out_failure, "protocol", 0, "the host answered out of turn: %.100s", text);
        return false;
    }
    self->asks = false;
    self->skip = self->resumed = there;
    kl_ssh_channel_wake(transfer->channel);
    return true;
}

static ssize_t file_pull(kl_ssh_transfer *transfer, char *out, size_t size, kl_failure *out_failure)
{
    file_upload *self = (file_upload *)transfer;
    if (self->asks)
        return KL_SSH_LATER;
    if (self->skip > 0) {
        if (!skip_some(self, out_failure))
            return -1;
        kl_ssh_channel_wake(transfer->channel);
        return KL_SSH_LATER;
    }
    if (self->left > 0) {
        ssize_t n = read_source(self, out, size);
        if (n < 0)
            kl_failure_errno(out_failure, errno, "reading the source");
        else if (n == 0)
            kl_failure_set(out_failure, "io", 0, "the source shrank while it was read");
        if (n <= 0)
            return -1;
        kl_sha256_add(&self->sha, out, (size_t)n);
        self->left -= (uint64_t)n;
        return n;
    }
    if (self->sum[0] == '\0') {
        kl_sha256_hex(&self->sha, self->sum);
        self->sum[64] = '\n';
    }
    size_t rest = 65 - self->sum_at;
    if (rest > size)
        rest = size;
    memcpy(out, self->sum + self->sum_at, rest);
    self->sum_at += rest;
    return (ssize_t)rest;
}

static void file_finish(kl_ssh_transfer *transfer)
{
    const file_upload *self = (const file_upload *)transfer;
    kl_ssh_transferred result = {.bytes = self->size, .resumed = self->resumed};
    snprintf(result.sha256, sizeof result.sha256, "%.64s", self->sum);
    kl_ssh_transfer_end(transfer, &result);
}

static void file_progress(const kl_ssh_transfer *transfer, uint64_t *out_bytes, uint64_t *out_total)
{
    const file_upload *self = (const file_upload *)transfer;
    *out_bytes = self->size - self->left;
    *out_total = self->size;
}

static void file_free(kl_ssh_transfer *transfer)
{
    file_upload *self = (file_upload *)transfer;
    if (self->file >= 0)
        close(self->file);
    if (self->content.data != NULL)
        OPENSSL_cleanse(self->content.data, self->content.capacity);
    kl_buf_free(&self->content);
    kl_buf_free(&self->answer);
    kl_sha256_free(&self->sha);
}

static const kl_ssh_transfer_kind file_kind = {"upload to", file_pull,     file_data,
                                               file_finish, file_progress, file_free};

static bool open_source(file_upload *self, const char *source, kl_failure *out_failure)
{
    struct stat stat;
    self->file = open(source, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (self->file < 0 || fstat(self->file, &stat) != 0) {
        kl_failure_errno(out_failure, errno, source);
        return false;
    }
    if (!S_ISREG(stat.st_mode)) {
        kl_failure_set(out_failure, "invalid", 0, "%s is not a regular file%s", source,
                       S_ISDIR(stat.st_mode) ? "; a directory goes by upload_tree" : "");
        return false;
    }
    self->size = (uint64_t)stat.st_size;
    return true;
}

// A name beside the target: hidden from globs like *.conf, found by whoever cleans up.
static void name_beside(char out[32])
{
    char token[17];
    kl_ssh_transfer_token(token);
    snprintf(out, 32, "kiln-%s", token);
}

// A name beside the target that the next upload of the same file finds: by path, size and time.
static void name_to_resume(char out[32], const file_upload *self, const char *source)
{
    struct stat stat;
    char sum[65];
    kl_buf text = {0};
    char *path = realpath(source, NULL);
    kl_buf_puts(&text, path != NULL ? path : source);
    if (fstat(self->file, &stat) == 0)
        kl_buf_printf(&text, " %lld %lld.%09ld", (long long)stat.st_size,
                      (long long)stat.st_mtim.tv_sec, stat.st_mtim.tv_nsec);
    kl_sha256_of(text.data, text.length, sum);
    snprintf(out, 32, "kiln-part-%.16s", sum);
    kl_buf_free(&text);
    free(path);
}

kl_ssh_transfer *kl_ssh_upload_file(kl_ssh_session *session, const kl_ssh_upload *upload,
                                    kl_ssh_transfer_fn done, void *ctx, kl_failure *out_failure)
{
    file_upload *self = calloc(1, sizeof *self);
    if (self == NULL)
        kl_out_of_memory();
    self->transfer = (kl_ssh_transfer){.kind = &file_kind, .done = done, .ctx = ctx};
    self->file = -1;
    if (upload->source == NULL) {
        kl_buf_append(&self->content, upload->content, upload->length);
        self->size = upload->length;
    } else if (!open_source(self, upload->source, out_failure)) {
        kl_ssh_transfer_free(&self->transfer);
        return NULL;
    }
    self->left = self->size;
    kl_sha256_start(&self->sha);
    char size[24], beside[32];
    snprintf(size, sizeof size, "%llu", (unsigned long long)self->size);
    name_beside(beside);
    self->asks = upload->resume && self->file >= 0;
    if (self->asks)
        name_to_resume(beside, self, upload->source);
    const char *words[] = {upload->target,
                           size,
                           upload->mode,
                           upload->owner != NULL ? upload->owner : "",
                           beside,
                           self->asks ? "1" : "0",
                           NULL};
    return kl_ssh_transfer_start(&self->transfer, session, upload->target, file_script, words,
                                 upload->timeout, out_failure);
}

static ssize_t tree_pull(kl_ssh_transfer *transfer, char *out, size_t size, kl_failure *out_failure)
{
    return kl_tar_tree_read(((tree_upload *)transfer)->tree, out, size, out_failure);
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
    if (self->tree != NULL)
        kl_tar_tree_close(self->tree);
}

static const kl_ssh_transfer_kind tree_kind = {"upload of a tree to", tree_pull,     NULL,
                                               tree_finish,           tree_progress, tree_free};

kl_ssh_transfer *kl_ssh_upload_tree(kl_ssh_session *session, const kl_ssh_upload *upload,
                                    kl_ssh_transfer_fn done, void *ctx, kl_failure *out_failure)
{
    char beside[32];
    name_beside(beside);
    kl_tar_tree *tree = kl_tar_tree_open(upload->source, beside, upload->exclude, out_failure);
    if (tree == NULL)
        return NULL;
    tree_upload *self = calloc(1, sizeof *self);
    if (self == NULL)
        kl_out_of_memory();
    self->transfer = (kl_ssh_transfer){.kind = &tree_kind, .done = done, .ctx = ctx};
    self->tree = tree;
    const char *words[] = {upload->target, upload->owner != NULL ? upload->owner : "",
                           upload->replace ? "1" : "0", beside, NULL};
    return kl_ssh_transfer_start(&self->transfer, session, upload->target, tree_script, words,
                                 upload->timeout, out_failure);
}
