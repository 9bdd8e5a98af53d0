// Who a process is, and the names of signals.
#include "io/process_info.h"

#include <pwd.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void read_line(const char *path, char *out, size_t size)
{
    out[0] = '\0';
    FILE *in = fopen(path, "re");
    if (in == NULL)
        return;
    size_t got = fread(out, 1, size - 1, in);
    out[got] = '\0';
    out[strcspn(out, "\n")] = '\0';
    fclose(in);
}

// proc(5), /proc/pid/stat: state is field 3, starttime field 22; field 2 may hold blanks and ')'.
int64_t kl_process_start_time(int pid)
{
    char path[64];
    char text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    read_line(path, text, sizeof text);
    char *at = strrchr(text, ')');
    if (at == NULL || at[1] == '\0' || at[2] == 'Z' || at[2] == 'X')
        return 0;
    for (int field = 2; field < 22 && at != NULL; field++)
        at = strchr(at + 1, ' ');
    return at == NULL ? 0 : strtoll(at, NULL, 10);
}

// Whether /proc counts processes as we do: in a PID namespace of our own it may be an outer one's.
static bool is_own_proc(int pid)
{
    char self[32];
    ssize_t length = readlink("/proc/self", self, sizeof self - 1);
    self[length > 0 ? length : 0] = '\0';
    return atoi(self) == pid;
}

void kl_process_info_read(kl_process_info *out)
{
    *out = (kl_process_info){.pid = getpid(), .ppid = getppid(), .uid = geteuid()};
    out->start_time = kl_process_start_time(out->pid);
    gethostname(out->host, sizeof out->host - 1);
    struct passwd entry;
    struct passwd *found = NULL;
    char space[4096];
    if (getpwuid_r(geteuid(), &entry, space, sizeof space, &found) == 0 && found != NULL)
        snprintf(out->user, sizeof out->user, "%s", found->pw_name);
    else
        snprintf(out->user, sizeof out->user, "%u", (unsigned)geteuid());
    ssize_t length = readlink("/proc/self/exe", out->exe, sizeof out->exe - 1);
    out->exe[length > 0 ? length : 0] = '\0';
    read_line("/proc/sys/kernel/random/boot_id", out->boot_id, sizeof out->boot_id);
    if (!is_own_proc(out->pid))
        return;
    length = readlink("/proc/self/ns/pid", out->pid_namespace, sizeof out->pid_namespace - 1);
    out->pid_namespace[length > 0 ? length : 0] = '\0';
}

const char *kl_signal_name(int number)
{
    const char *name = sigabbrev_np(number);
    return name != NULL ? name : "?";
}

int kl_signal_number(const char *name)
{
    if (strncmp(name, "SIG", 3) == 0)
        name += 3;
    for (int number = 1; number < NSIG; number++) {
        const char *known = sigabbrev_np(number);
        if (known != NULL && strcmp(known, name) == 0)
            return number;
    }
    return 0;
}
