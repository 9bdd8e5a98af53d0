// fault_proxy PORT FAULT…: passes TCP connections on to a port of this machine, and fails them.
//
// For each fault it listens on a port of its own and prints it. Faults, one an argument:
//   none             none
//   cut DIR N        after N bytes both sides are reset
//   end DIR N        after N bytes both sides are closed; what was passed on arrives
//   stall DIR N      after N bytes nothing moves any more, in either direction
//   flip DIR N       bit 4 of byte N (from 0) is another one: in a packet's length, libssh2 has an
//                    assertion for the lower ones
//   delay DIR N MS   after N bytes that direction waits once
// DIR is up (to the server) or down. Ends when its standard output closes.
#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { FAULTS = 512, PAIRS = 64, ROOM = 16384, UP = 0, DOWN = 1 };

typedef struct fault {
    char kind[8];
    int direction;
    long long at;
    long long ms;
} fault;

typedef struct flow {
    long long passed;
    char bytes[ROOM];
    size_t start;
    size_t end;
    bool ended; // its reader saw the end
    bool told;  // its writer was told so
} flow;

typedef struct pair {
    int fd[2]; // client, server; -1: free
    flow flow[2];
    fault fault;
    bool stalled;
    bool waited;
    long long until; // the delayed direction waits until then
} pair;

static pair pairs[PAIRS];
static fault faults[FAULTS];
static int listeners[FAULTS];
static int fault_count;
static int target;

static long long now_ms(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * 1000LL + at.tv_nsec / 1000000;
}

static struct sockaddr_in loopback(int port)
{
    return (struct sockaddr_in){.sin_family = AF_INET,
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                .sin_port = htons((unsigned short)port)};
}

static void drop(pair *one, bool reset)
{
    struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    for (int side = 0; side < 2; side++) {
        if (reset)
            setsockopt(one->fd[side], SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
        close(one->fd[side]);
        one->fd[side] = -1;
    }
}

static bool is(const pair *one, const char *kind)
{
    return strcmp(one->fault.kind, kind) == 0;
}

static void take_connection(int index)
{
    int client = accept(listeners[index], NULL, NULL), server = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = loopback(target);
    pair *one = pairs;
    while (one < pairs + PAIRS && one->fd[0] >= 0)
        one++;
    if (client < 0 || server < 0 || one == pairs + PAIRS ||
        connect(server, (struct sockaddr *)&address, sizeof address) != 0) {
        close(client);
        close(server);
        return;
    }
    memset(one, 0, sizeof *one);
    one->fd[0] = client;
    one->fd[1] = server;
    one->fault = faults[index];
    fcntl(client, F_SETFL, O_NONBLOCK);
    fcntl(server, F_SETFL, O_NONBLOCK);
}

// How many more bytes may go in this direction before the fault; none while it holds them.
static long long allowed(const pair *one, int direction, long long now)
{
    if (one->stalled)
        return 0;
    if (is(one, "none") || is(one, "flip") || one->fault.direction != direction)
        return ROOM;
    long long left = one->fault.at - one->flow[direction].passed;
    if (is(one, "delay") && left <= 0)
        return one->waited && now >= one->until ? ROOM : 0;
    return left;
}

// The direction has come to its fault.
static void strike(pair *one, long long now)
{
    if (is(one, "cut"))
        drop(one, true);
    else if (is(one, "end"))
        drop(one, false);
    else if (is(one, "stall"))
        one->stalled = true;
    else if (is(one, "delay") && !one->waited) {
        one->waited = true;
        one->until = now + one->fault.ms;
    }
}

static void flip(pair *one, int direction)
{
    flow *way = &one->flow[direction];
    long long at = one->fault.at - way->passed;
    if (is(one, "flip") && one->fault.direction == direction && at >= 0 &&
        at < (long long)(way->end - way->start))
        way->bytes[way->start + (size_t)at] ^= 1 << 4;
}

static bool fill(pair *one, int direction)
{
    flow *way = &one->flow[direction];
    ssize_t got = read(one->fd[direction], way->bytes, ROOM);
    if (got < 0)
        return false;
    way->start = 0;
    way->end = (size_t)got;
    way->ended = got == 0;
    flip(one, direction);
    return true;
}

static bool pass(pair *one, int direction, long long most)
{
    flow *way = &one->flow[direction];
    size_t length = way->end - way->start;
    if ((long long)length > most)
        length = (size_t)most;
    ssize_t sent = write(one->fd[1 - direction], way->bytes + way->start, length);
    if (sent < 0)
        return false;
    way->start += (size_t)sent;
    way->passed += sent;
    return true;
}

// Moves what can be moved; false: the pair is gone.
static bool move(pair *one, int direction, short readable, short writable, long long now)
{
    flow *way = &one->flow[direction];
    if (way->start == way->end && !way->ended && (readable & (POLLIN | POLLHUP | POLLERR)) &&
        !one->stalled && !fill(one, direction)) {
        drop(one, true);
        return false;
    }
    long long most = allowed(one, direction, now);
    if (most > 0 && way->start < way->end && (writable & POLLOUT) && !pass(one, direction, most)) {
        drop(one, true);
        return false;
    }
    if (!is(one, "none") && one->fault.direction == direction && way->passed >= one->fault.at)
        strike(one, now);
    if (one->fd[0] < 0)
        return false;
    if (way->ended && !way->told && way->start == way->end && !one->stalled) {
        way->told = true;
        shutdown(one->fd[1 - direction], SHUT_WR);
        if (one->flow[1 - direction].told) {
            drop(one, false);
            return false;
        }
    }
    return true;
}

static short wanted(const pair *one, int side, long long now)
{
    const flow *out = &one->flow[side], *in = &one->flow[1 - side];
    short events = 0;
    if (!one->stalled && out->start == out->end && !out->ended)
        events |= POLLIN;
    if (in->start < in->end && allowed(one, 1 - side, now) > 0)
        events |= POLLOUT;
    return events;
}

static fault parse(const char *text)
{
    fault made = {0};
    char direction[8] = "up";
    sscanf(text, "%7s %7s %lld %lld", made.kind, direction, &made.at, &made.ms);
    made.direction = strcmp(direction, "down") == 0 ? DOWN : UP;
    return made;
}

static int listen_loopback(void)
{
    struct sockaddr_in address = loopback(0);
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, size) != 0 || listen(fd, PAIRS) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &size) != 0)
        exit(1);
    printf("%d\n", ntohs(address.sin_port));
    return fd;
}

// What is to be polled: the output, the pairs, the listeners. A socket that waits for nothing is
// left out, or its end would be told over and over.
static nfds_t gather(struct pollfd *polled, long long now)
{
    nfds_t count = 0;
    polled[count++] = (struct pollfd){STDOUT_FILENO, 0, 0};
    for (int i = 0; i < PAIRS; i++) {
        for (int side = 0; side < 2; side++) {
            bool open = pairs[i].fd[0] >= 0;
            short events = open ? wanted(&pairs[i], side, now) : 0;
            polled[count++] = (struct pollfd){events != 0 ? pairs[i].fd[side] : -1, events, 0};
        }
    }
    for (int i = 0; i < fault_count; i++)
        polled[count++] = (struct pollfd){listeners[i], POLLIN, 0};
    return count;
}

static void move_all(const struct pollfd *polled, long long now)
{
    for (int i = 0; i < PAIRS; i++) {
        short client = polled[2 * i].revents, server = polled[2 * i + 1].revents;
        if (pairs[i].fd[0] >= 0 && move(&pairs[i], UP, client, server, now))
            move(&pairs[i], DOWN, server, client, now);
    }
}

int main(int argc, char **argv)
{
    if (argc < 3 || argc - 2 > FAULTS)
        return 64;
    target = atoi(argv[1]);
    signal(SIGPIPE, SIG_IGN);
    for (int i = 0; i < PAIRS; i++)
        pairs[i].fd[0] = pairs[i].fd[1] = -1;
    for (fault_count = 0; fault_count < argc - 2; fault_count++) {
        faults[fault_count] = parse(argv[fault_count + 2]);
        listeners[fault_count] = listen_loopback();
    }
    fflush(stdout);
    static struct pollfd polled[1 + 2 * PAIRS + FAULTS];
    for (;;) {
        nfds_t count = gather(polled, now_ms());
        if (poll(polled, count, 20) < 0 || (polled[0].revents & (POLLERR | POLLHUP)))
            return 0;
        move_all(polled + 1, now_ms());
        for (int i = 0; i < fault_count; i++) {
            if (polled[1 + 2 * PAIRS + i].revents)
                take_connection(i);
        }
    }
}
