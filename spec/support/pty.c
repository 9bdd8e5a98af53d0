// pty: runs a command on a terminal of its own and sends it signals and keys at given moments.
//   pty [-c SECONDS] [-t SECONDS] [-a SECONDS] [-m TEXT] [-l LINE] COMMAND [ARGUMENT…]
// -c: Ctrl-C that long after the start; -t: SIGTERM; -a: SIGABRT; -m: not after the start but after
// TEXT was printed; -l: types LINE after TEXT. Prints what the command printed, then a line of its
// own: "pty: exit 4 termios same" or "pty: signal 2 termios changed".
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS = 8 };

static struct event {
    double at;
    char kind; // c, t, a, l
    const char *line;
    bool done;
} events[EVENTS];
static int count;
static const char *wanted; // text that starts the clock
static char seen[1 << 20];
static size_t length;

static double now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

static void fire(struct event *event, int master, pid_t pid)
{
    event->done = true;
    if (event->kind == 't' || event->kind == 'a')
        kill(pid, event->kind == 't' ? SIGTERM : SIGABRT);
    else if (event->kind == 'c' ? write(master, "\x03", 1) < 0
                                : dprintf(master, "%s\n", event->line) < 0)
        perror("pty");
}

// Copies what the command prints. Returns whether it may print more.
static bool copy(int master)
{
    char bytes[4096];
    ssize_t got = read(master, bytes, sizeof bytes);
    if (got <= 0)
        return got < 0 && errno == EINTR;
    fwrite(bytes, 1, (size_t)got, stdout);
    if (length + (size_t)got < sizeof seen) {
        memcpy(seen + length, bytes, (size_t)got);
        length += (size_t)got;
        seen[length] = '\0';
    }
    return true;
}

// Fires what is due; returns milliseconds until the next look.
static int fire_due(double start, int master, pid_t pid)
{
    double next = 0.02;
    for (int i = 0; i < count && start > 0; i++) {
        double left = start + events[i].at - now();
        if (!events[i].done && left <= 0)
            fire(&events[i], master, pid);
        else if (!events[i].done && left < next)
            next = left;
    }
    return (int)(next * 1000) + 1;
}

// Copies and fires until the command has ended and all it printed is read; returns its status.
static int drive(int master, pid_t pid)
{
    double start = wanted == NULL ? now() : 0;
    int status = 0;
    bool ended = false;
    for (;;) {
        if (start == 0 && strstr(seen, wanted) != NULL)
            start = now();
        struct pollfd ready = {.fd = master, .events = POLLIN};
        int got = poll(&ready, 1, ended ? 0 : fire_due(start, master, pid));
        if (got > 0 && !copy(master))
            ended = true;
        if (got == 0 && ended)
            return status;
        if (!ended)
            ended = waitpid(pid, &status, WNOHANG) == pid;
    }
}

static pid_t start(char **command, const char *slave, int master)
{
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    close(master);
    setsid();
    int fd = open(slave, O_RDWR); // becomes the controlling terminal
    if (fd < 0 || dup2(fd, 0) < 0 || dup2(fd, 1) < 0 || dup2(fd, 2) < 0)
        _exit(126);
    if (fd > 2)
        close(fd);
    execvp(command[0], command);
    _exit(127);
}

int main(int argc, char **argv)
{
    for (int option; (option = getopt(argc, argv, "+c:t:a:m:l:")) != -1;) {
        if (option == '?' || count == EVENTS)
            return 64;
        if (option == 'm')
            wanted = optarg;
        else
            events[count++] = (struct event){
                .at = option == 'l' ? 0 : atof(optarg), .kind = (char)option, .line = optarg};
    }
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (argc == optind || master < 0 || grantpt(master) != 0 || unlockpt(master) != 0)
        return 64;
    char slave[64];
    snprintf(slave, sizeof slave, "%s", ptsname(master));
    int held = open(slave, O_RDWR | O_NOCTTY | O_CLOEXEC); // keeps the settings when kiln is gone
    struct termios before, after;
    struct winsize size = {.ws_row = 24, .ws_col = 100};
    if (held < 0 || tcgetattr(held, &before) != 0 || ioctl(held, TIOCSWINSZ, &size) != 0)
        return 64;
    int status = drive(master, start(argv + optind, slave, master));
    bool same = tcgetattr(held, &after) == 0 && after.c_lflag == before.c_lflag &&
                after.c_iflag == before.c_iflag && after.c_oflag == before.c_oflag &&
                memcmp(after.c_cc, before.c_cc, sizeof after.c_cc) == 0;
    printf("\npty: %s %d termios %s\n", WIFEXITED(status) ? "exit" : "signal",
           WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status), same ? "same" : "changed");
    return 0;
}
