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
    answer_check("kernel", major > 5 || (major == 5 && minor >= 14), system.release,
                 "local machines need Linux 5.14 or newer (cgroup.kill)");
}

static void check_program(const char *name, const char *package, const char *what_for)
{
    char message[128], remedy[128];
    char *const argv[] = {"sh", "-c", "command -v \"$0\" >/dev/null", (char *)(uintptr_t)name,
                          NULL};
    kl_command command = {.argv = argv};
    kl_failure ignored;
    snprintf(message, sizeof message, "%s", what_for);
    snprintf(remedy, sizeof remedy, "apt-get install %s", package);
    answer_check(name, kl_command_run(&command, NULL, &ignored), message, remedy);
}

// In a child: an overlay with user attributes in a user namespace, in the site's own file system.
static int try_overlay(const kl_site *site)
{
    if (chdir(site->dir) != 0 || mkdir(".check", 0700) != 0)
        return 1;
    if (chdir(".check") != 0 || mkdir("low", 0700) != 0 || mkdir("up", 0700) != 0 ||
        mkdir("work", 0700) != 0 || mkdir("root", 0700) != 0)
        return 1;
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET) != 0)
        return 2;
    static const char *const maps[][2] = {{"/proc/self/uid_map", "0 0 1"},
                                          {"/proc/self/setgroups", "deny"},
                                          {"/proc/self/gid_map", "0 0 1"}};
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

static void check_cgroup(const kl_site *site)
{
    char path[PATH_MAX], file[PATH_MAX + 16];
    kl_failure failure = {0};
    bool made = kl_cgroup_make(path, sizeof path, site, "check", &failure);
    snprintf(file, sizeof file, "%s/cgroup.kill", path);
    bool kill = made && access(file, W_OK) == 0;
    if (made)
        rmdir(path);
    if (kl_cgroup_path(path, sizeof path, site, ""))
        rmdir(path);
    answer_check("cgroup2", kill, "a control group that can be killed",
                 made ? "Linux 5.14 or newer"
                      : "mount cgroup2, or run where /sys/fs/cgroup is "
                        "writable (a privileged container)");
}

// In a network namespace of its own: a bridge, a cable, a floating-address map.
static void check_network(void)
{
    char *const argv[] = {"unshare",
                          "-n",
                          "sh",
                          "-ec",
                          "ip link add br0 type bridge; ip link add va type veth peer name vb; "
                          "ip link set va master br0; nft 'add table ip kiln; "
                          "add map ip kiln fip { type ipv4_addr : ipv4_addr; }; "
                          "add chain ip kiln pre { type nat hook prerouting priority dstnat; }; "
                          "add rule ip kiln pre dnat to ip daddr map @fip; "
                          "add chain ip kiln post { type nat hook postrouting priority srcnat; }; "
                          "add rule ip kiln post masquerade'; [ -e /proc/net/nf_conntrack ]",
                          NULL};
    kl_command command = {.argv = argv};
    kl_failure failure = {0};
    bool ok = kl_command_run(&command, NULL, &failure);
    answer_check("network", ok, ok ? "bridge, veth, nftables nat" : failure.message,
                 "modprobe -a bridge veth nf_tables nft_chain_nat nft_masq nf_conntrack");
}

// A machine's systemd takes about 7 inotify instances; all of a site count for one user.
static void check_inotify(void)
{
    static const char file[] = "/proc/sys/fs/inotify/max_user_instances";
    char text[32] = "0", message[96];
    int fd = open(file, O_RDWR | O_CLOEXEC);
    ssize_t got = fd >= 0 ? read(fd, text, sizeof text - 1) : 0;
    text[got > 0 ? got : 0] = '\0';
    int limit = atoi(text);
    bool raised = limit < 1024 && fd >= 0 && pwrite(fd, "1024", 4, 0) == 4;
    if (fd >= 0)
        close(fd);
    snprintf(message, sizeof message, "%d inotify instances a user%s", raised ? 1024 : limit,
             raised ? " (raised from less, until the next boot)" : "");
    answer_check("inotify", raised || limit >= 1024, message,
                 "sysctl fs.inotify.max_user_instances=1024 (128 are enough for 16 machines)");
}

bool kl_machine_check(kl_site *site, const kl_fields *request, kl_failure *failure)
{
    (void)request;
    (void)failure;
    check_kernel();
    answer_check("root", geteuid() == 0, "the rights to make machines",
                 "run kiln as root (sudo -E kiln …): machines of ordinary users come later");
    if (geteuid() == 0) {
        check_namespaces(site);
        check_cgroup(site);
        check_network();
        check_inotify();
    }
    check_program("ip", "iproute2", "the network of machines");
    check_program("nft", "nftables", "floating addresses");
    check_program("tar", "tar", "unpacking and freezing images");
    check_program("zstd", "zstd", "the base root file system");
    check_program("mmdebstrap", "mmdebstrap", "making the base root file system");
    check_program("pasta", "passt", "the way out to package mirrors while baking");
    return true;
}
