// The memory that a machine of root may take, bounded by the host's control groups: in version 2 by
// the machine's own group, in version 1 by one in the hierarchy of the memory controller. A host
// that has neither bounds it by nothing.
#include "io/machine.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define CGROUP1_MAGIC 0x27e0eb
static const char hierarchy[] = "/sys/fs/cgroup/memory"; // of version 1

static bool has_version_1(const kl_site *site)
{
    struct statfs fs;
    return !site->ordinary && statfs(hierarchy, &fs) == 0 && fs.f_type == CGROUP1_MAGIC;
}

static void path_of(char *out, size_t size, const kl_site *site, const char *name)
{
    snprintf(out, size, "%s/kiln.%s%s%s", hierarchy, site->tag, name[0] != '\0' ? "/" : "", name);
}

long long kl_memory_bytes(const char *wanted)
{
    long long half = (long long)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE) / 2;
    long long most = 4LL << 30;
    return wanted != NULL ? atoll(wanted) : half < most ? half : most;
}

static bool bound_version_2(const kl_site *site, const char *group, const char *bytes)
{
    char path[PATH_MAX];
    kl_failure none = {0}; // without the controller there is no such file
    const char *base = kl_cgroup_hierarchy();
    if (base == NULL || !kl_cgroup_path(path, sizeof path, site, ""))
        return false;
    kl_cgroup_limit(base, "cgroup.subtree_control", "+memory", &none);
    return kl_cgroup_limit(path, "cgroup.subtree_control", "+memory", &none) &&
           kl_cgroup_limit(group, "memory.max", bytes, &none);
}

bool kl_memory_bound(const kl_site *site, const char *name, const char *wanted, int *out,
                     kl_failure *failure)
{
    char path[PATH_MAX], group[PATH_MAX], bytes[32];
    *out = -1;
    snprintf(bytes, sizeof bytes, "%lld", kl_memory_bytes(wanted));
    if (!has_version_1(site)) {
        if (kl_cgroup_path(group, sizeof group, site, name))
            bound_version_2(site, group, bytes);
        return true;
    }
    path_of(path, sizeof path, site, "");
    bool ok = mkdir(path, 0755) == 0 || errno == EEXIST;
    path_of(path, sizeof path, site, name);
    ok = ok && (mkdir(path, 0755) == 0 || errno == EEXIST);
    if (!ok) {
        kl_failure_errno(failure, errno, path);
        return false;
    }
    if (!kl_cgroup_limit(path, "memory.limit_in_bytes", bytes, failure))
        return false;
    strncat(path, "/cgroup.procs", sizeof path - strlen(path) - 1);
    *out = open(path, O_WRONLY | O_CLOEXEC);
    if (*out < 0)
        kl_failure_errno(failure, errno, path);
    return *out >= 0;
}

void kl_memory_release(const kl_site *site, const char *name)
{
    char path[PATH_MAX];
    if (!has_version_1(site))
        return;
    path_of(path, sizeof path, site, name);
    // The kernel holds a group for a moment whose last process has just ended.
    for (int tries = 0; rmdir(path) != 0 && errno == EBUSY && tries < 200; tries++)
        usleep(10000);
    path_of(path, sizeof path, site, "");
    rmdir(path); // stays while it has machines
}
