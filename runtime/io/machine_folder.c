// The folders of a site: whose they are, and how they are reached. The helper works in the site's
// folder (chdir), which it opened once, and no path below leads through a symbolic link.
//
// Root's images/ and machines/ are closed to all others, so what lies in them can belong to ids
// that somebody else might have. What lies directly in machines/NAME and images/NAME is root's; the
// layers upper/, work/ and fs/ belong to the ids of machines, which the file `ids` beside them
// names.
#include "io/machine.h"

#include "io/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

int kl_site_folder(int base, const char *path, struct stat *out, kl_failure *failure)
{
    const struct open_how how = {.flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
                                 .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS};
    int fd = (int)syscall(SYS_openat2, base, path, &how, sizeof how);
    if (fd >= 0 && fstat(fd, out) == 0)
        return fd;
    kl_failure_errno(failure, errno, path);
    if (fd >= 0)
        close(fd);
    return -1;
}

bool kl_site_own_folder(const kl_site *site, int base, const char *path, mode_t mode,
                        bool of_machine, kl_failure *failure)
{
    struct stat there;
    if (mkdirat(base, path, mode) != 0 && errno != EEXIST) {
        kl_failure_errno(failure, errno, path);
        return false;
    }
    int fd = kl_site_folder(base, path, &there, failure);
    if (fd < 0)
        return false;
    int open_fd = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool ok = open_fd >= 0 && fchmod(open_fd, mode) == 0 &&
              fchown(open_fd, of_machine ? site->uid : geteuid(),
                     of_machine ? site->gid : getegid()) == 0;
    if (!ok)
        kl_failure_errno(failure, errno, path);
    if (open_fd >= 0)
        close(open_fd);
    close(fd);
    return ok;
}

bool kl_ids_of_folder(const char *folder, unsigned *out, kl_failure *failure)
{
    char path[PATH_MAX + 8];
    kl_buf text = {0};
    kl_failure local = {0};
    snprintf(path, sizeof path, "%s/ids", folder);
    bool old = !kl_files_read(&text, path, 32, &local) && strcmp(local.kind, "not_found") == 0;
    *out = old ? KL_IDS_BEFORE : (unsigned)strtoul(kl_buf_text(&text), NULL, 10);
    bool ok = old || (!kl_failed(&local) && kl_range_is_ours(*out));
    if (!ok)
        kl_failure_set(failure, "invalid", 0, "%s does not name a block of machines' ids", path);
    kl_buf_free(&text);
    return ok;
}

bool kl_ids_note(const kl_site *site, const char *folder, unsigned first, kl_failure *failure)
{
    char path[PATH_MAX + 8], text[16];
    if (site->ordinary)
        return true;
    snprintf(path, sizeof path, "%s/ids", folder);
    int length = snprintf(text, sizeof text, "%u", first);
    return kl_files_write(path, text, (size_t)length, 0600, KL_FILES_REPLACE, failure);
}

typedef bool entry_fn(int folder, const char *name);

static bool each_entry(int folder, entry_fn *what)
{
    int fd = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    bool ok = dir != NULL;
    for (struct dirent *entry; ok && (entry = readdir(dir)) != NULL;) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            ok = what(folder, entry->d_name);
    }
    if (dir != NULL)
        closedir(dir);
    return ok;
}

// In machines/NAME or images/NAME: a layer stays as it is, a file stays if it is root's alone.
static bool settle_entry(int folder, const char *name)
{
    struct stat there;
    return fstatat(folder, name, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
           (S_ISDIR(there.st_mode) ||
            (S_ISREG(there.st_mode) && there.st_uid == 0 && there.st_nlink == 1) ||
            unlinkat(folder, name, 0) == 0);
}

// In machines/ or images/: what is no folder is nothing of ours.
static bool settle_folder(int parent, const char *name)
{
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return (errno == ENOTDIR || errno == ELOOP) && unlinkat(parent, name, 0) == 0;
    bool ok = fchown(fd, 0, 0) == 0 && fchmod(fd, 0755) == 0 && each_entry(fd, settle_entry);
    close(fd);
    return ok;
}

// Takes the folder over from the ids of before, which an ordinary user may have: nothing in it is
// believed that only such a user could have put there. Its mode is 0 until that is done.
static bool settle(int fd)
{
    return fchown(fd, 0, 0) == 0 && fchmod(fd, 0) == 0 && each_entry(fd, settle_folder);
}

bool kl_site_make_folder(const kl_site *site, const char *name, kl_failure *failure)
{
    struct stat there = {0};
    bool ok = mkdirat(site->fd, name, 0700) == 0 || errno == EEXIST;
    int fd = ok ? openat(site->fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
    ok = fd >= 0 && fstat(fd, &there) == 0;
    if (ok && there.st_uid != geteuid() && there.st_uid != KL_IDS_BEFORE) {
        kl_failure_set(failure, "denied", 0, "%s/%s belongs to the user %u", site->dir, name,
                       (unsigned)there.st_uid);
        close(fd);
        return false;
    }
    if (ok && !site->ordinary && (there.st_uid != 0 || (there.st_mode & 0777) == 0))
        ok = settle(fd);
    ok = ok && fchmod(fd, 0700) == 0;
    if (!ok)
        kl_failure_errno(failure, errno, name);
    if (fd >= 0)
        close(fd);
    return ok;
}
