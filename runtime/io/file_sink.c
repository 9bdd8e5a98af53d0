// A file that bytes arrive for, written by a thread and renamed into place.
#include "io/file_sink.h"

#include "base/buf.h"
#include "base/ending.h"
#include "io/files.h"
#include "io/sha256.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PART ".kiln-part-"
#define ENOUGH (1024 * 1024)
#define HOLE 4096
#define READ_SIZE (256 * 1024)

enum { LOCK_TRIES = 200, LOCK_PAUSE_NS = 10000000 }; // 2 s for one that was just given up

typedef enum sink_job { JOB_OPEN, JOB_WRITE, JOB_FINISH, JOB_NONE } sink_job;

struct kl_file_sink {
    uv_work_t work;
    uv_loop_t *loop;
    const kl_file_sink_events *events; // NULL: closed
    void *ctx;
    char *target; // owned, as are the next two
    char *path;   // the unfinished file
    char *sum;    // that it must have
    bool keep;
    bool passing;
    bool sparse;
    bool full;     // the writer waits for `drained`
    bool finished; // no more bytes come
    bool ended;    // `ended` was called
    uint64_t size;
    mode_t mode;
    int64_t changed;
    sink_job job;   // that runs
    kl_buf waiting; // bytes for the next job
    // The job's own while it runs:
    int fd;
    bool placed;
    uint64_t at; // bytes it has
    kl_buf bytes;
    kl_sha256 sha;
    kl_failure failure;
};

// Waits a little for a sink that was given up and still writes.
static bool lock(int fd)
{
    static const struct timespec pause = {.tv_nsec = LOCK_PAUSE_NS};
    for (int i = 0; i < LOCK_TRIES; i++) {
        if (flock(fd, LOCK_EX | LOCK_NB) == 0)
            return true;
        if (errno != EWOULDBLOCK && errno != EINTR)
            return false;
        nanosleep(&pause, NULL);
    }
    errno = EWOULDBLOCK;
    return false;
}

// Reads what is there, for its sum and its length.
static bool read_again(kl_file_sink *sink)
{
    char *bytes = malloc(READ_SIZE);
    if (bytes == NULL)
        kl_out_of_memory();
    ssize_t n;
    while ((n = read(sink->fd, bytes, READ_SIZE)) > 0 || (n < 0 && errno == EINTR)) {
        if (n < 0)
            continue;
        kl_sha256_add(&sink->sha, bytes, (size_t)n);
        sink->at += (uint64_t)n;
    }
    free(bytes);
    return n == 0;
}

// The one that ran before may have put the file that we opened in its place.
static bool still_beside(const kl_file_sink *sink)
{
    struct stat ours, there;
    return fstat(sink->fd, &ours) == 0 && lstat(sink->path, &there) == 0 &&
           ours.st_ino == there.st_ino && ours.st_dev == there.st_dev;
}

static bool open_part(kl_file_sink *sink)
{
    for (;;) {
        sink->fd = open(sink->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (sink->fd < 0)
            return false;
        bool locked = lock(sink->fd);
        if (locked && still_beside(sink))
            break;
        int error = errno;
        close(sink->fd);
        sink->fd = -1;
        errno = error;
        if (!locked)
            return false;
    }
    struct stat stat;
    kl_sha256_start(&sink->sha);
    if (fstat(sink->fd, &stat) != 0)
        return false;
    if ((uint64_t)stat.st_size > sink->size)
        return ftruncate(sink->fd, 0) == 0;
    return read_again(sink);
}

static bool write_some(int fd, const char *bytes, size_t length)
{
    while (length > 0) {
        ssize_t n = write(fd, bytes, length);
        if (n < 0 && errno != EINTR)
            return false;
        if (n > 0) {
            bytes += n;
            length -= (size_t)n;
        }
    }
    return true;
}

static bool is_zero(const char *bytes, size_t length)
{
    return bytes[0] == '\0' && memcmp(bytes, bytes + 1, length - 1) == 0;
}

// Leaves whole blocks of zeros out.
static bool write_sparse(kl_file_sink *sink)
{
    const char *bytes = sink->bytes.data;
    size_t left = sink->bytes.length;
    uint64_t at = sink->at;
    while (left > 0) {
        size_t length = HOLE - (size_t)(at % HOLE);
        if (length > left)
            length = left;
        if (is_zero(bytes, length) ? lseek(sink->fd, (off_t)length, SEEK_CUR) < 0
                                   : !write_some(sink->fd, bytes, length))
            return false;
        bytes += length;
        left -= length;
        at += length;
    }
    return true;
}

static bool write_bytes(kl_file_sink *sink)
{
    kl_sha256_add(&sink->sha, sink->bytes.data, sink->bytes.length);
    bool ok = sink->sparse ? write_sparse(sink)
                           : write_some(sink->fd, sink->bytes.data, sink->bytes.length);
    sink->at += sink->bytes.length;
    sink->bytes.length = 0;
    return ok;
}

static bool is_part(const char *rest)
{
    return strncmp(rest, PART, sizeof PART - 1) == 0;
}

static void remove_part(const char *path, const char *rest)
{
    (void)rest;
    unlink(path);
}

static bool place(kl_file_sink *sink)
{
    struct timespec times[2] = {{.tv_nsec = UTIME_NOW}, {.tv_sec = sink->changed}};
    char sum[65];
    kl_sha256_hex(&sink->sha, sum);
    if (strcmp(sum, sink->sum) != 0) {
        sink->keep = false;
        kl_failure_set(&sink->failure, "io", 0,
                       "the bytes that arrived have another sha256 than the file has there; it may "
                       "have changed meanwhile");
        return false;
    }
    if (ftruncate(sink->fd, (off_t)sink->at) != 0 || fchmod(sink->fd, sink->mode) != 0 ||
        futimens(sink->fd, times) != 0 || fsync(sink->fd) != 0 ||
        rename(sink->path, sink->target) != 0)
        return false;
    sink->placed = true;
    kl_files_remove_left(sink->target, is_part, remove_part);
    return kl_files_sync_name(sink->target, &sink->failure);
}

static void run_job(uv_work_t *work)
{
    kl_file_sink *sink = work->data;
    bool ok = sink->job == JOB_OPEN    ? open_part(sink)
              : sink->job == JOB_WRITE ? write_bytes(sink)
                                       : place(sink);
    if (!ok && !kl_failed(&sink->failure)) {
        if (sink->job == JOB_OPEN && errno == EWOULDBLOCK)
            kl_failure_set(&sink->failure, "exists", errno,
                           "%s: another download of it is under way", sink->target);
        else
            kl_failure_errno(&sink->failure, errno, sink->target);
    }
}

static void free_sink(kl_file_sink *sink)
{
    if (!sink->placed && !sink->keep && sink->fd >= 0)
        unlink(sink->path);
    if (sink->placed && sink->passing)
        unlink(sink->target);
    if (sink->fd >= 0)
        close(sink->fd); // after fsync: the file is whole, whatever this says
    free(sink->target);
    free(sink->path);
    free(sink->sum);
    kl_buf_free(&sink->waiting);
    kl_buf_free(&sink->bytes);
    kl_sha256_free(&sink->sha);
    free(sink);
}

static void job_done(uv_work_t *work, int status);

static void start_job(kl_file_sink *sink, sink_job job)
{
    sink->job = job;
    sink->work.data = sink;
    uv_queue_work(sink->loop, &sink->work, run_job, job_done);
}

static void next_job(kl_file_sink *sink)
{
    if (sink->job != JOB_NONE || sink->ended)
        return;
    if (sink->waiting.length > 0) {
        kl_buf bytes = sink->bytes;
        sink->bytes = sink->waiting;
        sink->waiting = bytes;
        start_job(sink, JOB_WRITE);
    } else if (sink->finished) {
        start_job(sink, JOB_FINISH);
    }
}

static void job_done(uv_work_t *work, int status)
{
    kl_file_sink *sink = work->data;
    sink_job job = sink->job;
    (void)status;
    sink->job = JOB_NONE;
    if (sink->events == NULL) {
        free_sink(sink);
        return;
    }
    if (kl_failed(&sink->failure) || job == JOB_FINISH) {
        sink->ended = true;
        sink->events->ended(sink->ctx, kl_failed(&sink->failure) ? &sink->failure : NULL);
        return;
    }
    uint64_t there = sink->at;
    next_job(sink);
    if (job == JOB_OPEN) {
        sink->events->opened(sink->ctx, there);
    } else if (sink->full) {
        sink->full = false;
        sink->events->drained(sink->ctx);
    }
}

kl_file_sink *kl_file_sink_open(uv_loop_t *loop, const kl_file_sink_options *options,
                                const kl_file_sink_events *events, void *ctx)
{
    kl_file_sink *sink = calloc(1, sizeof *sink);
    kl_buf path = {0};
    if (sink == NULL)
        kl_out_of_memory();
    kl_buf_printf(&path, "%s" PART "%s", options->target, options->name);
    sink->loop = loop;
    sink->events = events;
    sink->ctx = ctx;
    sink->target = kl_need(strdup(options->target));
    sink->path = path.data;
    sink->keep = options->keep;
    sink->passing = options->passing;
    sink->sparse = options->sparse;
    sink->size = options->size;
    sink->fd = -1;
    start_job(sink, JOB_OPEN);
    return sink;
}

bool kl_file_sink_write(kl_file_sink *sink, const char *bytes, size_t length)
{
    kl_buf_append(&sink->waiting, bytes, length);
    next_job(sink);
    sink->full = sink->full || sink->waiting.length >= ENOUGH;
    return !sink->full;
}

void kl_file_sink_finish(kl_file_sink *sink, const kl_file_sink_end *end)
{
    sink->sum = kl_need(strdup(end->sum));
    sink->mode = end->mode;
    sink->changed = end->changed;
    sink->finished = true;
    next_job(sink);
}

void kl_file_sink_close(kl_file_sink *sink)
{
    sink->events = NULL;
    if (!sink->keep && !sink->ended)
        unlink(sink->path); // at once, unless a job makes it anew
    if (sink->job == JOB_NONE)
        free_sink(sink);
    else
        uv_cancel((uv_req_t *)&sink->work); // if it has not begun
}
