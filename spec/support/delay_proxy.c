// delay_proxy PORT MS: passes TCP connections on to a port of this machine, each byte MS/2 later.
//
// It prints the port it listens on. What is on its way is bounded by memory only, so that the
// throughput is bounded by the programs at the two ends. Ends when its standard output closes.
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PIECE = 131072, STACK = 65536 };

typedef struct piece {
    struct piece *next;
    struct timespec due;
    ssize_t length; // 0 or less: the end
    char bytes[PIECE];
} piece;

// One direction of a connection: a thread reads, another writes when it is time.
typedef struct way {
    int from, to;
    pthread_mutex_t lock;
    pthread_cond_t more;
    piece *first, **last;
    piece *spare; // written, to be used again: new memory costs more than a copy
} way;

static int target;
static long delay_ns;

// A piece to read into.
static piece *blank(way *self)
{
    pthread_mutex_lock(&self->lock);
    piece *made = self->spare;
    if (made != NULL)
        self->spare = made->next;
    pthread_mutex_unlock(&self->lock);
    if (made == NULL && (made = malloc(sizeof *made)) == NULL)
        abort();
    made->next = NULL;
    return made;
}

static void push(way *self, piece *made)
{
    clock_gettime(CLOCK_MONOTONIC, &made->due);
    made->due.tv_nsec += delay_ns;
    made->due.tv_sec += made->due.tv_nsec / 1000000000;
    made->due.tv_nsec %= 1000000000;
    pthread_mutex_lock(&self->lock);
    *self->last = made;
    self->last = &made->next;
    pthread_cond_signal(&self->more);
    pthread_mutex_unlock(&self->lock);
}

static piece *pop(way *self)
{
    pthread_mutex_lock(&self->lock);
    while (self->first == NULL)
        pthread_cond_wait(&self->more, &self->lock);
    piece *taken = self->first;
    self->first = taken->next;
    if (self->first == NULL)
        self->last = &self->first;
    pthread_mutex_unlock(&self->lock);
    return taken;
}

static void give_back(way *self, piece *one)
{
    pthread_mutex_lock(&self->lock);
    one->next = self->spare;
    self->spare = one;
    pthread_mutex_unlock(&self->lock);
}

static void *read_way(void *argument)
{
    way *self = argument;
    piece *one;
    bool goes_on;
    do {
        one = blank(self);
        one->length = read(self->from, one->bytes, PIECE);
        goes_on = one->length > 0;
        push(self, one);
    } while (goes_on);
    return NULL;
}

static bool write_piece(int fd, const piece *one)
{
    ssize_t sent = 0, n = 0;
    while (sent < one->length &&
           (n = write(fd, one->bytes + sent, (size_t)(one->length - sent))) > 0)
        sent += n;
    return n >= 0;
}

static void *write_way(void *argument)
{
    way *self = argument;
    for (;;) {
        piece *one = pop(self);
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &one->due, NULL) != 0)
            ;
        bool goes_on = one->length > 0 && write_piece(self->to, one);
        give_back(self, one);
        if (!goes_on)
            break;
    }
    shutdown(self->to, SHUT_WR); // the descriptors stay: a proxy's life is short
    return NULL;
}

static void start(void *(*body)(void *), way *self)
{
    pthread_t thread;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    if (pthread_create(&thread, &attributes, body, self) != 0)
        abort();
}

static void start_way(int from, int to)
{
    way *self = calloc(1, sizeof *self);
    if (self == NULL)
        abort();
    self->from = from;
    self->to = to;
    self->last = &self->first;
    pthread_mutex_init(&self->lock, NULL);
    pthread_cond_init(&self->more, NULL);
    start(read_way, self);
    start(write_way, self);
}

static void take_connection(int listener)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                  .sin_port = htons((unsigned short)target)};
    int client = accept(listener, NULL, NULL), server = socket(AF_INET, SOCK_STREAM, 0);
    if (client < 0 || server < 0 ||
        connect(server, (struct sockaddr *)&address, sizeof address) != 0) {
        close(client);
        close(server);
        return;
    }
    int on = 1;
    setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(server, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    start_way(client, server);
    start_way(server, client);
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 64;
    target = atoi(argv[1]);
    delay_ns = (long)(atof(argv[2]) * 500000);
    signal(SIGPIPE, SIG_IGN);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, size) != 0 ||
        listen(listener, 64) != 0 || getsockname(listener, (struct sockaddr *)&address, &size) != 0)
        return 1;
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    struct pollfd polled[] = {{STDOUT_FILENO, 0, 0}, {listener, POLLIN, 0}};
    while (poll(polled, 2, -1) > 0 && !(polled[0].revents & (POLLERR | POLLHUP)))
        if (polled[1].revents)
            take_connection(listener);
    return 0;
}
