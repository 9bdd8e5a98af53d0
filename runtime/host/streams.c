// The standard streams: open from the start, and checked at the end.
#include "host/streams.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

void kl_streams_begin(void)
{
    // Standard output for reading: a write there fails with EBADF, as it would on a closed one.
    static const int modes[] = {O_RDONLY, O_RDONLY, O_WRONLY};
    for (int fd = 0; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) != -1 || errno != EBADF)
            continue;
        int opened = open("/dev/null", modes[fd]);
        if (opened != -1 && opened != fd) // only where a lower one could not be opened
            close(opened);
    }
}

// Whether standard output is a pipe or a socket whose reader is gone: `kiln runs | head`.
static bool reader_left(void)
{
    struct pollfd out = {.fd = STDOUT_FILENO, .events = POLLOUT};
    return poll(&out, 1, 0) == 1 && (out.revents & POLLERR) != 0;
}

int kl_streams_end(int status)
{
    bool failed_before = ferror(stdout) != 0; // its reason is not known any more
    if (fflush(stdout) == 0 && !failed_before)
        return status;
    const char *reason = failed_before ? "some of the output is lost" : strerror(errno);
    bool quiet = reader_left();
    if (!quiet)
        fprintf(stderr, "kiln: cannot write to standard output: %s\n", reason);
    if (status != 0)
        return status;
    return quiet ? 128 + SIGPIPE : 1;
}
