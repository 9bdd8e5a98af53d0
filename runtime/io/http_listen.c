// Where the HTTP server listens: an address or a unix socket.
#include "io/http_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static int listen_unix(const char *path, kl_failure *out)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) {
        kl_failure_set(out, "invalid", 0, "%s: longer than %zu bytes", path,
                       sizeof address.sun_path - 1);
        return -1;
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    mode_t before = umask(0177);
    bool bound = fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0;
    int error = errno;
    umask(before);
    if (bound && listen(fd, SOMAXCONN) == 0)
        return fd;
    kl_failure_errno(out, bound ? errno : error, path);
    if (!bound && error == EADDRINUSE)
        out->kind = "exists";
    if (bound)
        unlink(path);
    if (fd >= 0)
        close(fd);
    return -1;
}

static int listen_tcp(const kl_http_server_options *options, kl_failure *out)
{
    char where[300], port[8];
    snprintf(where, sizeof where, "%s:%d", options->host, options->port);
    snprintf(port, sizeof port, "%d", options->port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_PASSIVE};
    struct addrinfo *found = NULL;
    int code = getaddrinfo(options->host, port, &hints, &found);
    if (code != 0) {
        kl_failure_set(out, "invalid", code, "%s: no numeric address", options->host);
        return -1;
    }
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int yes = 1;
    bool listens = fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) == 0 &&
                   bind(fd, found->ai_addr, found->ai_addrlen) == 0 && listen(fd, SOMAXCONN) == 0;
    int error = errno;
    freeaddrinfo(found);
    if (listens)
        return fd;
    kl_failure_errno(out, error, where);
    if (error == EADDRINUSE)
        out->kind = "exists";
    if (fd >= 0)
        close(fd);
    return -1;
}

int kl_http_listen_port(int fd)
{
    struct sockaddr_storage address;
    socklen_t size = sizeof address;
    if (getsockname(fd, (struct sockaddr *)&address, &size) != 0)
        return 0;
    if (address.ss_family == AF_INET)
        return ntohs(((struct sockaddr_in *)&address)->sin_port);
    return address.ss_family == AF_INET6 ? ntohs(((struct sockaddr_in6 *)&address)->sin6_port) : 0;
}

int kl_http_listen(const kl_http_server_options *options, kl_failure *out)
{
    return options->unix_socket != NULL ? listen_unix(options->unix_socket, out)
                                        : listen_tcp(options, out);
}
