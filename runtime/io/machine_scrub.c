// A stopped machine's root, cleaned of what an image must not carry. It is the machine's own tree,
// so nothing of it is run, and no link in it leads out: we work with it as our root directory.
#include "io/machine.h"

#include "io/files.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
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

// The mount ends with the process.
static bool scrub(const void *ctx, kl_buf *out, kl_failure *failure)
{
    (void)out;
    const char *failed = kl_layers_mount(ctx);
    if (failed != NULL || chroot(".") != 0) {
        kl_failure_errno(failure, errno, failed != NULL ? failed : "the machine's root");
        return false;
    }
    return remove_all(failure) && empty_all(failure);
}

bool kl_scrub(const kl_site *site, const char *machine, const char *layers, kl_failure *failure)
{
    kl_failure local = {0};
    kl_layers tree;
    bool ok = kl_layers_open(&tree, site, machine, layers, (unsigned)site->uid, -1, &local) &&
              kl_inside(site, site->fd, scrub, &tree, NULL, &local);
    kl_layers_close(&tree);
    if (!ok)
        kl_failure_set(failure, "io", local.code, "machine %s cannot be cleaned: %.300s", machine,
                       local.message);
    return ok;
}
