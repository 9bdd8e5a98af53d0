// A stopped machine's root, cleaned of what an image must not carry. It is the machine's own tree,
// so nothing of it is run, and no link in it leads out: we work with it as our root directory.
#include "io/machine.h"

#include "io/files.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *const removed[] = {
    "/var/lib/cloud/instance",
    "/var/lib/cloud/instances",
    "/var/lib/cloud/sem",
    "/var/lib/cloud/data",
    "/var/lib/cloud/seed",
    "/var/lib/cloud/scripts",
    "/var/lib/cloud/handlers",
    "/var/lib/kiln",
    "/var/log/cloud-init*.log",
    "/etc/ssh/ssh_host_*",
    "/root/.ssh/authorized_keys",
    "/root/.ssh/known_hosts",
    "/root/.bash_history",
    "/var/lib/systemd/random-seed",
    "/etc/hostname",
    "/etc/resolv.conf",
    "/var/lib/dhcp/*",
    "/var/lib/dbus/machine-id",
    "/var/cache/apt/archives/*.deb",
    "/var/log/journal/*",
    "/var/tmp/*",
    "/var/tmp/.[!.]*",
    "/tmp/*",
    "/tmp/.[!.]*",
};

// An empty machine-id gives every machine its own, without systemd's questions of a first boot
// (machine-id(5)); a missing one does not.
static const char *const emptied[] = {"/etc/machine-id", "/var/log/wtmp", "/var/log/btmp",
                                      "/var/log/lastlog"};

static bool remove_all(kl_failure *failure)
{
    bool ok = true;
    for (size_t i = 0; ok && i < sizeof removed / sizeof removed[0]; i++) {
        glob_t found = {0};
        if (glob(removed[i], 0, NULL, &found) == 0) {
            for (size_t j = 0; ok && j < found.gl_pathc; j++)
                ok = kl_files_remove(found.gl_pathv[j], true, failure);
        }
        globfree(&found);
    }
    return ok;
}

static bool empty_all(kl_failure *failure)
{
    for (size_t i = 0; i < sizeof emptied / sizeof emptied[0]; i++) {
        int fd =
            open(emptied[i],
                 O_WRONLY | O_TRUNC | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | (i == 0 ? O_CREAT : 0),
                 0444);
        if (fd >= 0) {
            close(fd);
        } else if (errno != ENOENT && errno != ELOOP) {
            kl_failure_errno(failure, errno, emptied[i]);
            return false;
        }
    }
    return true;
}

// In the child: in the user namespace, with the merged root as root directory.
static bool scrub(const kl_site *site, const char *root, const char *options, kl_failure *failure)
{
    const char *step = "the user namespace";
    bool ready = chdir(site->dir) == 0 && kl_enter(site->router, CLONE_NEWUSER) &&
                 unshare(CLONE_NEWNS) == 0 &&
                 mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
    if (ready) {
        step = "the machine's root";
        ready = mount("overlay", root, "overlay", 0, options) == 0 && chroot(root) == 0 &&
                chdir("/") == 0;
    }
    if (!ready) {
        kl_failure_errno(failure, errno, step);
        return false;
    }
    return remove_all(failure) && empty_all(failure);
}

// The mount ends with the child's namespace.
bool kl_scrub(const kl_site *site, const char *machine, const char *layers, kl_failure *failure)
{
    kl_buf options = {0}, words = {0};
    char root[PATH_MAX], block[512];
    int ends[2], status = 0;
    kl_buf_printf(&options,
                  "lowerdir=%s,upperdir=machines/%s/upper,workdir=machines/%s/work,userxattr",
                  layers, machine, machine);
    snprintf(root, sizeof root, "machines/%s/root", machine);
    pid_t pid = pipe2(ends, O_CLOEXEC) == 0 ? fork() : -1;
    if (pid == 0) {
        kl_failure local = {0};
        bool ok = scrub(site, root, kl_buf_text(&options), &local);
        if (!ok)
            dprintf(ends[1], "%s", local.message);
        _exit(ok ? 0 : 1);
    }
    kl_buf_free(&options);
    if (pid < 0) {
        kl_failure_errno(failure, errno, "cleaning");
        return false;
    }
    close(ends[1]);
    for (ssize_t got; (got = read(ends[0], block, sizeof block)) > 0;)
        kl_buf_append(&words, block, (size_t)got);
    close(ends[0]);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (status != 0)
        kl_failure_set(failure, "io", 0, "machine %s cannot be cleaned: %.300s", machine,
                       kl_buf_text(&words));
    kl_buf_free(&words);
    return status == 0;
}
