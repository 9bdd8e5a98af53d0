// What a machine may take of the host's memory and processors, bounded by the host's control
// groups: in version 2 by the machine's own group, in version 1 by one in the controller's
// hierarchy. Where neither has a controller (an ordinary user may have been given none), the
// machine's row says what has no bound, and so does `kiln doctor`.
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
enum { PERIOD_US = 100000, SHARES = 1024 }; // of the processors; what one process of the host has

const char *const kl_limits_names[KL_LIMITS] = {"memory", "cpu"};

static const char *const files_2[KL_LIMITS] = {"memory.max", "cpu.weight"};

typedef struct setting {
    const char *file;
    char value[48];
    bool optional; // fine when the kernel has no such file
} setting;

long long kl_memory_bytes(const char *wanted)
{
    long long half = (long long)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE) / 2;
    long long most = 4LL << 30;
    return wanted != NULL ? atoll(wanted) : half < most ? half : most;
}

static bool has_version_1(const kl_site *site, int limit)
{
    char path[64];
    struct statfs fs;
    snprintf(path, sizeof path, "/sys/fs/cgroup/%s", kl_limits_names[limit]);
    return !site->ordinary && statfs(path, &fs) == 0 && fs.f_type == CGROUP1_MAGIC;
}

static void path_of(char *out, size_t size, const kl_site *site, int limit, const char *name)
{
    snprintf(out, size, "/sys/fs/cgroup/%s/kiln.%s%s%s", kl_limits_names[limit], site->tag,
             name[0] != '\0' ? "/" : "", name);
}

enum { NOBODY, WE, OTHERS };

// Who is in the group: nobody, this process alone, or others. (The root of a hierarchy may have
// processes beside groups: they do not count.)
static int who_is_in(const char *group)
{
    char path[PATH_MAX + 16], line[32];
    snprintf(path, sizeof path, "%s/cgroup.type", group);
    if (access(path, F_OK) != 0)
        return NOBODY;
    snprintf(path, sizeof path, "%s/cgroup.procs", group);
    FILE *in = fopen(path, "re");
    int who = NOBODY;
    while (in != NULL && who != OTHERS && fgets(line, sizeof line, in) != NULL)
        who = atol(line) == (long)getpid() ? WE : OTHERS;
    if (in != NULL)
        fclose(in);
    return who;
}

// Goes from the group around the site's to one of our own there. systemd starts an ordinary user's
// helper so (kl_cgroup_enter_scope).
static bool step_aside(const kl_site *site)
{
    char path[PATH_MAX + 16];
    kl_failure none = {0};
    snprintf(path, sizeof path, "%s-helper", site->group);
    return (mkdir(path, 0755) == 0 || errno == EEXIST) &&
           kl_cgroup_limit(path, "cgroup.procs", "0", &none);
}

// Hands the controller down to the groups of machines; fine when that was done. Whoever may not do
// so has no controller. A group with processes must not even try: it may hand `cpu` down, and no
// process can then join the groups below (cgroups(7), "threaded mode").
static bool has_version_2(const kl_site *site, int limit)
{
    char around[PATH_MAX], what[32];
    kl_failure none = {0};
    if (!kl_cgroup_path(around, sizeof around, site, ""))
        return false;
    *strrchr(around, '/') = '\0';
    int who = who_is_in(around);
    if (who == OTHERS || (who == WE && !(site->ordinary && step_aside(site))))
        return false;
    snprintf(what, sizeof what, "+%s", kl_limits_names[limit]);
    kl_cgroup_limit(around, "cgroup.subtree_control", what, &none);
    return kl_cgroup_limit(site->group, "cgroup.subtree_control", what, &none);
}

int kl_limits_version(const kl_site *site, int limit)
{
    return has_version_1(site, limit) ? 1 : has_version_2(site, limit) ? 2 : 0;
}

// The processors of one machine at most; 0: as many as there are.
static long processors(const kl_fields *meta)
{
    const char *wanted = kl_fields_get(meta, "vcpus");
    return wanted != NULL ? atol(wanted) : 0;
}

static int add(setting *to, const char *file, long long first, const char *rest)
{
    *to = (setting){.file = file};
    snprintf(to->value, sizeof to->value, "%lld%s", first, rest);
    return 1;
}

// All machines have the same share of what is scarce, whatever runs in them.
static int settings_of(setting *out, int limit, int version, const kl_fields *meta)
{
    int count = 0;
    long most = processors(meta);
    if (limit == KL_LIMIT_MEMORY) {
        long long bytes = kl_memory_bytes(kl_fields_get(meta, "memory"));
        count += add(out, version == 1 ? "memory.limit_in_bytes" : files_2[limit], bytes, "");
        if (version == 2) {
            count += add(out + count, "memory.swap.max", 0, "");
            out[1].optional = true; // it is there when the host has swap
        }
        return count;
    }
    count += version == 1 ? add(out, "cpu.shares", SHARES, "") : add(out, files_2[limit], 100, "");
    if (most > 0 && version == 1)
        count += add(out + count, "cpu.cfs_quota_us", most * PERIOD_US, "");
    else if (most > 0)
        count += add(out + count, "cpu.max", most * PERIOD_US, " 100000");
    return count;
}

// In version 1 a group competes with each process of the host that is in none: all machines of a
// site together count as two of these on each processor. The site's group is removed with its last
// machine, which may be just now.
static bool make_version_1(char *group, size_t size, const kl_site *site, int limit,
                           const char *name, kl_failure *failure)
{
    char shares[32];
    kl_failure local = {0};
    snprintf(shares, sizeof shares, "%ld", 2 * SHARES * sysconf(_SC_NPROCESSORS_ONLN));
    for (int tries = 0; tries < 100; tries++) {
        path_of(group, size, site, limit, "");
        bool ok = mkdir(group, 0755) == 0 || errno == EEXIST;
        ok = ok && (limit != KL_LIMIT_CPU || kl_cgroup_limit(group, "cpu.shares", shares, &local));
        path_of(group, size, site, limit, name);
        if (ok && (mkdir(group, 0755) == 0 || errno == EEXIST))
            return true;
        if (errno != ENOENT)
            break;
    }
    kl_failure_errno(failure, errno, group);
    return false;
}

static bool set_one(const kl_site *site, const char *name, const kl_fields *meta, int limit,
                    int *join, kl_failure *failure)
{
    char group[PATH_MAX];
    setting settings[2];
    int version = kl_limits_version(site, limit);
    if (version == 0)
        return true;
    if (version == 1 && !make_version_1(group, sizeof group, site, limit, name, failure))
        return false;
    if (version == 2 && !kl_cgroup_path(group, sizeof group, site, name))
        return false;
    int count = settings_of(settings, limit, version, meta);
    for (int i = 0; i < count; i++) {
        kl_failure local = {0};
        if (!kl_cgroup_limit(group, settings[i].file, settings[i].value, &local) &&
            !(settings[i].optional && local.code == ENOENT)) {
            *failure = local;
            return false;
        }
    }
    if (version == 2)
        return true;
    strncat(group, "/cgroup.procs", sizeof group - strlen(group) - 1);
    *join = open(group, O_WRONLY | O_CLOEXEC);
    if (*join < 0)
        kl_failure_errno(failure, errno, group);
    return *join >= 0;
}

bool kl_limits_set(const kl_site *site, const char *name, const kl_fields *meta,
                   int joins[KL_LIMITS], kl_failure *failure)
{
    bool ok = true;
    for (int limit = 0; limit < KL_LIMITS; limit++)
        joins[limit] = -1;
    for (int limit = 0; ok && limit < KL_LIMITS; limit++)
        ok = set_one(site, name, meta, limit, &joins[limit], failure);
    return ok;
}

static bool holds(const kl_site *site, const char *name, int limit)
{
    char path[PATH_MAX];
    if (has_version_1(site, limit)) {
        path_of(path, sizeof path, site, limit, name);
        return access(path, F_OK) == 0;
    }
    if (!kl_cgroup_path(path, sizeof path, site, name))
        return false;
    strncat(path, "/", sizeof path - strlen(path) - 1);
    strncat(path, files_2[limit], sizeof path - strlen(path) - 1);
    return access(path, F_OK) == 0;
}

void kl_limits_row(kl_fields *row, const kl_site *site, const char *name)
{
    char text[64] = "";
    for (int limit = 0; limit < KL_LIMITS; limit++) {
        if (!holds(site, name, limit))
            snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s",
                     text[0] != '\0' ? ", " : "", kl_limits_names[limit]);
    }
    if (!kl_disk_exists(site, name))
        snprintf(text + strlen(text), sizeof text - strlen(text), "%sdisk",
                 text[0] != '\0' ? ", " : "");
    if (text[0] != '\0')
        kl_fields_add(row, "unbounded", text);
}

void kl_limits_release(const kl_site *site, const char *name)
{
    char path[PATH_MAX];
    for (int limit = 0; limit < KL_LIMITS; limit++) {
        if (!has_version_1(site, limit))
            continue;
        path_of(path, sizeof path, site, limit, name);
        // The kernel holds a group for a moment whose last process has just ended.
        for (int tries = 0; rmdir(path) != 0 && errno == EBUSY && tries < 200; tries++)
            usleep(10000);
        path_of(path, sizeof path, site, limit, "");
        rmdir(path); // stays while it has machines
    }
}
