// What local machines need of the host: each thing is tried, not guessed.
#include "io/machine.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

static void answer_check(const char *name, bool ok, const char *message, const char *remedy)
{
    kl_fields row = {0};
    kl_fields_add(&row, "name", name);
    kl_fields_add(&row, "ok", ok ? "yes" : "no");
    kl_fields_add(&row, "message", message);
    kl_fields_add(&row, "remedy", ok ? "" : remedy);
    kl_answer_row(&row);
    kl_fields_free(&row);
}

static void check_kernel(void)
{
    struct utsname system;
    int major = 0, minor = 0;
    uname(&system);
    sscanf(system.release, "%d.%d", &major, &minor);
    int needed = geteuid() == 0 ? 19 : 14;
    answer_check("kernel", major > 5 || (major == 5 && minor >= needed), system.release,
                 needed == 19 ? "root's local machines need Linux 5.19 or newer (idmapped layers)"
                              : "local machines need Linux 5.14 or newer (cgroup.kill)");
}

static void check_program(const char *name, const char *package, const char *what_for)
{
    char remedy[128];
    snprintf(remedy, sizeof remedy, "apt-get install %s", package);
    answer_check(name, kl_command_exists(name), what_for, remedy);
}

// In a child: an overlay with user attributes in a user namespace, in the site's own file system.
static int try_overlay(const kl_site *site)
{
    char uids[32], gids[32];
    snprintf(uids, sizeof uids, "0 %u 1", (unsigned)geteuid());
    snprintf(gids, sizeof gids, "0 %u 1", (unsigned)getegid());
    if (chdir(site->dir) != 0 || mkdir(".check", 0700) != 0)
        return 1;
    if (chdir(".check") != 0 || mkdir("low", 0700) != 0 || mkdir("up", 0700) != 0 ||
        mkdir("work", 0700) != 0 || mkdir("root", 0700) != 0)
        return 1;
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET) != 0)
        return 2;
    const char *const maps[][2] = {{"/proc/self/uid_map", uids},
                                   {"/proc/self/setgroups", "deny"},
                                   {"/proc/self/gid_map", gids}};
    for (size_t i = 0; i < sizeof maps / sizeof maps[0]; i++) {
        int fd = open(maps[i][0], O_WRONLY | O_CLOEXEC);
        if (fd < 0 || write(fd, maps[i][1], strlen(maps[i][1])) < 0)
            return 2;
        close(fd);
    }
    return mount("overlay", "root", "overlay", 0,
                 "lowerdir=low,upperdir=up,workdir=work,userxattr") == 0
               ? 0
               : 3;
}

static void check_namespaces(const kl_site *site)
{
    char *const argv[] = {"rm", "-rf", ".check", NULL};
    kl_command remove = {.argv = argv, .dir = site->dir};
    kl_failure ignored;
    int status = 0;
    kl_command_run(&remove, NULL, &ignored);
    pid_t pid = fork();
    if (pid == 0)
        _exit(try_overlay(site));
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : 1;
    kl_command_run(&remove, NULL, &ignored);
    answer_check("namespaces", code != 2, "user, mount and network namespaces",
                 "allow user namespaces: sysctl user.max_user_namespaces, and on Ubuntu "
                 "kernel.apparmor_restrict_unprivileged_userns=0");
    if (code != 2)
        answer_check("overlay", code == 0, "an overlay mount in a user namespace",
                     "put the site on ext4, xfs or btrfs (KILN_LOCAL_DIR), on Linux 5.11 or newer");
}

static bool nothing(const void *ctx, kl_buf *out, kl_failure *failure)
{
    (void)ctx;
    (void)out;
    (void)failure;
    return true;
}

// A user namespace with all the ids of machines.
static void check_ids(const kl_site *site)
{
    kl_site fresh = *site;
    kl_failure failure = {0};
    kl_buf map = {0};
    char message[160];
    fresh.router = 0;
    bool ok = kl_ids_describe(&fresh, &map, &failure) &&
              kl_inside(&fresh, fresh.fd, nothing, NULL, NULL, &failure);
    unsigned first = 0;
    if (ok && site->ordinary)
        sscanf(kl_buf_text(&map), "%*u %*u %*u %*u %u", &first);
    if (site->ordinary)
        snprintf(message, sizeof message, "root of machines is the user %u, others are from %u on",
                 (unsigned)site->uid, first);
    else
        snprintf(message, sizeof message,
                 "ids of machines are %u and those that follow on the host", (unsigned)site->uid);
    answer_check("ids", ok, ok ? message : "host ids for the users of machines", failure.message);
    kl_buf_free(&map);
}

// What bounds a machine; where nothing does, machines work all the same.
static void answer_bound(const char *name, bool bounded, const char *message)
{
    kl_fields row = {0};
    kl_fields_add(&row, "name", name);
    kl_fields_add(&row, "ok", "yes");
    kl_fields_add(&row, "warning", bounded ? "no" : "yes");
    kl_fields_add(&row, "message", message);
    kl_answer_row(&row);
    kl_fields_free(&row);
}

static void check_bounds(const kl_site *site)
{
    static const char *const what[KL_LIMITS] = {"the memory", "the share of the processors"};
    char message[160];
    const char *why;
    for (int limit = 0; limit < KL_LIMITS; limit++) {
        int version = kl_limits_version(site, limit);
        const char *name = kl_limits_names[limit];
        if (version != 0)
            snprintf(message, sizeof message,
                     "%s of a machine is bounded by control groups, version %d", what[limit],
                     version);
        else
            snprintf(message, sizeof message,
                     "%s of a machine is not bounded: no control group of ours hands the "
                     "controller %s down",
                     what[limit], name);
        answer_bound(name, version != 0, message);
    }
    if (kl_disk_possible(site, &why))
        snprintf(message, sizeof message, "a machine has one of its own, of %.1f GiB by default",
                 (double)kl_disk_bytes(site, NULL) / (1 << 30));
    else
        snprintf(message, sizeof message, "a machine may fill the disk of this host: %s", why);
    answer_bound("disk", why == NULL, message);
}

static void check_cgroup(const kl_site *site)
{
    kl_site mine = *site;
    char path[PATH_MAX], file[PATH_MAX + 16];
    kl_failure failure = {0};
    bool made = kl_cgroup_choose(&mine, &failure) &&
                kl_cgroup_make(path, sizeof path, &mine, "check", &failure);
    snprintf(file, sizeof file, "%s/cgroup.kill", made ? path : "");
    bool kill = made && access(file, W_OK) == 0;
    if (made)
        check_bounds(&mine);
    if (made)
        rmdir(path);
    if (made && kl_cgroup_path(path, sizeof path, &mine, ""))
        rmdir(path);
    answer_check("cgroup2", kill, "a control group that can be divided and killed",
                 made             ? "Linux 5.14 or newer"
                 : site->ordinary ? failure.message
                                  : "mount cgroup2, or run where /sys/fs/cgroup is "
                                    "writable (a privileged container)");
}

// pasta makes a network device by it.
static void check_tun(void)
{
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    if (fd >= 0)
        close(fd);
    answer_check("tun", fd >= 0, "/dev/net/tun, by which machines reach package mirrors",
                 geteuid() == 0
                     ? "modprobe tun; in a container, hand /dev/net/tun in"
                     : "as root: modprobe tun; chmod 0666 /dev/net/tun (what udev does)");
}

// In user and network namespaces of its own: a cable, a floating-address map.
static void check_network(void)
{
    char *const argv[] = {"unshare",
                          "-r",
                          "-n",
                          "sh",
                          "-ec",
                          "ip link add va type veth peer name vb; "
                          "nft 'add table ip kiln; "
                          "add map ip kiln fip { type ipv4_addr : ipv4_addr; }; "
                          "add chain ip kiln pre { type nat hook prerouting priority dstnat; }; "
                          "add rule ip kiln pre dnat to ip daddr map @fip; "
                          "add chain ip kiln post { type nat hook postrouting priority srcnat; }; "
                          "add rule ip kiln post masquerade'; [ -e /proc/net/nf_conntrack ]",
                          NULL};
    kl_command command = {.argv = argv};
    kl_failure failure = {0};
    if (!kl_command_exists("ip") || !kl_command_exists("nft"))
        return; // told below
    bool ok = kl_command_run(&command, NULL, &failure);
    answer_check("network", ok, ok ? "veth, nftables nat" : failure.message,
                 "modprobe -a veth nf_tables nft_chain_nat nft_masq nf_conntrack");
}

// A machine's systemd takes about 7 inotify instances. All machines of an ordinary user count for
// that user; each of root's has a limit of its own.
static void check_inotify(void)
{
    static const char file[] = "/proc/sys/fs/inotify/max_user_instances";
    char text[32] = "0", message[96];
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd >= 0 ? read(fd, text, sizeof text - 1) : 0;
    if (fd >= 0)
        close(fd);
    text[got > 0 ? got : 0] = '\0';
    int limit = atoi(text);
    snprintf(message, sizeof message, "%d inotify instances a user", limit);
    answer_check("inotify", limit >= (geteuid() == 0 ? 64 : 1024), message,
                 "sysctl fs.inotify.max_user_instances=1024 (128 are enough for 16 machines)");
}

// The folder of the site, and what is tried in it.
static void check_site(kl_site *site, const char *dir)
{
    kl_failure failure = {0};
    bool opened = kl_site_open(site, dir, &failure);
    answer_check("site", opened, dir, failure.message);
    if (!opened)
        return;
    // The trials have one folder and one group: two checks at the same time take turns.
    bool locked = kl_site_lock(site, &failure);
    check_namespaces(site);
    check_ids(site);
    check_cgroup(site);
    if (locked)
        kl_site_unlock(site);
}

bool kl_machine_check(kl_site *site, const kl_fields *request, kl_failure *failure)
{
    (void)failure;
    check_kernel();
    check_site(site, kl_fields_get(request, "dir"));
    check_network();
    check_tun();
    check_inotify();
    if (site->ordinary)
        check_program("newuidmap", "uidmap", "ids for the users of machines");
    check_program("ip", "iproute2", "the network of machines");
    check_program("nft", "nftables", "floating addresses");
    check_program("tar", "tar", "unpacking and freezing images");
    check_program("zstd", "zstd", "the base root file system");
    check_program("mmdebstrap", "mmdebstrap", "making the base root file system");
    check_program("pasta", "passt", "the way out to package mirrors while baking");
    return true;
}
