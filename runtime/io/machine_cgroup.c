// Control groups of machines: membership and killing. Works beside systemd and without it, on
// unified and on hybrid hosts: only the cgroup2 hierarchy is used, and no controller of it.
#include "io/machine.h"

#include "io/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#define CGROUP2_MAGIC 0x63677270

static bool is_cgroup2(const char *path)
{
    struct statfs fs;
    return statfs(path, &fs) == 0 && fs.f_type == CGROUP2_MAGIC;
}

const char *kl_cgroup_hierarchy(void)
{
    static const char own[] = "/run/kiln/cgroup";
    if (is_cgroup2("/sys/fs/cgroup"))
        return "/sys/fs/cgroup";
    if (is_cgroup2("/sys/fs/cgroup/unified"))
        return "/sys/fs/cgroup/unified";
    if (is_cgroup2(own))
        return own;
    mkdir("/run/kiln", 0755);
    mkdir(own, 0755);
    return mount("none", own, "cgroup2", 0, NULL) == 0 ? own : NULL;
}

bool kl_cgroup_path(char *out, size_t size, const kl_site *site, const char *name)
{
    if (site->group[0] != '\0')
        snprintf(out, size, "%s%s%s", site->group, name[0] != '\0' ? "/" : "", name);
    return site->group[0] != '\0';
}

static bool make_one(const char *path, kl_failure *failure)
{
    if (mkdir(path, 0755) == 0 || errno == EEXIST)
        return true;
    kl_failure_errno(failure, errno, path);
    return false;
}

bool kl_cgroup_make(char *out, size_t size, const kl_site *site, const char *name,
                    kl_failure *failure)
{
    if (!kl_cgroup_path(out, size, site, "")) {
        kl_failure_set(failure, "unsupported", 0, "the site has no control group");
        return false;
    }
    if (!make_one(out, failure))
        return false;
    for (const char *slash = name; slash != NULL; slash = strchr(slash + 1, '/')) {
        const char *end = strchr(slash + 1, '/');
        char part[256];
        snprintf(part, sizeof part, "%.*s", (int)(end != NULL ? end - name : 255), name);
        if (!kl_cgroup_path(out, size, site, part) || !make_one(out, failure))
            return false;
        if (end == NULL)
            break;
    }
    return true;
}

bool kl_cgroup_populated(const char *path)
{
    char file[PATH_MAX + 32], text[256] = "";
    snprintf(file, sizeof file, "%s/cgroup.events", path);
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t got = read(fd, text, sizeof text - 1);
    close(fd);
    return got > 0 && strstr(text, "populated 1") != NULL;
}

static double now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

bool kl_cgroup_wait_empty(const char *path, double seconds)
{
    char file[PATH_MAX + 32], text[256];
    snprintf(file, sizeof file, "%s/cgroup.events", path);
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return true; // no group, nothing in it
    double deadline = now() + seconds;
    bool empty = false;
    while (!empty) {
        ssize_t got = pread(fd, text, sizeof text - 1, 0);
        text[got > 0 ? got : 0] = '\0';
        empty = strstr(text, "populated 1") == NULL;
        double left = deadline - now();
        if (empty || left <= 0)
            break;
        struct pollfd wait = {.fd = fd, .events = POLLPRI}; // cgroup.events tells changes so
        poll(&wait, 1, (int)(left * 1000) + 1);
    }
    close(fd);
    return empty;
}

typedef struct inner {
    char name[NAME_MAX + 1];
    bool left;    // there is one that cannot be removed yet: `name`
    bool removed; // others were
} inner;

// Removes the groups within this one, until one has groups or processes of its own.
static inner remove_leaves(int group)
{
    inner found = {0};
    int fd = openat(group, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    for (struct dirent *entry; dir != NULL && !found.left && (entry = readdir(dir)) != NULL;) {
        if (entry->d_type != DT_DIR || entry->d_name[0] == '.')
            continue;
        found.left = unlinkat(group, entry->d_name, AT_REMOVEDIR) != 0 && errno != ENOENT;
        found.removed = found.removed || !found.left;
        snprintf(found.name, sizeof found.name, "%s", entry->d_name);
    }
    if (dir != NULL)
        closedir(dir);
    else if (fd >= 0)
        close(fd);
    return found;
}

// Removes the groups within one without processes, the inner ones first: down by their names, up by
// "..", with one descriptor. (A group is never moved into another, so ".." is where we came from.)
// The kernel holds a group for a moment whose last process has just ended. Takes `group`.
static bool remove_inner(int group)
{
    int depth = 0, tries = 500;
    bool came_down = false;
    while (group >= 0 && tries > 0) {
        inner found = remove_leaves(group);
        if (!found.left && depth == 0)
            break;
        if (came_down && !found.left && !found.removed) {
            poll(NULL, 0, 10);
            tries--;
        }
        int next = openat(group, found.left ? found.name : "..",
                          O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (next < 0 && errno == ENOENT && found.left)
            continue;
        came_down = found.left;
        depth += found.left ? 1 : -1;
        close(group);
        group = next;
    }
    if (group >= 0)
        close(group);
    errno = EBUSY;
    return group >= 0 && tries > 0;
}

static bool remove_group(const char *path, kl_failure *failure)
{
    int group = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (group < 0 && errno == ENOENT)
        return true;
    if (group >= 0 && remove_inner(group) && (rmdir(path) == 0 || errno == ENOENT))
        return true;
    kl_failure_errno(failure, errno, path);
    return false;
}

bool kl_cgroup_destroy(const char *path, kl_failure *failure)
{
    char file[PATH_MAX + 32];
    snprintf(file, sizeof file, "%s/cgroup.kill", path);
    int fd = open(file, O_WRONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT && access(path, F_OK) != 0)
        return true;
    bool killed = fd >= 0 && write(fd, "1", 1) == 1;
    if (fd >= 0)
        close(fd);
    if (!killed) {
        kl_failure_errno(failure, errno, file);
        return false;
    }
    if (!kl_cgroup_wait_empty(path, 20)) {
        kl_failure_set(failure, "timeout", 0, "processes in %s do not end", path);
        return false;
    }
    return remove_group(path, failure);
}

bool kl_cgroup_limit(const char *group, const char *file, const char *value, kl_failure *failure)
{
    char path[PATH_MAX + 64];
    snprintf(path, sizeof path, "%s/%s", group, file);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool ok = fd >= 0 && write(fd, value, strlen(value)) == (ssize_t)strlen(value);
    if (!ok)
        kl_failure_errno(failure, errno, path);
    if (fd >= 0)
        close(fd);
    return ok;
}
