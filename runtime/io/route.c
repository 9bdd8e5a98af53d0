// Sockets for addresses that only another network namespace reaches.
#include "io/route.h"

#include "base/buf.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PATIENCE_S = 10 }; // with a portal that is just starting on a busy host

// A site's network as its file `router` tells it (machine_router.c), and the portal into it.
typedef struct route {
    struct route *next;
    char file[PATH_MAX];
    struct stat seen; // the file when it was read
    int block;        // 0: the host reaches it, or there is no network
    char pid[24], start[24];
    int portal; // socket; -1: none
    pid_t process;
} route;

static route *routes;

void kl_route_add(const char *site_dir)
{
    char file[PATH_MAX];
    int used = snprintf(file, sizeof file, "%s/router", site_dir);
    if (used < 0 || (size_t)used >= sizeof file)
        return;
    for (const route *at = routes; at != NULL; at = at->next) {
        if (strcmp(at->file, file) == 0)
            return;
    }
    route *self = calloc(1, sizeof *self);
    if (self == NULL)
        abort();
    memcpy(self->file, file, sizeof file);
    self->portal = -1;
    self->next = routes;
    routes = self;
}

// The portal ends when its socket does.
static void close_portal(route *self)
{
    if (self->portal < 0)
        return;
    close(self->portal);
    self->portal = -1;
    while (waitpid(self->process, NULL, 0) < 0 && errno == EINTR)
        ;
}

// Reads "name NUL value NUL …".
static void parse(route *self, const char *at, const char *end)
{
    bool outside = false;
    while (at < end) {
        const char *value = at + strlen(at) + 1;
        if (value >= end)
            break;
        if (strcmp(at, "pid") == 0)
            snprintf(self->pid, sizeof self->pid, "%s", value);
        else if (strcmp(at, "start") == 0)
            snprintf(self->start, sizeof self->start, "%s", value);
        else if (strcmp(at, "block") == 0)
            self->block = atoi(value);
        else if (strcmp(at, "outside") == 0)
            outside = true;
        at = value + strlen(value) + 1;
    }
    if (!outside)
        self->block = 0;
}

// The file is replaced with every new router; until then what was read holds.
static void refresh(route *self)
{
    struct stat now;
    if (stat(self->file, &now) != 0) {
        close_portal(self);
        self->block = 0;
        self->seen = (struct stat){0};
        return;
    }
    if (now.st_ino == self->seen.st_ino && now.st_mtim.tv_sec == self->seen.st_mtim.tv_sec &&
        now.st_mtim.tv_nsec == self->seen.st_mtim.tv_nsec)
        return;
    close_portal(self);
    self->seen = now;
    self->block = 0;
    char text[512];
    int fd = open(self->file, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd >= 0 ? read(fd, text, sizeof text - 1) : 0;
    if (fd >= 0)
        close(fd);
    text[got > 0 ? got : 0] = '\0';
    if (got > 0)
        parse(self, text, text + got);
}

// The site whose networks, 10.199.block to 10.199.(block + 3), the address is of.
static route *find(const struct sockaddr *address)
{
    if (routes == NULL || address->sa_family != AF_INET)
        return NULL;
    uint32_t number = ntohl(((const struct sockaddr_in *)(const void *)address)->sin_addr.s_addr);
    int third = (int)(number >> 8 & 255);
    if (number >> 16 != (10 << 8 | 199))
        return NULL;
    for (route *at = routes; at != NULL; at = at->next) {
        refresh(at);
        if (at->block != 0 && third >= at->block && third < at->block + 4)
            return at;
    }
    return NULL;
}

static int spawn(route *self, int end)
{
    char *const argv[] = {(char *)(uintptr_t) "kiln",
                          (char *)(uintptr_t) "__machine",
                          (char *)(uintptr_t) "portal",
                          self->pid,
                          self->start,
                          NULL};
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_adddup2(&files, end, STDIN_FILENO);
    posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addopen(&files, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    // A session of its own: Ctrl-C is for kiln, which still has to reach the machines then.
    posix_spawnattr_setflags(&attributes,
                             POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSID);
    int error = posix_spawn(&self->process, "/proc/self/exe", &files, &attributes, argv, environ);
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attributes);
    return error;
}

static bool open_portal(route *self)
{
    int ends[2];
    const struct timeval patience = {.tv_sec = PATIENCE_S};
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
        return false;
    setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    errno = spawn(self, ends[1]);
    int error = errno;
    close(ends[1]);
    if (error != 0) {
        close(ends[0]);
        errno = error;
        return false;
    }
    self->portal = ends[0];
    return true;
}

// The socket; -1 and an errno. `*gone` when there is nobody to make one.
static int ask(const route *self, const kl_route_request *request, bool *gone)
{
    int error = 0, fd = -1;
    char space[CMSG_SPACE(sizeof fd)];
    struct iovec bytes = {&error, sizeof error};
    struct msghdr message = {
        .msg_iov = &bytes, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space};
    ssize_t got = send(self->portal, request, sizeof *request, MSG_NOSIGNAL);
    while (got >= 0 && (got = recvmsg(self->portal, &message, MSG_CMSG_CLOEXEC)) < 0 &&
           errno == EINTR)
        ;
    *gone = got != (ssize_t)sizeof error;
    const struct cmsghdr *part = *gone ? NULL : CMSG_FIRSTHDR(&message);
    if (part != NULL && part->cmsg_type == SCM_RIGHTS)
        memcpy(&fd, CMSG_DATA(part), sizeof fd);
    errno = *gone ? ENETUNREACH : error;
    return fd;
}

int kl_route_socket(const struct sockaddr *address, int type, int protocol)
{
    route *self = find(address);
    if (self == NULL)
        return socket(address->sa_family, type | SOCK_CLOEXEC, protocol);
    const kl_route_request request = {address->sa_family, type, protocol};
    bool gone = true;
    int fd = -1;
    for (int attempt = 0; gone && attempt < 2; attempt++) { // the second time with a new portal
        if (self->portal < 0 && !open_portal(self))
            return -1;
        fd = ask(self, &request, &gone);
        int error = errno;
        if (gone) {
            kill(self->process, SIGKILL);
            close_portal(self);
        }
        errno = error;
    }
    return fd;
}
