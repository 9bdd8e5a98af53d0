// tcp_server: answers each TCP connection in one wrong way, for specs of clients.
//
//   close         ends the connection at once, with a reset
//   read-close    reads a request to the end of its headers, then ends the connection
//   stall         reads and never answers
//   answer TEXT   reads a request, writes TEXT (escaped: \r, \n), ends the connection
//   headers TEXT  the same, with a status line first and TEXT a thousand times
//   early TEXT    writes TEXT when the headers are there and goes on reading
//   once TEXT     as answer, but keeps the connection until a second request came on it
//
// Prints its port, then a line for each request; ends when its standard output closes.
#include <arpa/inet.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CLIENTS = 64, HEAD = 4096 };

typedef struct client {
    int fd; // -1: free
    size_t used;
    int requests;
    char head[HEAD];
} client;

static client clients[CLIENTS];
static const char *mode;
static char text[65536];

static void unescape(const char *from)
{
    char *to = text;
    for (; *from != '\0' && to < text + sizeof text - 1; from++) {
        bool escaped = from[0] == '\\' && (from[1] == 'r' || from[1] == 'n');
        *to++ = !escaped ? *from : from[1] == 'r' ? '\r' : '\n';
        from += escaped;
    }
}

static void end(client *one)
{
    close(one->fd);
    *one = (client){.fd = -1};
}

static void reset(int fd)
{
    struct linger now = {.l_onoff = 1, .l_linger = 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close(fd);
}

static void accept_one(int listener)
{
    int fd = accept(listener, NULL, NULL);
    if (fd < 0)
        return;
    if (strcmp(mode, "close") == 0) {
        reset(fd);
        return;
    }
    for (client *one = clients; one < clients + CLIENTS; one++) {
        if (one->fd < 0) {
            one->fd = fd;
            return;
        }
    }
    close(fd);
}

static void answer(client *one)
{
    one->requests++;
    one->used = 0;
    if (one->requests == 1 || strcmp(mode, "once") == 0) { // not each piece of a body
        printf("request\n");
        fflush(stdout);
    }
    bool early = strcmp(mode, "early") == 0;
    if (early && one->requests == 1 && write(one->fd, text, strlen(text)) < 0)
        end(one);
    if (early || strcmp(mode, "stall") == 0)
        return;
    bool once = strcmp(mode, "once") == 0;
    int times = strcmp(mode, "headers") == 0  ? 1000
                : strcmp(mode, "answer") == 0 ? 1
                                              : once && one->requests == 1;
    const char *status = "HTTP/1.1 200 OK\r\n";
    if (times == 1000 && write(one->fd, status, strlen(status)) < 0)
        times = 0;
    while (times-- > 0 && write(one->fd, text, strlen(text)) > 0)
        continue;
    if (!once || one->requests > 1)
        end(one);
}

static void read_one(client *one)
{
    ssize_t got = read(one->fd, one->head + one->used, sizeof one->head - 1 - one->used);
    if (got <= 0) {
        end(one);
        return;
    }
    one->used += (size_t)got;
    one->head[one->used] = '\0';
    if (strstr(one->head, "\r\n\r\n") != NULL || one->used == sizeof one->head - 1)
        answer(one);
}

static int listen_loopback(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, size) != 0 || listen(fd, CLIENTS) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &size) != 0)
        exit(1);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    mode = argc > 1 ? argv[1] : "close";
    unescape(argc > 2 ? argv[2] : "");
    for (int i = 0; i < CLIENTS; i++)
        clients[i].fd = -1;
    struct pollfd polled[CLIENTS + 2] = {{STDOUT_FILENO, 0, 0}, {listen_loopback(), POLLIN, 0}};
    while (poll(polled, CLIENTS + 2, -1) >= 0) {
        if (polled[0].revents & (POLLERR | POLLHUP))
            return 0;
        for (int i = 0; i < CLIENTS; i++) {
            if (clients[i].fd >= 0 && polled[i + 2].fd == clients[i].fd && polled[i + 2].revents)
                read_one(&clients[i]);
        }
        if (polled[1].revents)
            accept_one(polled[1].fd);
        for (int i = 0; i < CLIENTS; i++)
            polled[i + 2] = (struct pollfd){clients[i].fd, POLLIN, 0};
    }
    return 1;
}
