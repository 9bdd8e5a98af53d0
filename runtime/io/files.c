// Files: whole reads, atomic writes, directories.
#include "io/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

static bool fail(kl_failure *failure, const char *verb, const char *path)
{
    int error = errno;
    char what[384];
    snprintf(what, sizeof what, "cannot %s %s", verb, path);
    kl_failure_errno(failure, error, what);
    return false;
}

static bool read_all(kl_buf *out, int fd, const char *path, size_t max, kl_failure *failure)
{
    size_t start = out->length;
    for (;;) {
        kl_buf_reserve(out, 65536);
        ssize_t got = read(fd, out->data + out->length, 65536);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return fail(failure, "read", path);
        if (got == 0)
            return true;
        out->length += (size_t)got;
        out->data[out->length] = '\0';
        if (out->length - start > max) {
            kl_failure_set(failure, "limit", 0, "cannot read %s: more than %zu bytes", path, max);
            return false;
        }
    }
}

bool kl_files_read(kl_buf *out, const char *path, size_t max, kl_failure *failure)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return fail(failure, "read", path);
    bool ok = read_all(out, fd, path, max, failure);
    close(fd);
    return ok;
}

static bool write_all(int fd, const char *bytes, size_t length)
{
    while (length > 0) {
        ssize_t put = write(fd, bytes, length);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return false;
        bytes += put;
        length -= (size_t)put;
    }
    return true;
}

// The length of the path up to and with its last slash; 0: it has none.
static size_t folder_length(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == NULL ? 0 : (size_t)(slash - path) + 1;
}

// Opens a new file beside `path`, hidden, with a name of its own that goes to `out_name`.
static int open_beside(kl_buf *out_name, const char *path)
{
    for (int attempt = 0; attempt < 16; attempt++) {
        uint64_t random;
        if (getrandom(&random, sizeof random, 0) != (ssize_t)sizeof random)
            return -1;
        size_t folder = folder_length(path);
        out_name->length = 0;
        kl_buf_append(out_name, path, folder);
        kl_buf_printf(out_name, ".%.64s.%016llx.tmp", path + folder, (unsigned long long)random);
        int fd = open(out_name->data, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd >= 0 || errno != EEXIST)
            return fd;
    }
    return -1;
}

// A name is durable only once its directory is.
static bool sync_folder(const char *path)
{
    size_t length = folder_length(path);
    char *folder = length == 0 ? strdup(".") : strndup(path, length);
    int fd = folder == NULL ? -1 : open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(folder);
    if (fd < 0)
        return errno == EACCES; // a directory one may write but not read cannot be synced
    bool ok = fsync(fd) == 0 || errno == EINVAL;
    close(fd);
    return ok;
}

static bool move_into_place(const char *from, const char *to, bool exclusive)
{
    if (!exclusive)
        return rename(from, to) == 0;
    if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0)
        return true;
    if (errno != EINVAL && errno != ENOSYS)
        return false;
    if (link(from, to) != 0) // file systems without that flag
        return false;
    unlink(from);
    return true;
}

static bool write_beside(const char *path, const void *bytes, size_t length, mode_t mode,
                         bool exclusive, kl_failure *failure)
{
    kl_buf name = {0};
    int fd = open_beside(&name, path);
    if (fd < 0) {
        fail(failure, "write", path);
        kl_buf_free(&name);
        return false;
    }
    bool ok = write_all(fd, bytes, length) && fchmod(fd, mode) == 0 && fsync(fd) == 0;
    int error = errno;
    close(fd);
    if (ok) {
        ok = move_into_place(name.data, path, exclusive);
        error = errno;
    }
    if (!ok) {
        unlink(name.data);
        errno = error;
    }
    kl_buf_free(&name);
    return (ok && sync_folder(path)) || fail(failure, "write", path);
}

static bool append_to(const char *path, const void *bytes, size_t length, mode_t mode,
                      kl_failure *failure)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, mode);
    if (fd < 0)
        return fail(failure, "append to", path);
    bool ok = write_all(fd, bytes, length) || fail(failure, "append to", path);
    close(fd);
    return ok;
}

bool kl_files_write(const char *path, const void *bytes, size_t length, mode_t mode,
                    kl_files_how how, kl_failure *failure)
{
    if (how == KL_FILES_APPEND)
        return append_to(path, bytes, length, mode, failure);
    struct stat there;
    if (lstat(path, &there) == 0 && !S_ISREG(there.st_mode) && !S_ISLNK(there.st_mode) &&
        how == KL_FILES_REPLACE) {
        kl_failure_set(failure, "invalid", 0, "cannot write %s: there is %s of that name", path,
                       S_ISDIR(there.st_mode) ? "a directory" : "a device, pipe or socket");
        return false;
    }
    return write_beside(path, bytes, length, mode, how == KL_FILES_EXCLUSIVE, failure);
}

static bool is_directory(const char *path)
{
    struct stat there;
    return stat(path, &there) == 0 && S_ISDIR(there.st_mode);
}

static bool make_parents(const char *path, kl_failure *failure)
{
    char *copy = strdup(path);
    if (copy == NULL)
        return fail(failure, "make directory", path);
    bool ok = true;
    for (char *slash = copy + 1; ok && slash[-1] != '\0'; slash++) {
        if (*slash != '/' || slash[-1] == '/')
            continue;
        *slash = '\0';
        ok = mkdir(copy, 0755) == 0 || is_directory(copy) || fail(failure, "make directory", copy);
        *slash = '/';
    }
    free(copy);
    return ok;
}

bool kl_files_mkdir(const char *path, mode_t mode, bool parents, kl_failure *failure)
{
    if (parents && is_directory(path))
        return true;
    if (path[0] != '\0' && parents && !make_parents(path, failure))
        return false;
    if (mkdir(path, mode) != 0)
        return (parents && errno == EEXIST && is_directory(path)) ||
               fail(failure, "make directory", path);
    return chmod(path, mode) == 0 || fail(failure, "make directory", path);
}

bool kl_files_sync_name(const char *path, kl_failure *failure)
{
    return sync_folder(path) || fail(failure, "make durable", path);
}

bool kl_files_temp_dir(kl_buf *out, kl_failure *failure)
{
    const char *base = getenv("TMPDIR");
    size_t start = out->length;
    kl_buf_printf(out, "%s/kiln-XXXXXX", base != NULL && base[0] != '\0' ? base : "/tmp");
    if (mkdtemp(out->data + start) == NULL)
        return fail(failure, "make a temporary directory in", base != NULL ? base : "/tmp");
    return true;
}
