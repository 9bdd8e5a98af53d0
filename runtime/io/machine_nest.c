// A machine's user namespaces. The outer one holds bounds that root of the inner one cannot lift;
// the inner one is the machine's.
//
// Whoever makes a user namespace pays for what is in it (inotify instances, processes), so each
// machine's is made by an id of its own: the first one of its block, or one of an ordinary user's.
// RLIMIT_NPROC of that moment bounds all processes in it together, whatever their ids.
#include "io/machine.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

// Takes the id, and keeps the right to make namespaces, which hosts may refuse to ordinary ids.
static bool become_creator(const kl_nest *self)
{
    const rlim_t most = (rlim_t)self->processes;
    const struct rlimit processes = {most, most};
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct rights[2] = {0};
    if (setrlimit(RLIMIT_NPROC, &processes) != 0 || prctl(PR_SET_KEEPCAPS, 1) != 0 ||
        setgroups(0, NULL) != 0 || setresgid(self->creator, self->creator, self->creator) != 0 ||
        setresuid(self->creator, self->creator, self->creator) != 0 ||
        syscall(SYS_capget, &header, rights) != 0)
        return false;
    rights[0].effective = rights[0].permitted;
    rights[1].effective = rights[1].permitted;
    return syscall(SYS_capset, &header, rights) == 0 && prctl(PR_SET_DUMPABLE, 1) == 0;
}

// What is in the inner namespace counts for the outer one too (namespaces(7), /proc/sys/user).
static bool set_bounds(void)
{
    static const struct {
        const char *name, *most;
    } bounds[] = {{"user", "64"}, {"net", "64"},  {"mnt", "1024"},   {"pid", "256"},
                  {"uts", "256"}, {"ipc", "256"}, {"cgroup", "256"}, {"time", "64"}};
    for (size_t i = 0; i < sizeof bounds / sizeof bounds[0]; i++) {
        char path[64];
        snprintf(path, sizeof path, "/proc/sys/user/max_%s_namespaces", bounds[i].name);
        int fd = open(path, O_WRONLY | O_CLOEXEC);
        bool ok = fd < 0 ? errno == ENOENT : write(fd, bounds[i].most, strlen(bounds[i].most)) > 0;
        if (fd >= 0)
            close(fd);
        if (!ok)
            return false;
    }
    return true;
}

// Two lines: a line of an ordinary user's outer map may not be spanned.
static const char same_ids[] = "0 0 1\n1 1 65535\n";

// The inner map is written by a process of the outer namespace.
static bool make_inner(void)
{
    int made[2], status = 1;
    char byte;
    pid_t parent = getpid();
    if (pipe2(made, O_CLOEXEC) != 0)
        return false;
    pid_t writer = fork();
    if (writer == 0) {
        kl_failure ignored = {0};
        close(made[1]);
        _exit(read(made[0], &byte, 1) == 1 && kl_ids_write_map(parent, same_ids, &ignored) ? 0 : 1);
    }
    bool ok = writer > 0 && unshare(CLONE_NEWUSER) == 0 && write(made[1], "", 1) == 1;
    close(made[0]);
    close(made[1]);
    while (writer > 0 && waitpid(writer, &status, 0) < 0 && errno == EINTR)
        ;
    return ok && status == 0 && kl_enter(0);
}

bool kl_nest_enter(const kl_nest *self)
{
    char byte = '?';
    return kl_enter_site(self->site) && become_creator(self) && unshare(CLONE_NEWUSER) == 0 &&
           write(self->report, &byte, 1) == 1 && read(self->go, &byte, 1) == 1 && kl_enter(0) &&
           set_bounds() && make_inner();
}

bool kl_nest_map(const kl_site *site, pid_t pid, unsigned first, kl_failure *failure)
{
    char map[64];
    int status = 1;
    if (!site->ordinary) {
        snprintf(map, sizeof map, "0 %u %d\n", first, KL_IDS);
        return kl_ids_write_map(pid, map, failure);
    }
    pid_t writer = fork();
    if (writer == 0)
        _exit(kl_enter_site(site) && kl_ids_write_map(pid, same_ids, failure) ? 0 : 1);
    while (writer > 0 && waitpid(writer, &status, 0) < 0 && errno == EINTR)
        ;
    if (status != 0)
        kl_failure_set(failure, "unsupported", 0, "a machine's user namespace gets no ids");
    return status == 0;
}
