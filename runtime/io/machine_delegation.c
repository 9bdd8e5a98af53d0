// Which control group a site has. Root's lies at the top of the hierarchy. An ordinary user may
// only work below a group that was handed over, and may only move a process between two groups when
// the one that holds both was handed over too (cgroups(7), "Delegation containment"). Under systemd
// a user's own instance gives out such groups; elsewhere an administrator does.
#include "io/machine.h"

#include "io/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

// Our own group: the line "0::/path" of /proc/self/cgroup, below the hierarchy's mount.
static bool own_group(char *out, size_t size)
{
    char line[PATH_MAX];
    const char *base = kl_cgroup_hierarchy();
    bool found = false;
    FILE *in = fopen("/proc/self/cgroup", "re");
    while (in != NULL && base != NULL && !found && fgets(line, sizeof line, in) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        found = strncmp(line, "0::/", 4) == 0 && strncmp(line, "0::/..", 6) != 0;
        if (found)
            snprintf(out, size, "%s%s", base, line[4] != '\0' ? line + 3 : "");
    }
    if (in != NULL)
        fclose(in);
    return found;
}

static bool may_move_in(const char *group)
{
    char file[PATH_MAX + 16];
    snprintf(file, sizeof file, "%s/cgroup.procs", group);
    return access(file, W_OK) == 0 && access(group, W_OK) == 0;
}

// Cuts both to the group that holds the two.
static void common(char *group, const char *other)
{
    size_t end = 0, at = 0;
    for (; group[at] != '\0' && group[at] == other[at]; at++) {
        if (group[at] == '/')
            end = at;
    }
    bool whole = group[at] == '\0' && (other[at] == '\0' || other[at] == '/');
    if (!whole && group[at] == '/' && other[at] == '\0')
        end = at;
    if (!whole)
        group[end] = '\0';
}

bool kl_cgroup_is_joinable(const kl_site *site)
{
    char own[PATH_MAX];
    if (!site->ordinary)
        return site->group[0] != '\0';
    if (site->group[0] == '\0' || access(site->group, F_OK) != 0 || !own_group(own, sizeof own))
        return false;
    common(own, site->group);
    return may_move_in(own);
}

bool kl_cgroup_read(kl_site *site, kl_failure *failure)
{
    char path[PATH_MAX];
    if (!site->ordinary) {
        const char *base = kl_cgroup_hierarchy();
        if (base != NULL)
            snprintf(site->group, sizeof site->group, "%s/kiln-%s", base, site->tag);
        return true; // without one, whoever needs it fails
    }
    kl_buf text = {0};
    kl_failure local = {0};
    kl_site_path(site, path, sizeof path, "group");
    bool ok = kl_files_read(&text, path, PATH_MAX, &local) || strcmp(local.kind, "not_found") == 0;
    if (ok)
        snprintf(site->group, sizeof site->group, "%s", kl_buf_text(&text));
    else
        *failure = local;
    kl_buf_free(&text);
    return ok;
}

// The nearest group around us that is ours to divide.
static bool find_delegated(char *group, size_t size, kl_failure *failure)
{
    char own[PATH_MAX];
    const char *base = kl_cgroup_hierarchy();
    if (!own_group(own, sizeof own)) {
        kl_failure_set(failure, "unsupported", 0, "no cgroup2 hierarchy is mounted on this host");
        return false;
    }
    snprintf(group, size, "%s", own);
    while (strlen(group) > strlen(base) && !may_move_in(group))
        *strrchr(group, '/') = '\0';
    if (strlen(group) > strlen(base))
        return true;
    kl_failure_set(
        failure, "unsupported", 0,
        "this process is in the control group %s, which user %u may not divide: log in "
        "where systemd runs for you (systemctl --user status), or as root hand one over: "
        "mkdir -p %s/user-%u/shell && chown -R %u %s/user-%u, then put your shell into "
        "it: echo PID > %s/user-%u/shell/cgroup.procs",
        own, (unsigned)geteuid(), base, (unsigned)geteuid(), (unsigned)geteuid(), base,
        (unsigned)geteuid(), base, (unsigned)geteuid());
    return false;
}

bool kl_cgroup_choose(kl_site *site, kl_failure *failure)
{
    char path[PATH_MAX], delegated[PATH_MAX];
    if (!site->ordinary && site->group[0] == '\0') {
        kl_failure_set(failure, "unsupported", 0,
                       "no cgroup2 hierarchy, and none can be mounted here");
        return false;
    }
    if (kl_cgroup_is_joinable(site))
        return true;
    if (site->group[0] != '\0' && kl_cgroup_populated(site->group)) {
        kl_failure_set(failure, "denied", 0,
                       "the machines of %s run in the control group %s, which this process may not "
                       "join: run kiln from where the first one was started",
                       site->dir, site->group);
        return false;
    }
    if (!find_delegated(delegated, sizeof delegated, failure))
        return false;
    int used = snprintf(site->group, sizeof site->group, "%s/kiln-%s", delegated, site->tag);
    if (used < 0 || (size_t)used >= sizeof site->group) {
        kl_failure_set(failure, "limit", 0, "the path of the control group is too long");
        return false;
    }
    kl_site_path(site, path, sizeof path, "group");
    return kl_files_write(path, site->group, strlen(site->group), 0600, KL_FILES_REPLACE, failure);
}

// sd_booted(3), and the socket of the user's own instance.
static bool has_user_systemd(void)
{
    char path[PATH_MAX];
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    if (runtime == NULL || runtime[0] != '/' || access("/run/systemd/system", F_OK) != 0)
        return false;
    snprintf(path, sizeof path, "%s/systemd/private", runtime);
    return access(path, F_OK) == 0 && kl_command_exists("systemd-run");
}

void kl_cgroup_enter_scope(const kl_site *site, const char *verb, const kl_fields *request)
{
    static const char mark[] = "KILN_MACHINE_SCOPE";
    char exe[PATH_MAX], unit[64];
    ssize_t length = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (getenv(mark) != NULL || length <= 0 || !has_user_systemd())
        return;
    exe[length] = '\0';
    int input = memfd_create("request", 0);
    if (input < 0 ||
        write(input, request->bytes.data, request->bytes.length) !=
            (ssize_t)request->bytes.length ||
        lseek(input, 0, SEEK_SET) != 0 || dup2(input, STDIN_FILENO) < 0)
        return;
    snprintf(unit, sizeof unit, "--unit=kiln-%s-%d", site->tag, (int)getpid());
    setenv(mark, "1", 1);
    execlp("systemd-run", "systemd-run", "--user", "--scope", "--quiet", "--collect",
           "--property=Delegate=yes", unit, "--", exe, "__machine", verb, (char *)NULL);
    unsetenv(mark);
}
