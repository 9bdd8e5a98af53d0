// Ending the program at once.
#include "base/ending.h"

#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static struct termios terminal;
static volatile sig_atomic_t terminal_fd = -1;

void kl_ending_terminal(int fd, const struct termios *before)
{
    terminal_fd = -1; // a signal between the lines finds nothing, or all of it
    if (before == NULL)
        return;
    terminal = *before;
    terminal_fd = fd;
}

void kl_core_dump(bool wanted)
{
    const char *filter = wanted ? "0x33" : "0"; // 0x33: the kernel's default
    struct rlimit limit;
    if (getrlimit(RLIMIT_CORE, &limit) == 0) {
        limit.rlim_cur = wanted ? limit.rlim_max : 0;
        setrlimit(RLIMIT_CORE, &limit);
    }
    int file = open("/proc/self/coredump_filter", O_WRONLY | O_CLOEXEC);
    if (file < 0)
        return;
    (void)!write(file, filter, strlen(filter));
    close(file);
}

// Gives the terminal back and says why.
static void leave(const char *text)
{
    if (terminal_fd >= 0) {
        sigset_t stop;
        sigemptyset(&stop);
        sigaddset(&stop, SIGTTOU); // in the background it would stop us here
        sigprocmask(SIG_BLOCK, &stop, NULL);
        tcsetattr(terminal_fd, TCSANOW, &terminal);
    }
    size_t length = strlen(text);
    while (length > 0) {
        ssize_t put = write(STDERR_FILENO, text, length);
        if (put <= 0)
            break;
        text += put;
        length -= (size_t)put;
    }
}

void kl_end_now(int status, const char *text)
{
    leave(text);
    _exit(status);
}

static void aborted(int signal)
{
    leave("kiln: a fault, its own or a library's; "
          "a run that was going on can be resumed: kiln runs\n");
    raise(signal); // ends the program: the handler is gone
}

void kl_ending_abort(void)
{
    struct sigaction action = {.sa_handler = aborted, .sa_flags = (int)SA_RESETHAND};
    sigemptyset(&action.sa_mask);
    sigaction(SIGABRT, &action, NULL);
}

void kl_out_of_memory(void)
{
    kl_end_now(1, "kiln: out of memory; a run that was going on can be resumed: kiln runs\n");
}

void *kl_need(void *pointer)
{
    if (pointer == NULL)
        kl_out_of_memory();
    return pointer;
}
