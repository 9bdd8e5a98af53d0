// The shim: from a folder to a running machine. One process stays outside its PID namespace: it
// mounts the root, starts PID 1 again when that asks for a reboot, and ends with it. All mounts and
// the network live only in its namespaces, so killing its cgroup leaves nothing.
#include "io/machine.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PROCESSES = 1024 }; // all of a machine's, with its threads

typedef struct shim {
    const kl_site *site;
    const char *name;
    kl_layers *layers;
    int limits[KL_LIMITS]; // where it joins what bounds it; -1: nowhere
    unsigned root;         // on the host, the machine's root
    long long bytes;       // of its memory
    int block;             // holds its block of ids; -1: it has none of its own
    int report;            // text of what failed; closed without a word when PID 1 runs
    int attach;            // a byte comes when the cable is there
    int payload; // cgroup.procs of PID 1's group, opened before the shim is the machines' root
    int pid_file;
} shim;

static void give_up(const shim *self, const char *what)
{
    dprintf(self->report, "%s: %s", what, strerror(errno));
    _exit(1);
}

static void mount_or(const shim *self, const char *source, const char *target, const char *type,
                     unsigned long flags, const char *data)
{
    if (mount(source, target, type, flags, data) != 0)
        give_up(self, target);
}

// Mounts a file system that lies in memory. It can be filled up to a share of the machine's memory:
// what is in it is freed by nobody but its owner, so the rest must do for all processes. Each file
// takes memory too.
static void mount_tmpfs(const shim *self, const char *target, unsigned mode, int share)
{
    char data[96];
    long long bytes = self->bytes / share;
    snprintf(data, sizeof data, "mode=%o,size=%lld,nr_inodes=%lld", mode, bytes, bytes / 4096);
    mount_or(self, "tmpfs", target, "tmpfs", MS_NOSUID | MS_NODEV, data);
}

// Device nodes are the host's, bound: a user namespace cannot make its own.
static void make_dev(const shim *self)
{
    static const char *const nodes[] = {"null", "zero", "full", "random", "urandom", "tty"};
    char from[64], to[64];
    mount_or(self, "tmpfs", "dev", "tmpfs", MS_NOSUID, "mode=755,size=1m,nr_inodes=4096");
    for (size_t i = 0; i < sizeof nodes / sizeof nodes[0]; i++) {
        snprintf(from, sizeof from, "/dev/%s", nodes[i]);
        snprintf(to, sizeof to, "dev/%s", nodes[i]);
        int fd = open(to, O_CREAT | O_WRONLY | O_CLOEXEC, 0666);
        if (fd >= 0)
            close(fd);
        mount_or(self, from, to, NULL, MS_BIND, NULL);
    }
    if (mkdir("dev/pts", 0755) != 0 || mkdir("dev/shm", 01777) != 0 ||
        symlink("pts/ptmx", "dev/ptmx") != 0 || symlink("/proc/self/fd", "dev/fd") != 0 ||
        symlink("/proc/self/fd/0", "dev/stdin") != 0 ||
        symlink("/proc/self/fd/1", "dev/stdout") != 0 ||
        symlink("/proc/self/fd/2", "dev/stderr") != 0)
        give_up(self, "dev");
    mount_or(self, "devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC,
             "newinstance,ptmxmode=0666,mode=620,gid=5");
    mount_tmpfs(self, "dev/shm", 01777, 4);
}

static void make_mounts(const shim *self)
{
    mount_or(self, "proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    mount_or(self, "sysfs", "sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY, NULL);
    mount_or(self, "cgroup2", "sys/fs/cgroup", "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    make_dev(self);
    mount_tmpfs(self, "run", 0755, 8);
    mount_tmpfs(self, "tmp", 01777, 4);
}

// What no machine needs and what would reach beyond its namespaces if a kernel check were missing.
static void drop_capabilities(void)
{
    static const int dropped[] = {CAP_SYS_MODULE,   CAP_SYS_RAWIO,     CAP_SYS_TIME,
                                  CAP_SYSLOG,       CAP_MKNOD,         CAP_MAC_ADMIN,
                                  CAP_MAC_OVERRIDE, CAP_AUDIT_CONTROL, CAP_BPF,
                                  CAP_PERFMON,      CAP_WAKE_ALARM,    CAP_BLOCK_SUSPEND};
    for (size_t i = 0; i < sizeof dropped / sizeof dropped[0]; i++)
        prctl(PR_CAPBSET_DROP, dropped[i], 0, 0, 0); // one that the kernel lacks is dropped already
}

// PID 1 of the machine. The folder is the machine's root, mounted.
static void become_init(const shim *self)
{
    char uuid[64];
    if (write(self->payload, "0", 1) != 1)
        give_up(self, "cgroup");
    if (unshare(CLONE_NEWNS | CLONE_NEWCGROUP) != 0 ||
        sethostname(self->name, strlen(self->name)) != 0)
        give_up(self, "namespaces");
    make_mounts(self);
    if (syscall(SYS_pivot_root, ".", ".") != 0 || umount2(".", MNT_DETACH) != 0 || chdir("/") != 0)
        give_up(self, "pivot_root");
    drop_capabilities();
    if (!kl_shim_filter())
        give_up(self, "seccomp");

    FILE *random = fopen("/proc/sys/kernel/random/uuid", "re");
    if (random == NULL || fgets(uuid, 37, random) == NULL)
        give_up(self, "uuid");
    fclose(random);
    char id[96]; // becomes the machine-id when /etc/machine-id is empty
    snprintf(id, sizeof id, "container_uuid=%s", uuid);
    char *const env[] = {"container=kiln", id, "PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL};
    char *const argv[] = {"/sbin/init", NULL};
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    setrlimit(RLIMIT_CORE, &self->site->core);
    setsid();
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(null, 2) < 0)
        give_up(self, "/dev/null");
    fcntl(self->report, F_SETFD, FD_CLOEXEC); // its end tells that init runs
    execve(argv[0], argv, env);
    give_up(self, "/sbin/init");
}

static pid_t start_init(const shim *self)
{
    unsigned long flags = CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC | SIGCHLD;
    pid_t pid = (pid_t)syscall(SYS_clone, flags, NULL, NULL, NULL, NULL);
    if (pid == 0)
        become_init(self);
    if (pid < 0)
        give_up(self, "clone");
    char text[32];
    int length = snprintf(text, sizeof text, "%d\n", (int)pid);
    if (pwrite(self->pid_file, text, (size_t)length, 0) != length ||
        ftruncate(self->pid_file, length) != 0)
        give_up(self, "pid");
    return pid;
}

// Says nothing more to whoever started us; PID 1's own copy of the pipe ends with its exec.
static void let_go(shim *self)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    dup2(null, 0);
    dup2(null, 1);
    dup2(null, 2);
    close(self->report);
    close(self->site->lock);
    self->report = null;
}

static void run_shim(shim *self)
{
    char byte;
    setsid();
    prctl(PR_SET_NAME, "kiln-machine");
    const kl_nest nest = {.site = self->site,
                          .creator = self->root,
                          .processes = PROCESSES,
                          .report = self->report,
                          .go = self->attach};
    if (!kl_nest_enter(&nest))
        give_up(self, "user namespace");
    if (unshare(CLONE_NEWNET) != 0)
        give_up(self, "namespaces");
    const char *failed = kl_layers_mount(self->layers);
    if (failed != NULL)
        give_up(self, failed);
    kl_layers_close(self->layers);
    if (write(self->report, "\n", 1) != 1 || read(self->attach, &byte, 1) != 1)
        _exit(1);
    for (bool first = true;; first = false) {
        int status = 0;
        pid_t pid = start_init(self);
        if (first)
            let_go(self);
        while (waitpid(pid, &status, 0) != pid) {
            if (errno != EINTR)
                _exit(1);
        }
        // reboot(2): in a PID namespace a restart ends its init by SIGHUP, a halt by SIGINT.
        if (WIFSIGNALED(status) && WTERMSIG(status) == SIGHUP)
            continue;
        if (WIFSIGNALED(status) && WTERMSIG(status) == SIGINT && ftruncate(self->pid_file, 0) != 0)
            _exit(1);
        _exit(0);
    }
}

// systemd in the machine must own its group: it makes its own below.
static bool give_group(const shim *self, const char *path, kl_failure *failure)
{
    static const char *const files[] = {"", "/cgroup.procs", "/cgroup.subtree_control",
                                        "/cgroup.threads"};
    char file[PATH_MAX + 32];
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        snprintf(file, sizeof file, "%s%s", path, files[i]);
        if (chown(file, self->site->ordinary ? self->site->uid : self->root,
                  self->site->ordinary ? self->site->gid : self->root) != 0) {
            kl_failure_errno(failure, errno, file);
            return false;
        }
    }
    return true;
}

// Groups cost the host time and memory, nested ones most: a machine's systemd has about 60 of them,
// five deep.
static bool limit_groups(const shim *self, kl_failure *failure)
{
    char path[PATH_MAX];
    return kl_cgroup_make(path, sizeof path, self->site, self->name, failure) &&
           kl_cgroup_limit(path, "cgroup.max.depth", "32", failure) &&
           kl_cgroup_limit(path, "cgroup.max.descendants", "1000", failure);
}

static bool open_groups(shim *self, char *outer, size_t size, kl_failure *failure)
{
    char name[300], path[PATH_MAX];
    if (!limit_groups(self, failure))
        return false;
    snprintf(name, sizeof name, "%s/payload", self->name);
    if (!kl_cgroup_make(path, sizeof path, self->site, name, failure) ||
        !give_group(self, path, failure))
        return false;
    strncat(path, "/cgroup.procs", sizeof path - strlen(path) - 1);
    self->payload = open(path, O_WRONLY | O_CLOEXEC);
    kl_site_path(self->site, path, sizeof path, "machines/%s/pid", self->name);
    self->pid_file = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (self->payload < 0 || self->pid_file < 0) {
        kl_failure_errno(failure, errno, path);
        return false;
    }
    snprintf(name, sizeof name, "%s/shim", self->name);
    return kl_cgroup_make(outer, size, self->site, name, failure);
}

// Reads what the shim reports: a byte when it needs ids, one when its root is mounted and a cable
// is to come, then nothing, or what failed.
static bool see_it_run(const shim *self, pid_t pid, int report, int attach, const char *address,
                       kl_failure *failure)
{
    char text[512];
    ssize_t got = read(report, text, sizeof text - 1);
    for (; got == 1 && (text[0] == '?' || text[0] == '\n');
         got = read(report, text, sizeof text - 1)) {
        bool ok = text[0] == '?' ? kl_nest_map(self->site, pid, self->root, failure)
                                 : kl_net_attach(self->site, pid, address, failure);
        if (!ok)
            return false;
        if (write(attach, "", 1) != 1)
            break;
    }
    if (got == 0)
        return true; // every copy of the pipe is closed: init runs
    text[got > 0 ? got : 0] = '\0';
    kl_failure_set(failure, "unsupported", 0, "machine %s does not start: %s", self->name,
                   got > 0 ? text : "its shim died");
    return false;
}

static pid_t fork_shim(shim *self, const char *group, const int *report, const int *attach)
{
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    char path[PATH_MAX + 16];
    close(report[0]);
    close(attach[1]);
    snprintf(path, sizeof path, "%s/cgroup.procs", group);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, "0", 1) != 1)
        give_up(self, path);
    close(fd);
    for (int i = 0; i < KL_LIMITS; i++) {
        if (self->limits[i] >= 0 && write(self->limits[i], "0", 1) != 1)
            give_up(self, kl_limits_names[i]);
    }
    run_shim(self);
    _exit(1);
}

// Who makes the machine's namespaces: the first id of a block of its own, or, within an ordinary
// user's ids, one by its address.
static bool choose_ids(shim *self, const char *address, kl_failure *failure)
{
    if (self->site->ordinary) {
        self->root = 60000 + (unsigned)atoi(strrchr(address, '.') + 1);
        return true;
    }
    self->block = kl_range_block(self->site, &self->root, failure);
    return self->block >= 0;
}

static bool start(shim *self, const char *group, const char *address, kl_failure *failure)
{
    int report[2], attach[2];
    if (pipe2(report, O_CLOEXEC) != 0 || pipe2(attach, O_CLOEXEC) != 0) {
        kl_failure_errno(failure, errno, "pipe");
        return false;
    }
    self->report = report[1];
    self->attach = attach[0];
    pid_t pid = fork_shim(self, group, report, attach);
    close(report[1]);
    close(attach[0]);
    bool ok = pid > 0 && see_it_run(self, pid, report[0], attach[1], address, failure);
    close(report[0]);
    close(attach[1]);
    return ok;
}

// Before it has its cable: what a machine of this address could reach before is not its own.
static bool apply_peers(kl_site *site, kl_failure *failure)
{
    if (!kl_site_lock(site, failure))
        return false;
    bool ok = kl_peers_apply(site, failure);
    kl_site_unlock(site);
    return ok;
}

bool kl_shim_boot(kl_site *site, const char *name, const char *layers, const kl_fields *meta,
                  int own, kl_failure *failure)
{
    char group[PATH_MAX];
    kl_layers tree = {.folder = -1, .own = -1};
    const char *address = kl_fields_get(meta, "address");
    shim self = {.site = site,
                 .name = name,
                 .layers = &tree,
                 .block = -1,
                 .limits = {-1, -1},
                 .bytes = kl_memory_bytes(kl_fields_get(meta, "memory")),
                 .payload = -1,
                 .pid_file = -1};
    bool ok = kl_range_reserve(site, failure) && choose_ids(&self, address, failure) &&
              open_groups(&self, group, sizeof group, failure) &&
              kl_limits_set(site, name, meta, self.limits, failure) &&
              kl_layers_open(&tree, site, name, layers, self.root, own, failure) &&
              apply_peers(site, failure) && start(&self, group, address, failure);
    const int open_files[] = {self.payload, self.pid_file, self.block, self.limits[0],
                              self.limits[1]};
    for (size_t i = 0; i < sizeof open_files / sizeof open_files[0]; i++) {
        if (open_files[i] >= 0)
            close(open_files[i]);
    }
    kl_layers_close(&tree);
    if (!ok) {
        kl_failure ignored;
        if (kl_cgroup_path(group, sizeof group, site, name))
            kl_cgroup_destroy(group, &ignored);
        kl_limits_release(site, name);
    }
    return ok;
}
