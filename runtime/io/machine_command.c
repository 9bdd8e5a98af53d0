// Programs run to their end for a machine: by argv, in namespaces and a cgroup.
#include "io/machine.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

// Root of the namespace: the capabilities stay, and files that we make are the machine's.
static bool become_root(void)
{
    return setgroups(0, NULL) == 0 && setresgid(0, 0, 0) == 0 && setresuid(0, 0, 0) == 0 &&
           prctl(PR_SET_DUMPABLE, 1) == 0;
}

static bool enter(int process, int namespaces)
{
    bool ok = process >= 0 && setns(process, namespaces) == 0;
    if (process >= 0)
        close(process);
    return ok;
}

static int open_process(pid_t pid)
{
    return (int)syscall(SYS_pidfd_open, pid, 0);
}

bool kl_enter(pid_t pid)
{
    return (pid == 0 || enter(open_process(pid), CLONE_NEWUSER)) && become_root();
}

bool kl_enter_site(const kl_site *site)
{
    return !site->ordinary || kl_enter(site->router);
}

bool kl_enter_net(const kl_site *site, pid_t pid)
{
    return kl_enter_site(site) && enter(open_process(pid), CLONE_NEWNET);
}

bool kl_enter_outside(pid_t router)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)router, KL_ROUTER_OUTSIDE);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd >= 0 && kl_enter(router) && enter(fd, CLONE_NEWNET);
}

bool kl_command_exists(const char *name)
{
    char *const argv[] = {"sh", "-c", "command -v \"$0\" >/dev/null", (char *)(uintptr_t)name,
                          NULL};
    kl_command command = {.argv = argv};
    kl_failure ignored;
    return kl_command_run(&command, NULL, &ignored);
}

static bool enter_all(const kl_command *command)
{
    const kl_site *site = command->site;
    switch (command->as) {
    case KL_AS_LAYERS:
        return kl_enter(site->router);
    case KL_AS_OUTSIDE:
        return !site->ordinary || kl_enter_outside(site->router);
    case KL_AS_NET:
        return kl_enter_net(site, command->net);
    case KL_AS_IS:
        break;
    }
    return true;
}

static bool join_cgroup(const char *cgroup)
{
    char path[PATH_MAX + 16];
    snprintf(path, sizeof path, "%s/cgroup.procs", cgroup);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool ok = fd >= 0 && write(fd, "0", 1) == 1;
    if (fd >= 0)
        close(fd);
    return ok;
}

// In the child: never returns.
static void become(const kl_command *command, int input, int output)
{
    bool ready = command->cgroup == NULL || join_cgroup(command->cgroup);
    ready = ready && (command->dir == NULL || chdir(command->dir) == 0);
    if (ready && enter_all(command)) {
        signal(SIGPIPE, SIG_DFL);
        dup2(input, STDIN_FILENO);
        dup2(output, STDOUT_FILENO);
        dup2(output, STDERR_FILENO);
        close_range(3, ~0U, 0);
        execvp(command->argv[0], command->argv);
    }
    dprintf(output, "%s: %s", command->argv[0], strerror(errno));
    _exit(127);
}

static int open_input(const kl_command *command)
{
    if (command->input_file != NULL)
        return open(command->input_file, O_RDONLY | O_CLOEXEC);
    const char *text = command->input;
    int fd = memfd_create("input", MFD_CLOEXEC);
    size_t length = text != NULL ? strlen(text) : 0;
    if (fd >= 0 && length > 0 &&
        (write(fd, text, length) != (ssize_t)length || lseek(fd, 0, SEEK_SET) != 0)) {
        close(fd);
        return -1;
    }
    return fd;
}

static bool fail_status(const kl_command *command, int status, kl_buf *words, kl_failure *failure)
{
    while (words->length > 0 && words->data[words->length - 1] == '\n')
        words->data[--words->length] = '\0';
    size_t skip = words->length > 300 ? words->length - 300 : 0;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
        kl_failure_set(failure, "not_found", 127, "cannot run %s", kl_buf_text(words));
    else
        kl_failure_set(failure, "exit", WIFEXITED(status) ? WEXITSTATUS(status) : -1, "%s: %s",
                       command->argv[0], kl_buf_text(words) + skip);
    return false;
}

bool kl_command_run(const kl_command *command, kl_buf *out, kl_failure *failure)
{
    int ends[2];
    int input = open_input(command);
    if (input < 0 || pipe2(ends, O_CLOEXEC) != 0) {
        kl_failure_errno(failure, errno, command->argv[0]);
        return false;
    }
    pid_t pid = fork();
    if (pid == 0)
        become(command, input, ends[1]);
    close(ends[1]);
    close(input);
    if (pid < 0) {
        close(ends[0]);
        kl_failure_errno(failure, errno, "fork");
        return false;
    }
    kl_buf words = {0};
    char block[4096];
    ssize_t got;
    // A daemon that the program leaves behind has the pipe too: its parent's end is what counts, so
    // such programs are told to keep quiet or are given a file.
    while ((got = read(ends[0], block, sizeof block)) > 0 || (got < 0 && errno == EINTR))
        kl_buf_append(&words, block, got > 0 ? (size_t)got : 0);
    close(ends[0]);
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    bool ok = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    if (!ok)
        fail_status(command, status, &words, failure);
    else if (out != NULL)
        kl_buf_append(out, words.data, words.length);
    kl_buf_free(&words);
    return ok;
}
