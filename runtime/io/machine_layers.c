// The root of a machine: an overlay of its own layer over those of its image.
//
// A machine's own layer lies on a disk of its own where there can be one (machine_disk.c).
//
// Root's layers belong to one block of host ids, or to the range of before (machine.h), and each
// machine has a block of its own: they are mounted with their ids mapped (mount_setattr(2)), handed
// to the machine open, since it may not walk the way to them. An ordinary user's machines all have
// the ids of their layers.
#include "io/machine.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

// In the child: makes the namespace and keeps it until the helper closes its end of `go`, or dies.
static void keep_namespace(int ready, int go)
{
    char byte;
    bool kept = unshare(CLONE_NEWUSER) == 0 && write(ready, "", 1) == 1 && read(go, &byte, 1) == 0;
    _exit(kept ? 0 : 1);
}

// A user namespace that maps the ids of files to those of a machine: a name for the map, nobody
// lives in it.
static int map_namespace(unsigned files, unsigned machine, kl_failure *failure)
{
    char path[64], map[64], byte;
    int ready[2], go[2];
    if (pipe2(ready, O_CLOEXEC) != 0 || pipe2(go, O_CLOEXEC) != 0) {
        kl_failure_errno(failure, errno, "pipe");
        return -1;
    }
    pid_t pid = fork();
    if (pid == 0) {
        close(go[1]);
        keep_namespace(ready[1], go[0]);
    }
    close(ready[1]);
    close(go[0]);
    snprintf(map, sizeof map, "%u %u %d\n", files, machine, KL_IDS);
    int fd = -1;
    if (pid > 0 && read(ready[0], &byte, 1) == 1 && kl_ids_write_map(pid, map, failure)) {
        snprintf(path, sizeof path, "/proc/%d/ns/user", (int)pid);
        fd = open(path, O_RDONLY | O_CLOEXEC);
    }
    if (fd < 0 && !kl_failed(failure))
        kl_failure_errno(failure, errno, "a user namespace");
    close(ready[0]);
    close(go[1]);
    while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    return fd;
}

// A mount of its own of a folder of the site; for an ordinary user the folder.
static int clone_folder(const kl_site *site, const char *path, kl_failure *failure)
{
    struct stat ignored;
    int fd = kl_site_folder(site->fd, path, &ignored, failure);
    if (fd < 0 || site->ordinary)
        return fd;
    int tree = open_tree(fd, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
    if (tree < 0)
        kl_failure_errno(failure, errno, path);
    close(fd);
    return tree;
}

// Maps the ids of a mount that nobody has yet, of what lies in `folder`. Takes `tree`.
static int with_ids(const kl_site *site, int tree, const char *folder, unsigned first,
                    kl_failure *failure)
{
    unsigned files = 0;
    if (tree < 0 || site->ordinary)
        return tree;
    int map = kl_ids_of_folder(folder, &files, failure) ? map_namespace(files, first, failure) : -1;
    struct mount_attr attributes = {.attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (unsigned)map};
    bool ok =
        map >= 0 && mount_setattr(tree, "", AT_EMPTY_PATH, &attributes, sizeof attributes) == 0;
    if (map >= 0 && !ok) {
        char what[PATH_MAX + 96];
        snprintf(what, sizeof what,
                 "%s cannot be mounted with other ids (Linux 5.19 on ext4, xfs or btrfs can)",
                 folder);
        kl_failure_errno(failure, errno, what);
    }
    if (map >= 0)
        close(map);
    if (!ok)
        close(tree);
    return ok ? tree : -1;
}

int kl_layers_tree(const kl_site *site, const char *folder, const char *below, unsigned first,
                   kl_failure *failure)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s%s%s", folder, below[0] != '\0' ? "/" : "", below);
    return with_ids(site, clone_folder(site, path, failure), folder, first, failure);
}

int kl_layers_own(const kl_site *site, const char *machine, kl_failure *failure)
{
    char folder[300];
    int disk;
    snprintf(folder, sizeof folder, "machines/%s", machine);
    if (!kl_disk_open(&disk, site, machine, failure))
        return -1;
    return disk >= 0 ? disk : clone_folder(site, folder, failure);
}

// "images/a/fs:images/b/fs": each one open, and its place in the machine's own small folder.
static bool open_lowers(kl_layers *self, const kl_site *site, const char *layers, unsigned first,
                        int *used, kl_failure *failure)
{
    for (const char *at = layers; *at != '\0';) {
        size_t length = strcspn(at, ":");
        char folder[PATH_MAX];
        snprintf(folder, sizeof folder, "%.*s", (int)(length - strlen("/fs")), at);
        if (self->count == KL_LAYERS_MAX) {
            kl_failure_set(failure, "limit", 0, "an image of more than %d layers", KL_LAYERS_MAX);
            return false;
        }
        int tree = kl_layers_tree(site, folder, "fs", first, failure);
        if (tree < 0)
            return false;
        *used += snprintf(self->options + *used, sizeof self->options - (size_t)*used, "%sroot/%d",
                          self->count > 0 ? ":" : "", self->count);
        self->trees[self->count++] = tree;
        at += length + (at[length] == ':');
    }
    return true;
}

bool kl_layers_open(kl_layers *out, const kl_site *site, const char *machine, const char *layers,
                    unsigned first, int own, kl_failure *failure)
{
    char folder[300];
    int used = 0;
    *out = (kl_layers){.folder = -1, .own = -1};
    snprintf(folder, sizeof folder, "machines/%s", machine);
    if (site->ordinary) {
        if (own >= 0)
            close(own);
        used = snprintf(out->options, sizeof out->options,
                        "lowerdir=%s,upperdir=%s/upper,workdir=%s/work,userxattr", layers, folder,
                        folder);
        snprintf(out->root, sizeof out->root, "%s/root", folder);
        if (used > 0 && (size_t)used < sizeof out->options)
            return true;
        kl_failure_set(failure, "limit", 0, "an image of too many layers");
        return false;
    }
    struct stat ignored;
    used = snprintf(out->options, sizeof out->options, "lowerdir=");
    out->folder = kl_site_folder(site->fd, folder, &ignored, failure);
    if (own < 0 && out->folder >= 0)
        own = kl_layers_own(site, machine, failure);
    out->own = with_ids(site, own, folder, first, failure);
    bool ok =
        out->folder >= 0 && out->own >= 0 && open_lowers(out, site, layers, first, &used, failure);
    snprintf(out->options + used, sizeof out->options - (size_t)used,
             ",upperdir=root/own/upper,workdir=root/own/work,userxattr");
    snprintf(out->root, sizeof out->root, "root/root");
    if (!ok)
        kl_layers_close(out);
    return ok;
}

void kl_layers_close(kl_layers *self)
{
    for (int i = 0; i < self->count; i++)
        close(self->trees[i]);
    if (self->own >= 0)
        close(self->own);
    if (self->folder >= 0)
        close(self->folder);
    self->count = 0;
    self->own = self->folder = -1;
}

static bool place(int tree, const char *name)
{
    return mkdir(name, 0700) == 0 &&
           move_mount(tree, "", AT_FDCWD, name, MOVE_MOUNT_F_EMPTY_PATH) == 0;
}

const char *kl_layers_mount(const kl_layers *self)
{
    char name[16];
    // The working directory moves to the new mount namespace, a descriptor does not.
    if (self->folder >= 0 && fchdir(self->folder) != 0)
        return "its folder";
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
        return "a mount namespace";
    if (self->folder >= 0) {
        if (mount("tmpfs", "root", "tmpfs", 0, "mode=700,size=64k") != 0)
            return "a folder for layers";
        if (!place(self->own, "root/own") || mkdir(self->root, 0700) != 0)
            return "its own layer";
        for (int i = 0; i < self->count; i++) {
            snprintf(name, sizeof name, "root/%d", i);
            if (!place(self->trees[i], name))
                return "an image's layer";
        }
    }
    bool ok =
        mount("overlay", self->root, "overlay", 0, self->options) == 0 && chdir(self->root) == 0;
    return ok ? NULL : "the overlay";
}
