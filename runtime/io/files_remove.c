// Removing a tree by descriptors, so that a link put there meanwhile is removed, not followed.
#include "io/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

// So deep a folder lies below the first one when it is moved up into that, and removed from there:
// a tree of any depth takes this many descriptors and calls on the stack.
enum { LEVELS = 32 };

typedef struct removal {
    kl_buf path; // of what is being removed, for messages
    dev_t device;
    int top;        // the first folder
    unsigned moved; // folders so far that were moved up into it
    kl_failure *failure;
} removal;

static bool fail(removal *self, int error)
{
    char what[384];
    snprintf(what, sizeof what, "cannot remove %s", kl_buf_text(&self->path));
    kl_failure_errno(self->failure, error, what);
    return false;
}

static bool refuse(removal *self, const char *why)
{
    kl_failure_set(self->failure, "invalid", 0, "cannot remove %s: %s", kl_buf_text(&self->path),
                   why);
    return false;
}

static bool remove_entry(removal *self, int parent, const char *name, int depth);

// Removes what is in the folder. Takes `fd`.
static bool remove_contents(removal *self, int fd, int depth)
{
    DIR *directory = fdopendir(fd);
    if (directory == NULL) {
        int error = errno;
        close(fd);
        return fail(self, error);
    }
    bool ok = true;
    struct dirent *entry;
    while (ok && (errno = 0, entry = readdir(directory)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        size_t length = self->path.length;
        kl_buf_printf(&self->path, "/%s", entry->d_name);
        ok = remove_entry(self, fd, entry->d_name, depth + 1);
        if (ok) // else the path stays, for the message
            self->path.data[self->path.length = length] = '\0';
    }
    if (ok && errno != 0)
        ok = fail(self, errno);
    closedir(directory);
    return ok;
}

// Removes what is in the first folder, and what is moved up into it meanwhile. Takes `fd`.
static bool remove_top(removal *self, int fd)
{
    bool ok = true;
    unsigned before;
    self->top = fd;
    do {
        before = self->moved;
        int again = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        ok = again >= 0 ? remove_contents(self, again, 0) : fail(self, errno);
    } while (ok && self->moved != before);
    close(fd);
    return ok;
}

// Moves a folder up, beside those that the first folder has, for its next pass.
static bool move_up(removal *self, int parent, const char *name)
{
    char up[32];
    do {
        snprintf(up, sizeof up, ".removed-%u", self->moved++);
        if (renameat2(parent, name, self->top, up, RENAME_NOREPLACE) == 0)
            return true;
    } while (errno == EEXIST);
    return fail(self, errno);
}

static bool remove_directory(removal *self, int parent, const char *name, int depth)
{
    if (unlinkat(parent, name, AT_REMOVEDIR) == 0)
        return true;
    if (depth > LEVELS)
        return move_up(self, parent, name);
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return fail(self, errno);
    struct stat here;
    if (fstat(fd, &here) != 0 || (depth > 0 && here.st_dev != self->device)) {
        close(fd);
        return refuse(self, "another file system is mounted there");
    }
    self->device = here.st_dev;
    if (!(depth == 0 ? remove_top(self, fd) : remove_contents(self, fd, depth)))
        return false;
    return unlinkat(parent, name, AT_REMOVEDIR) == 0 || errno == ENOENT || fail(self, errno);
}

static bool remove_entry(removal *self, int parent, const char *name, int depth)
{
    if (unlinkat(parent, name, 0) == 0 || (depth > 0 && errno == ENOENT))
        return true;
    if (errno != EISDIR && errno != EPERM)
        return fail(self, errno);
    struct stat there;
    if (fstatat(parent, name, &there, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISDIR(there.st_mode))
        return fail(self, EPERM);
    return remove_directory(self, parent, name, depth);
}

static bool is_unsafe(const char *path)
{
    size_t length = strlen(path);
    while (length > 0 && path[length - 1] == '/')
        length--;
    if (length == 0)
        return true; // "" and "/"
    const char *last = path + length;
    while (last > path && last[-1] != '/')
        last--;
    size_t name = (size_t)(path + length - last);
    return (name == 1 && last[0] == '.') || (name == 2 && last[0] == '.' && last[1] == '.');
}

bool kl_files_remove(const char *path, bool recursive, kl_failure *failure)
{
    removal self = {.failure = failure};
    kl_buf_puts(&self.path, path);
    bool ok;
    if (is_unsafe(path))
        ok = refuse(&self, "name what to remove, not '/', '.' or '..'");
    else if (recursive)
        ok = remove_entry(&self, AT_FDCWD, path, 0);
    else
        ok = remove(path) == 0 || fail(&self, errno);
    kl_buf_free(&self.path);
    return ok;
}

void kl_files_remove_left(const char *target, bool (*is)(const char *rest),
                          void (*remove)(const char *path, const char *rest))
{
    const char *slash = strrchr(target, '/');
    const char *base = slash != NULL ? slash + 1 : target;
    size_t folder = (size_t)(base - target), length = strlen(base);
    kl_buf path = {0};
    kl_buf_append(&path, target, folder);
    kl_buf_puts(&path, folder == 0 ? "./" : "");
    folder = path.length;
    DIR *dir = opendir(kl_buf_text(&path));
    struct dirent *entry;
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        if (strncmp(entry->d_name, base, length) != 0 || !is(entry->d_name + length))
            continue;
        int fd = openat(dirfd(dir), entry->d_name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        if (fd < 0)
            continue;
        path.length = folder;
        kl_buf_puts(&path, entry->d_name);
        if (flock(fd, LOCK_EX | LOCK_NB) == 0)
            remove(path.data, path.data + folder + length);
        close(fd);
    }
    if (dir != NULL)
        closedir(dir);
    kl_buf_free(&path);
}
