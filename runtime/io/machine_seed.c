// What a machine finds on its disk beside its image: the seed of cloud-init's data source NoCloud,
// and its names and name server.
#include "io/machine.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

// Not synced: what the machine does with it, in its first second, is not either.
static bool upper_file(const kl_site *site, int own, const char *below, const char *text,
                       mode_t mode, kl_failure *failure)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "upper/%s", below);
    int fd = openat(own, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    size_t length = strlen(text);
    bool ok = fd >= 0 && write(fd, text, length) == (ssize_t)length && fchmod(fd, mode) == 0 &&
              fchown(fd, site->uid, site->gid) == 0;
    if (!ok)
        kl_failure_errno(failure, errno, path);
    if (fd >= 0)
        close(fd);
    return ok;
}

// NoCloud's seed: https://cloudinit.readthedocs.io/en/latest/reference/datasources/nocloud.html
bool kl_seed_write(const kl_site *site, int own, const kl_fields *request, kl_failure *failure)
{
    static const char *const folders[] = {"upper",
                                          "work",
                                          "upper/var",
                                          "upper/var/lib",
                                          "upper/var/lib/cloud",
                                          "upper/var/lib/cloud/seed",
                                          "upper/etc"};
    const char *name = kl_fields_get(request, "name");
    const char *user_data = kl_fields_get(request, "user_data");
    const char *token = kl_fields_get(request, "token");
    char text[512];
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) {
        if (!kl_site_own_folder(site, own, folders[i], 0755, true, failure))
            return false;
    }
    if (!kl_site_own_folder(site, own, "upper/var/lib/cloud/seed/nocloud", 0700, true, failure))
        return false;
    snprintf(text, sizeof text, "instance-id: %s\nlocal-hostname: %s\n",
             token != NULL ? token : name, name);
    if (!upper_file(site, own, "var/lib/cloud/seed/nocloud/meta-data", text, 0600, failure) ||
        !upper_file(site, own, "var/lib/cloud/seed/nocloud/user-data",
                    user_data != NULL ? user_data : "#cloud-config\n{}\n", 0600, failure))
        return false;
    snprintf(text, sizeof text, "nameserver 10.199.%d.53\n", site->block + 1);
    if (!kl_net_has_uplink(site))
        text[0] = '\0'; // one that does not answer holds programs up for seconds
    if (!upper_file(site, own, "etc/resolv.conf", text, 0644, failure))
        return false;
    snprintf(text, sizeof text, "127.0.0.1 localhost\n127.0.1.1 %s\n::1 localhost\n", name);
    return upper_file(site, own, "etc/hosts", text, 0644, failure);
}
