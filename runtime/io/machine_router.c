// The router of a site: a process that does nothing but hold the site's namespaces.
#include "io/machine.h"

#include "io/process_info.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/nsfs.h>
#include <net/route.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

// Which processes numbers name: the PID namespace of this process.
static unsigned long long numbering(void)
{
    struct stat there;
    return stat("/proc/self/ns/pid", &there) == 0 ? there.st_ino : 0;
}

// A router whose number says nothing here looks like one that has died. It lives if its control
// group is not empty.
static bool is_elsewhere(const kl_site *site, const char *pids)
{
    char group[PATH_MAX];
    return pids != NULL && strtoull(pids, NULL, 10) != numbering() &&
           kl_cgroup_path(group, sizeof group, site, "router") && kl_cgroup_populated(group);
}

bool kl_router_read(kl_site *site, kl_failure *failure)
{
    char path[PATH_MAX];
    kl_fields fields = {0};
    kl_site_path(site, path, sizeof path, "router");
    if (!kl_fields_load(&fields, path, failure))
        return false;
    const char *pid = kl_fields_get(&fields, "pid"), *start = kl_fields_get(&fields, "start");
    const char *block = kl_fields_get(&fields, "block");
    if (block != NULL)
        site->block = atoi(block);
    if (is_elsewhere(site, kl_fields_get(&fields, "pids"))) {
        kl_failure_set(failure, "denied", 0,
                       "the machines of %s were started by a kiln in another PID namespace: run "
                       "kiln in that container, or give this one a folder of its own "
                       "(KILN_LOCAL_DIR)",
                       site->dir);
        kl_fields_free(&fields);
        return false;
    }
    site->router = 0;
    if (pid != NULL && start != NULL && kl_process_start_time(atoi(pid)) == atoll(start))
        site->router = atoi(pid);
    kl_fields_free(&fields);
    return true;
}

// For whoever needs it: this helper, later ones, and io/route.c.
static bool save(const kl_site *site, kl_failure *failure)
{
    char path[PATH_MAX], text[32];
    kl_fields fields = {0};
    kl_site_path(site, path, sizeof path, "router");
    snprintf(text, sizeof text, "%d", (int)site->router);
    kl_fields_add(&fields, "pid", text);
    snprintf(text, sizeof text, "%lld", (long long)kl_process_start_time(site->router));
    kl_fields_add(&fields, "start", text);
    snprintf(text, sizeof text, "%d", site->block);
    kl_fields_add(&fields, "block", text);
    snprintf(text, sizeof text, "%llu", numbering());
    kl_fields_add(&fields, "pids", text);
    if (site->ordinary)
        kl_fields_add(&fields, "outside", "yes");
    bool ok = kl_fields_save(&fields, path, failure);
    kl_fields_free(&fields);
    return ok;
}

static bool join(const char *cgroup)
{
    char path[PATH_MAX + 16];
    snprintf(path, sizeof path, "%s/cgroup.procs", cgroup);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool ok = fd >= 0 && write(fd, "0", 1) == 1;
    if (fd >= 0)
        close(fd);
    return ok;
}

// An ordinary user's outside comes first; the router's own namespace then replaces it. Both are
// made by the root of the user namespace, so that their files in /proc are that root's.
static bool make_networks(bool ordinary)
{
    if (ordinary) {
        if (unshare(CLONE_NEWNET) != 0)
            return false;
        int outside = open("/proc/self/ns/net", O_RDONLY);
        if (outside < 0 || dup2(outside, KL_ROUTER_OUTSIDE) < 0)
            return false;
    } else {
        dup2(STDIN_FILENO, KL_ROUTER_OUTSIDE); // nothing
    }
    return unshare(CLONE_NEWNS | CLONE_NEWNET) == 0;
}

// Enters the user namespace of a router that is gone: a machine's is two below it. A machine of
// before shared it.
static bool enter_around(pid_t survivor)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/ns/user", (int)survivor);
    int own = open(path, O_RDONLY | O_CLOEXEC);
    int bounds = own >= 0 ? ioctl(own, NS_GET_PARENT) : -1;
    int around = bounds >= 0 ? ioctl(bounds, NS_GET_PARENT) : -1;
    return setns(around >= 0 ? around : own, CLONE_NEWUSER) == 0 && kl_enter(0);
}

// A user namespace: that of machines which have lost their router, or a new one, whose ids come
// between a byte each way.
static bool become_root(pid_t survivor, int ready, int go)
{
    char byte = 1;
    if (survivor != 0)
        return enter_around(survivor);
    return unshare(CLONE_NEWUSER) == 0 && write(ready, &byte, 1) == 1 && read(go, &byte, 1) == 1 &&
           kl_enter(0);
}

// The router's process: its namespaces, then nothing but being there.
static void hold(int ready, int go, int claim, const char *cgroup, pid_t survivor, bool ordinary)
{
    char byte = 1;
    ready = fcntl(ready, F_DUPFD, 10);
    go = fcntl(go, F_DUPFD, 10);
    claim = fcntl(claim, F_DUPFD, 10);
    int null = open("/dev/null", O_RDWR);
    for (int fd = 0; fd < 3; fd++)
        dup2(null, fd);
    if (!join(cgroup) || !become_root(survivor, ready, go) || dup2(claim, KL_ROUTER_CLAIM) < 0 ||
        !make_networks(ordinary) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        chdir("/") != 0)
        _exit(1);
    setsid();
    prctl(PR_SET_NAME, "kiln-router");
    signal(SIGTERM, SIG_DFL);
    if (write(ready, &byte, 1) != 1)
        _exit(1);
    close_range(KL_ROUTER_CLAIM + 1, ~0U, 0);
    for (;;)
        pause();
}

// Does the host have a route into 10.199.block.0/22? From /proc/net/route (hexadecimal, low byte
// first). `own`: the routes that keep the place of a router that was lost do not count.
static bool is_routed(int block, bool own)
{
    char line[256];
    bool routed = false;
    FILE *in = fopen("/proc/net/route", "re");
    while (in != NULL && fgets(line, sizeof line, in) != NULL) {
        unsigned destination, flags;
        int metric;
        if (sscanf(line, "%*s %x %*x %x %*d %*d %d", &destination, &flags, &metric) == 3 &&
            !(own && (flags & RTF_REJECT) != 0 && metric == KL_NO_ROUTER_METRIC) &&
            (destination & 0xffff) == (199 << 8 | 10) && (int)(destination >> 16 & 0xff) >= block &&
            (int)(destination >> 16 & 0xff) < block + 4)
            routed = true;
    }
    if (in != NULL)
        fclose(in);
    return routed;
}

// A user's sites share no block, or an address would name two machines. The claim is a name in the
// kernel (an abstract socket, unix(7)) that goes with the router; -1: another has it.
static int claim(int block, bool own)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    int used = snprintf(name.sun_path + 1, sizeof name.sun_path - 1, "kiln-net-%u-%d",
                        (unsigned)geteuid(), block);
    int fd = is_routed(block, own) ? -1 : socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 &&
        bind(fd, (struct sockaddr *)&name,
             (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)used)) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static int choose_block(kl_site *site, kl_failure *failure)
{
    kl_failure ignored;
    bool own = kl_machine_survivor(site) != 0;
    int fd = site->block != 0 ? claim(site->block, own) : -1; // the addresses of before
    if (fd < 0)
        kl_net_down(site, true, &ignored);
    for (int block = 75; fd < 0 && block <= 251; block += 4) {
        fd = claim(block, false);
        if (fd >= 0)
            site->block = block;
    }
    if (fd < 0)
        kl_failure_set(failure, "limit", 0,
                       "no free network for a site in 10.199.75.0 to 10.199.254.0");
    return fd;
}

// Gives the new process ids for a new user namespace; true when it has the others too.
static bool see_it_hold(const kl_site *site, pid_t pid, bool map, int ready, int go,
                        kl_failure *failure)
{
    char byte;
    bool mapped = !map;
    if (map && pid > 0 && read(ready, &byte, 1) == 1) {
        if (!kl_ids_map(site, pid, failure))
            return false;
        mapped = write(go, "", 1) == 1;
    }
    if (mapped && pid > 0 && read(ready, &byte, 1) == 1)
        return true;
    kl_failure_set(
        failure, "unsupported", 0,
        "no user and network namespace can be made; `kiln doctor` tells what is missing");
    return false;
}

bool kl_router_start(kl_site *site, kl_failure *failure)
{
    char cgroup[PATH_MAX];
    int ready[2], go[2];
    if (!kl_range_reserve(site, failure) ||
        !kl_cgroup_make(cgroup, sizeof cgroup, site, "router", failure))
        return false;
    pid_t survivor = site->ordinary ? kl_machine_survivor(site) : 0;
    int claimed = choose_block(site, failure);
    if (claimed < 0)
        return false;
    if (pipe2(ready, O_CLOEXEC) != 0 || pipe2(go, O_CLOEXEC) != 0) {
        kl_failure_errno(failure, errno, "pipe");
        close(claimed);
        return false;
    }
    pid_t pid = fork();
    if (pid == 0) {
        close(ready[0]);
        close(go[1]);
        hold(ready[1], go[0], claimed, cgroup, survivor, site->ordinary);
    }
    close(ready[1]);
    close(go[0]);
    close(claimed);
    bool ok = see_it_hold(site, pid, survivor == 0, ready[0], go[1], failure);
    close(ready[0]);
    close(go[1]);
    if (!ok) {
        kl_failure ignored;
        kl_cgroup_destroy(cgroup, &ignored);
        return false;
    }
    site->router = pid;
    return save(site, failure);
}

bool kl_router_end(kl_site *site, bool for_good, kl_failure *failure)
{
    char cgroup[PATH_MAX];
    kl_failure ignored;
    kl_net_down(site, for_good, &ignored); // the cable goes with the namespace anyway
    site->router = 0;
    return !kl_cgroup_path(cgroup, sizeof cgroup, site, "router") ||
           kl_cgroup_destroy(cgroup, failure);
}
