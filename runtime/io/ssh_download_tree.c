// Downloads of a tree: a tar stream of the host's, kept as a file until its sum is known, unpacked
// beside the target and renamed into place.
#include "io/ssh_transfer_internal.h"

#include "base/ending.h"
#include "io/file_sink.h"
#include "io/files.h"
#include "io/tar_unpack.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

// Beside the target: TARGET.kiln-TOKEN, the same with .tar, and with .old.
#define BESIDE ".kiln-"
#define ARCHIVE ".tar"
#define OLD ".old"
enum { TOKEN = 16 };

// The sum comes last on standard error, after a mark. Names are bytes in this format of tar's.
static const char script[] =
    "export LC_ALL=C\n"
    "[ -e \"$1\" ] || { echo 'no such directory on the host' >&2; exit 81; }\n"
    "[ -d \"$1\" ] || { echo 'not a directory' >&2; exit 82; }\n"
    "set -eu\n" KL_SUM "t=$1 mark=$2 packed=$3 d=\n"
    "shift 3\n"
    "trap '" KL_UNDISTURBED "[ -z \"$d\" ] || rm -rf -- \"$d\"' EXIT\n"
    "trap 'exit 1' HUP INT PIPE TERM\n"
    "umask 077\n"
    "mkdir -- \"${TMPDIR:-/tmp}/kiln-$mark\"\n"
    "d=${TMPDIR:-/tmp}/kiln-$mark\n"
    "mkfifo -- \"$d/pipe\"\n"
    // Opened here, both ends: who adds would wait for ever for a writer that does not come.
    "exec 3<> \"$d/pipe\" 4< \"$d/pipe\" 5> \"$d/pipe\" 3<&-\n"
    "{ exec 5>&-; sum; } <&4 > \"$d/sum\" &\n" // a function's own 5>&- would keep a copy
    "adder=$!\n"
    "exec 4<&-\n"
    "printf '\\n%s \\n' \"$mark\"\n"
    "stream() {\n"
    "  tar -C \"$t\" --format=gnu -S --no-wildcards-match-slash \"$@\" -cf - . ||\n"
    "    : > \"$d/failed\"\n"
    "}\n"
    "if [ -n \"$packed\" ]\n"
    "then stream \"$@\" | { gzip -1 || : > \"$d/failed\"; } | tee -- \"$d/pipe\"\n"
    "else stream \"$@\" | tee -- \"$d/pipe\"\n"
    "fi\n"
    "exec 5>&-\n"
    "wait \"$adder\"\n"
    "[ ! -e \"$d/failed\" ] || exit 1\n"
    "read -r sum rest < \"$d/sum\"\n"
    "printf '\\n%s %s\\n' \"$mark\" \"$sum\" >&2\n";

// What a thread does; it outlives a download that is given up.
typedef struct unpack_job {
    uv_work_t work;
    struct tree_download *owner; // NULL: given up
    kl_file_sink *sink;          // of the archive, which goes last: by it the rest is found
    char *target;
    char *archive;
    char *folder;
    char *old;
    bool replace;
    atomic_bool stop;
    uint64_t bytes;
    kl_failure failure;
} unpack_job;

typedef struct tree_download {
    kl_ssh_transfer transfer;
    uv_loop_t *loop;
    unpack_job *job;
    bool unpacks; // the job runs
    char mark[17];
    kl_buf head;
    bool begun;
    uint64_t bytes; // of the stream
    kl_file_sink *sink;
    char sum[65];
} tree_download;

// The new and the old change places, or one goes after the other where a file system cannot do
// that.
static bool swap_in(unpack_job *job)
{
    struct stat there;
    if (lstat(job->target, &there) != 0)
        return rename(job->folder, job->target) == 0;
    if (!job->replace) {
        errno = EEXIST;
        return false;
    }
    if (renameat2(AT_FDCWD, job->folder, AT_FDCWD, job->target, RENAME_EXCHANGE) == 0)
        return kl_files_remove(job->folder, true, &job->failure);
    if (errno != EINVAL && errno != ENOSYS)
        return false;
    if (rename(job->target, job->old) != 0)
        return false;
    if (rename(job->folder, job->target) != 0) {
        int error = errno;
        rename(job->old, job->target);
        errno = error;
        return false;
    }
    return kl_files_remove(job->old, true, &job->failure);
}

// ".kiln-TOKEN.tar", or what is to become that.
static bool is_archive(const char *rest)
{
    size_t at = sizeof BESIDE - 1;
    return strncmp(rest, BESIDE, at) == 0 && strspn(rest + at, "0123456789abcdef") == TOKEN &&
           strncmp(rest + at + TOKEN, ARCHIVE, sizeof ARCHIVE - 1) == 0;
}

// Of a download that was killed.
static void remove_left(const char *archive, const char *rest)
{
    int length = (int)(rest - archive) + (int)sizeof BESIDE - 1 + TOKEN;
    kl_failure ignored;
    kl_buf path = {0};
    kl_buf_printf(&path, "%.*s", length, archive);
    kl_files_remove(path.data, true, &ignored);
    kl_buf_puts(&path, OLD);
    kl_files_remove(path.data, true, &ignored);
    kl_buf_free(&path);
    unlink(archive);
}

static void run_job(uv_work_t *work)
{
    unpack_job *job = work->data;
    kl_failure ignored;
    bool ok = mkdir(job->folder, 0700) == 0;
    if (ok)
        ok = kl_tar_unpack(job->archive, job->folder, &job->stop, &job->bytes, &job->failure);
    ok = ok && !atomic_load(&job->stop) && swap_in(job);
    if (!ok && !kl_failed(&job->failure))
        kl_failure_errno(&job->failure, errno, job->target);
    kl_files_remove(job->folder, true, &ignored); // what failed; else it is gone
    (void)!truncate(job->archive, 0);             // its bytes go here; the loop closes it
    if (ok)
        kl_files_remove_left(job->target, is_archive, remove_left);
}

static void free_job(unpack_job *job)
{
    if (job->sink != NULL)
        kl_file_sink_close(job->sink);
    free(job->target);
    free(job->archive);
    free(job->folder);
    free(job->old);
    free(job);
}

static void job_done(uv_work_t *work, int status)
{
    (void)status;
    unpack_job *job = work->data;
    tree_download *self = job->owner;
    if (self == NULL) {
        free_job(job);
        return;
    }
    self->unpacks = false;
    if (kl_failed(&job->failure)) {
        kl_failure failure = job->failure;
        kl_ssh_transfer_fail(&self->transfer, &failure);
        return;
    }
    kl_ssh_transferred result = {.bytes = job->bytes};
    memcpy(result.sha256, self->sum, sizeof self->sum);
    kl_ssh_transfer_end(&self->transfer, &result);
}

static void sink_opened(void *ctx, uint64_t there)
{
    (void)ctx;
    (void)there;
}

static void sink_drained(void *ctx)
{
    tree_download *self = ctx;
    if (self->transfer.channel != NULL)
        kl_ssh_channel_pause(self->transfer.channel, false);
}

static void sink_ended(void *ctx, const kl_failure *failure)
{
    tree_download *self = ctx;
    if (failure != NULL) {
        kl_ssh_transfer_fail(&self->transfer, failure);
        return;
    }
    self->unpacks = true;
    self->job->work.data = self->job;
    uv_queue_work(self->loop, &self->job->work, run_job, job_done);
}

static const kl_file_sink_events sink_events = {sink_opened, sink_drained, sink_ended};

static bool tree_data(kl_ssh_transfer *transfer, const char *bytes, size_t length,
                      kl_failure *out_failure)
{
    tree_download *self = (tree_download *)transfer;
    if (!self->begun) {
        size_t before = self->head.length, after = 0;
        kl_buf_append(&self->head, bytes, length);
        if (kl_ssh_transfer_marked(&self->head, self->mark, &after) == NULL)
            return self->head.length <= KL_TRANSFER_NOISE || kl_ssh_transfer_noisy(out_failure);
        self->begun = true;
        bytes += after - before;
        length -= after - before;
        kl_ssh_transfer_widen(transfer);
    }
    self->bytes += length;
    if (length > 0 && !kl_file_sink_write(self->sink, bytes, length))
        kl_ssh_channel_pause(transfer->channel, true);
    return true;
}

static void tree_finish(kl_ssh_transfer *transfer)
{
    tree_download *self = (tree_download *)transfer;
    size_t after;
    const char *sum = kl_ssh_transfer_marked(&transfer->errors, self->mark, &after);
    if (!self->begun || sum == NULL || strlen(sum) != 64) {
        kl_failure failure;
        kl_failure_set(&failure, "protocol", 0, "the host's sum did not arrive");
        kl_ssh_transfer_fail(transfer, &failure);
        return;
    }
    memcpy(self->sum, sum, sizeof self->sum);
    kl_file_sink_end end = {.sum = self->sum, .mode = 0600};
    kl_file_sink_finish(self->sink, &end);
}

static void tree_progress(const kl_ssh_transfer *transfer, uint64_t *out_bytes, uint64_t *out_total)
{
    *out_bytes = ((const tree_download *)transfer)->bytes;
    *out_total = 0;
}

static void tree_free(kl_ssh_transfer *transfer)
{
    tree_download *self = (tree_download *)transfer;
    self->job->owner = NULL;
    self->job->sink = self->sink;
    atomic_store(&self->job->stop, true);
    if (self->unpacks)
        uv_cancel((uv_req_t *)&self->job->work); // if it has not begun
    else
        free_job(self->job);
    kl_buf_free(&self->head);
}

static const kl_ssh_transfer_kind tree_kind = {
    "download of a tree from", NULL, tree_data, tree_finish, tree_progress, tree_free};

// The patterns of an upload in tar's words; the list and its words are owned.
static char **tar_words(const kl_ssh_download *download, const char *mark, bool packed)
{
    size_t count = 0, at = 0;
    while (download->exclude != NULL && download->exclude[count] != NULL)
        count++;
    char **words = kl_need(calloc(2 * count + 4, sizeof *words));
    words[at++] = kl_need(strdup(download->source));
    words[at++] = kl_need(strdup(mark));
    words[at++] = kl_need(strdup(packed ? "1" : ""));
    for (size_t i = 0; i < count; i++) {
        const char *pattern = download->exclude[i] + (download->exclude[i][0] == '/');
        size_t length = strlen(pattern);
        if (length > 1 && pattern[length - 1] == '/')
            length--;
        bool anchored = pattern != download->exclude[i] || memchr(pattern, '/', length) != NULL;
        kl_buf word = {0};
        kl_buf_printf(&word, "--exclude=%s%.*s", anchored ? "./" : "", (int)length, pattern);
        words[at++] = kl_need(strdup(anchored ? "--anchored" : "--no-anchored"));
        words[at++] = word.data;
    }
    return words;
}

static char *beside(const char *target, const char *token, const char *suffix)
{
    kl_buf path = {0};
    kl_buf_printf(&path, "%s" BESIDE "%s%s", target, token, suffix);
    return path.data;
}

static tree_download *new_download(kl_ssh_session *session, const kl_ssh_download *download,
                                   kl_ssh_transfer_fn done, void *ctx)
{
    tree_download *self = kl_need(calloc(1, sizeof *self));
    unpack_job *job = kl_need(calloc(1, sizeof *job));
    char token[17];
    kl_ssh_transfer_token(token);
    *self = (tree_download){.transfer = {.kind = &tree_kind, .done = done, .ctx = ctx},
                            .loop = kl_ssh_session_loop(session),
                            .job = job};
    kl_ssh_transfer_token(self->mark);
    job->owner = self;
    job->target = kl_need(strdup(download->target));
    job->archive = beside(download->target, token, ARCHIVE);
    job->folder = beside(download->target, token, "");
    job->old = beside(download->target, token, OLD);
    job->replace = download->replace;
    kl_file_sink_options options = {
        .target = job->archive, .name = token, .passing = true, .size = UINT64_MAX};
    self->sink = kl_file_sink_open(self->loop, &options, &sink_events, self);
    return self;
}

kl_ssh_transfer *kl_ssh_download_tree(kl_ssh_session *session, const kl_ssh_download *download,
                                      kl_ssh_transfer_fn done, void *ctx, kl_failure *out_failure)
{
    struct stat there;
    if (!download->replace && lstat(download->target, &there) == 0) {
        kl_failure_errno(out_failure, EEXIST, download->target);
        return NULL;
    }
    tree_download *self = new_download(session, download, done, ctx);
    char **words =
        tar_words(download, self->mark, kl_ssh_session_round_trip(session) >= KL_PACKING_TRIP);
    kl_ssh_transfer *transfer =
        kl_ssh_transfer_start(&self->transfer, session, download->source, script,
                              (const char *const *)words, download->timeout, out_failure);
    for (char **word = words; *word != NULL; word++)
        free(*word);
    free(words);
    return transfer;
}
