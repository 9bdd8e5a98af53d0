// The portal: a process in the network outside of an ordinary user's router, which makes sockets
// there for kiln. Entering a user namespace is for processes without threads only; kiln has some.
#include "io/machine.h"

#include "io/process_info.h"
#include "io/route.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static bool answer(const kl_route_request *request)
{
    int fd = socket(request->family, request->type | SOCK_CLOEXEC, request->protocol);
    int error = fd < 0 ? errno : 0;
    char space[CMSG_SPACE(sizeof fd)] = {0};
    struct iovec bytes = {&error, sizeof error};
    struct msghdr message = {.msg_iov = &bytes, .msg_iovlen = 1};
    if (fd >= 0) {
        message.msg_control = space;
        message.msg_controllen = sizeof space;
        struct cmsghdr *part = CMSG_FIRSTHDR(&message);
        part->cmsg_level = SOL_SOCKET;
        part->cmsg_type = SCM_RIGHTS;
        part->cmsg_len = CMSG_LEN(sizeof fd);
        memcpy(CMSG_DATA(part), &fd, sizeof fd);
    }
    bool sent = sendmsg(STDIN_FILENO, &message, MSG_NOSIGNAL) == (ssize_t)sizeof error;
    if (fd >= 0)
        close(fd);
    return sent;
}

int kl_portal_main(int argc, char **argv)
{
    pid_t router = argc > 3 ? atoi(argv[3]) : 0;
    int life = router > 1 ? (int)syscall(SYS_pidfd_open, router, 0) : -1;
    if (life < 0 || argc < 5 || kl_process_start_time(router) != atoll(argv[4]) ||
        !kl_enter_outside(router))
        return 1;
    for (;;) {
        struct pollfd waits[] = {{STDIN_FILENO, POLLIN, 0}, {life, POLLIN, 0}};
        if (poll(waits, 2, -1) < 0) {
            if (errno == EINTR)
                continue;
            return 1;
        }
        kl_route_request request;
        if (waits[1].revents != 0)
            return 0; // the network is gone with its router
        if (recv(STDIN_FILENO, &request, sizeof request, 0) != (ssize_t)sizeof request ||
            !answer(&request))
            return 0;
    }
}
