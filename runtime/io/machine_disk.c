// A machine's own disk, on root's sites: a file with holes of a fixed size, machines/NAME/disk,
// with an ext4 file system that holds the machine's layer (upper/ and work/). So a machine fills
// its disk and never the host's. A host without loop devices, and an ordinary user, who may not
// mount ext4, have the layer in machines/NAME itself, which has no bound.
//
// The file system is mounted nowhere: it is a descriptor, which the machine gets
// (machine_layers.c). When the last one that has it has ended, the kernel unmounts it and gives the
// loop device back. The file is locked that long, so it is never mounted twice.
#include "io/machine.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <linux/major.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static const char control[] = "/dev/loop-control";

bool kl_disk_possible(const kl_site *site, const char **why)
{
    *why = site->ordinary                      ? "an ordinary user may not mount a file system"
           : access(control, R_OK | W_OK) != 0 ? "this host has no /dev/loop-control"
           : !kl_command_exists("mkfs.ext4")   ? "this host has no mkfs.ext4 (e2fsprogs)"
                                               : NULL;
    return *why == NULL;
}

long long kl_disk_bytes(const kl_site *site, const char *wanted)
{
    struct statvfs host;
    long long most = 10LL << 30;
    if (wanted != NULL)
        return atoll(wanted);
    if (fstatvfs(site->fd, &host) != 0)
        return most;
    long long half = (long long)host.f_bavail * (long long)host.f_frsize / 2;
    return half < most ? half : most;
}

bool kl_disk_make(const kl_site *site, const char *name, const char *wanted, kl_failure *failure)
{
    char path[PATH_MAX];
    const char *why;
    if (!kl_disk_possible(site, &why))
        return true;
    kl_site_path(site, path, sizeof path, "machines/%s/disk", name);
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    bool ok = fd >= 0 && ftruncate(fd, (off_t)kl_disk_bytes(site, wanted)) == 0;
    if (!ok)
        kl_failure_errno(failure, errno, path);
    if (fd >= 0)
        close(fd);
    // The machine's root is not the host's: blocks that are kept for that one would be lost. The
    // journal is a hole, so it need not be written to be empty.
    char *const format[] = {
        "mkfs.ext4", "-q", "-F", "-m", "0", "-E", "nodiscard,lazy_journal_init=1", path, NULL};
    const kl_command command = {.argv = format};
    return ok && kl_command_run(&command, NULL, failure);
}

bool kl_disk_exists(const kl_site *site, const char *name)
{
    char path[PATH_MAX];
    kl_site_path(site, path, sizeof path, "machines/%s/disk", name);
    return access(path, F_OK) == 0;
}

// Waits for the end of whoever has the disk: a machine that was just switched off.
static bool lock(int fd)
{
    for (int tries = 0; flock(fd, LOCK_EX | LOCK_NB) != 0; tries++) {
        if (errno != EWOULDBLOCK || tries == 2000)
            return false;
        poll(NULL, 0, 10);
    }
    return true;
}

// A free loop device may be taken by somebody else before it is ours. Its node may be missing where
// /dev is not the kernel's own.
static int attach(int disk, char *device, size_t size)
{
    struct loop_config config = {.fd = (unsigned)disk,
                                 .info = {.lo_flags = LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO}};
    int loops = open(control, O_RDWR | O_CLOEXEC);
    int loop = -1;
    for (int tries = 0; loops >= 0 && loop < 0 && tries < 100; tries++) {
        int number = ioctl(loops, LOOP_CTL_GET_FREE);
        if (number < 0)
            break;
        snprintf(device, size, "/dev/loop%d", number);
        mknod(device, S_IFBLK | 0600, makedev(LOOP_MAJOR, (unsigned)number));
        loop = open(device, O_RDWR | O_CLOEXEC);
        if (loop >= 0 && ioctl(loop, LOOP_CONFIGURE, &config) != 0) {
            int problem = errno;
            close(loop);
            loop = -1;
            errno = problem;
        }
        if (loop < 0 && errno != EBUSY)
            break;
    }
    int problem = errno;
    if (loops >= 0)
        close(loops);
    errno = problem;
    return loop;
}

// What is deleted on the disk is given back to the host (discard). The tables of inodes are holes:
// the kernel need not write zeros there.
static int mount_ext4(const char *device)
{
    int fs = fsopen("ext4", FSOPEN_CLOEXEC);
    bool ok = fs >= 0 && fsconfig(fs, FSCONFIG_SET_STRING, "source", device, 0) == 0 &&
              fsconfig(fs, FSCONFIG_SET_FLAG, "discard", NULL, 0) == 0 &&
              fsconfig(fs, FSCONFIG_SET_FLAG, "noinit_itable", NULL, 0) == 0 &&
              fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0;
    int tree = ok ? fsmount(fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV) : -1;
    int problem = errno;
    if (fs >= 0)
        close(fs);
    errno = problem;
    return tree;
}

bool kl_disk_open(int *out, const kl_site *site, const char *name, kl_failure *failure)
{
    *out = -1;
    char path[PATH_MAX], device[32] = "a loop device", what[PATH_MAX + 64];
    kl_site_path(site, path, sizeof path, "machines/%s/disk", name);
    int disk = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    if (disk < 0 && errno == ENOENT)
        return true;
    int loop = disk >= 0 && lock(disk) ? attach(disk, device, sizeof device) : -1;
    int tree = loop >= 0 ? mount_ext4(device) : -1;
    if (tree < 0) {
        snprintf(what, sizeof what, "%s cannot be mounted by %s", path, device);
        kl_failure_errno(failure, errno, what);
    }
    if (loop >= 0)
        close(loop);
    if (disk >= 0)
        close(disk);
    *out = tree;
    return tree >= 0;
}

// In a child that is root of the ids of layers, in the folder to fill.
static bool copy(const void *ctx, kl_buf *out, kl_failure *failure)
{
    const int from = *(const int *)ctx;
    char command[160], text[400];
    (void)out;
    snprintf(command, sizeof command,
             "exec cp -dR --preserve=mode,ownership,timestamps,links,xattr "
             "/proc/self/fd/%d/upper/. . 2>&1",
             from);
    FILE *in = fcntl(from, F_SETFD, 0) == 0 ? popen(command, "re") : NULL;
    size_t length = in != NULL ? fread(text, 1, sizeof text - 1, in) : 0;
    text[length] = '\0';
    bool ok = in != NULL && pclose(in) == 0;
    if (!ok)
        kl_failure_set(failure, "io", 0, "the machine's layer cannot be copied: %s", text);
    return ok;
}

bool kl_layer_copy(const kl_site *site, const char *machine, const char *to, kl_failure *failure)
{
    struct stat ignored;
    int target = kl_site_folder(site->fd, to, &ignored, failure);
    int from = target >= 0 ? kl_layers_own(site, machine, failure) : -1;
    bool ok = from >= 0 && kl_inside(site, target, copy, &from, NULL, failure);
    if (from >= 0)
        close(from);
    if (target >= 0)
        close(target);
    return ok;
}
