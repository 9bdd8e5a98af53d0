// The example's service as a real process: its answers, garbage, and SIGTERM under load.
#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define HOST "Host: app\r\n"
#define GET(path) "GET " path " HTTP/1.1\r\n" HOST "\r\n"

typedef struct service {
    pid_t pid;
    int port;
} service;

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

// `environment`: NULL-terminated "NAME=value".
static service start(const char *path, const char *const *environment)
{
    int out[2];
    assert(pipe(out) == 0);
    pid_t pid = fork();
    assert(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(out[1], STDOUT_FILENO);
        clearenv();
        putenv("PORT=0");
        for (; *environment != NULL; environment++)
            putenv((char *)(uintptr_t)*environment);
        execl(path, path, (char *)NULL);
        _exit(127);
    }
    close(out[1]);
    FILE *said = fdopen(out[0], "r");
    service it = {.pid = pid};
    assert(said != NULL && fscanf(said, "app %*s listens on port %d", &it.port) == 1);
    fclose(said);
    return it;
}

static int stop(service it)
{
    int status;
    kill(it.pid, SIGTERM);
    assert(waitpid(it.pid, &status, 0) == it.pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static int dial(service it)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)it.port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert(fd >= 0);
    struct timeval bound = {.tv_sec = 10};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &bound, sizeof bound);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0)
        return fd;
    assert(errno == ECONNREFUSED);
    close(fd);
    return -1;
}

static bool say(int fd, const char *text)
{
    size_t length = strlen(text);
    return send(fd, text, length, MSG_NOSIGNAL) == (ssize_t)length;
}

// Reads exactly one answer into `out`; false if it does not come whole.
static bool hear(int fd, char *out, size_t size)
{
    size_t used = 0, wanted = size;
    while (used < wanted) {
        ssize_t got = recv(fd, out + used, used == 0 || wanted == size ? 1 : wanted - used, 0);
        if (got <= 0)
            return false;
        used += (size_t)got;
        out[used] = '\0';
        if (wanted == size && used >= 4 && strcmp(out + used - 4, "\r\n\r\n") == 0) {
            const char *length = strstr(out, "Content-Length: ");
            assert(length != NULL);
            wanted = used + strtoul(length + 16, NULL, 10);
            assert(wanted < size);
        }
    }
    return true;
}

static void expect_ask(service it, const char *request, const char *part)
{
    char answer[4096] = "";
    int fd = dial(it);
    assert(fd >= 0 && say(fd, request));
    if (!hear(fd, answer, sizeof answer) || strstr(answer, part) == NULL) {
        fprintf(stderr, "asked:\n%s\ngot:\n%s\nwanted in it:\n%s\n", request, answer, part);
        abort();
    }
    close(fd);
}

static void answers(const char *checked, const char *broken)
{
    const char *nothing[] = {NULL};
    service it = start(checked, nothing);
    expect_ask(it, GET("/"), "Hello from app dev on ");
    expect_ask(it, GET("/"), "\r\nX-App-Version: dev\r\n");
    expect_ask(it, GET("/health/check"), "HTTP/1.1 500 ");
    expect_ask(it, GET("/health/check"), "{\"error\":\"DB_HOST is not set\"}");
    expect_ask(it, GET("/nowhere"), "HTTP/1.1 404 ");
    expect_ask(it, GET("/slow?ms=20"), "waited 20 ms");
    expect_ask(it, GET("/slow?ms=-5"), "waited 0 ms");
    expect_ask(it, GET("/slow"), "waited 0 ms");
    expect_ask(it, GET("/?who=you"), "HTTP/1.1 200 ");
    assert(stop(it) == 0);

    const char *whole[] = {"DB_HOST=db.internal", "GREETING=Good day", NULL};
    it = start(checked, whole);
    expect_ask(it, GET("/"), "Good day from app dev");
    expect_ask(it, GET("/health/check"), "{\"status\":\"ok\",\"version\":\"dev\"}");
    assert(stop(it) == 0);

    it = start(broken, whole);
    expect_ask(it, GET("/health/check"), "{\"error\":\"FLAG is not set\"}");
    expect_ask(it, GET("/"), "X-App-Version: v3");
    assert(stop(it) == 0);
    const char *flagged[] = {"DB_HOST=db.internal", "FLAG=1", NULL};
    it = start(broken, flagged);
    expect_ask(it, GET("/health/check"), "HTTP/1.1 200 ");
    assert(stop(it) == 0);
}

// Whether the service closes the connection after an answer to this request.
static bool closes_after(service it, const char *request)
{
    char answer[4096], more;
    int fd = dial(it);
    assert(fd >= 0 && say(fd, request) && hear(fd, answer, sizeof answer));
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    bool closed = poll(&wait, 1, 200) == 1 && recv(fd, &more, 1, 0) == 0;
    assert(closed == (strstr(answer, "Connection: close") != NULL));
    close(fd);
    return closed;
}

static void keeps_connections(const char *checked)
{
    const char *nothing[] = {NULL};
    char answer[4096];
    service it = start(checked, nothing);
    int fd = dial(it);
    for (int i = 0; i < 3; i++)
        assert(say(fd, GET("/")) && hear(fd, answer, sizeof answer));
    assert(say(fd, GET("/slow?ms=1") GET("/slow?ms=2") GET("/sl"))); // pipelined, in order
    assert(hear(fd, answer, sizeof answer) && strstr(answer, "waited 1 ms"));
    assert(hear(fd, answer, sizeof answer) && strstr(answer, "waited 2 ms"));
    assert(hear(fd, answer, sizeof answer) && strstr(answer, "404"));
    close(fd);
    fd = dial(it); // kept for 5 s, so that clients follow the front
    assert(say(fd, GET("/")) && hear(fd, answer, sizeof answer));
    assert(strstr(answer, "Connection: keep-alive") != NULL);
    poll(NULL, 0, 5100);
    assert(say(fd, GET("/")) && hear(fd, answer, sizeof answer));
    assert(strstr(answer, "Connection: close") != NULL);
    close(fd);
    assert(!closes_after(it, GET("/")));
    assert(closes_after(it, "GET / HTTP/1.1\r\n" HOST "Connection: x, close\r\n\r\n"));
    assert(closes_after(it, "GET / HTTP/1.0\r\n\r\n"));
    assert(!closes_after(it, "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
    fd = dial(it); // no body after HEAD: the next answer follows at once
    assert(say(fd, "HEAD / HTTP/1.1\r\n" HOST "\r\n") && recv(fd, answer, 4095, 0) > 0);
    assert(say(fd, GET("/")) && hear(fd, answer, sizeof answer) && strncmp(answer, "HTTP", 4) == 0);
    close(fd);
    assert(stop(it) == 0);
}

static void survives_garbage(const char *checked)
{
    const char *nothing[] = {NULL};
    service it = start(checked, nothing);
    const char *bad[] = {
        "\r\n\r\n",
        "GET /\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/2.0\r\n" HOST "\r\n",
        "GET  / HTTP/1.1\r\n" HOST "\r\n",
        "GET / HTTP/1.1\r\n" HOST HOST "\r\n",
        "GET / HTTP/1.1\r\n" HOST "no colon\r\n\r\n",
        "GET / HTTP/1.1\r\n" HOST " folded: x\r\n\r\n",
        "GET / HTTP/1.1\r\n" HOST ": x\r\n\r\n",
        "\x16\x03\x01\x02\r\n\r\n",
        "GET / HTTP/1.\r\n\r\n",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        expect_ask(it, bad[i], "HTTP/1.1 400 ");
    expect_ask(it, "POST / HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc", "HTTP/1.1 405 ");
    expect_ask(it, "GET / HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc", "HTTP/1.1 413 ");
    expect_ask(it, "GET / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n", "HTTP/1.1 413 ");
    expect_ask(it, "GET / HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n", "HTTP/1.1 200 ");
    char *flood = malloc(20001);
    memset(flood, 'a', 20000);
    flood[20000] = '\0';
    expect_ask(it, flood, "HTTP/1.1 431 ");
    free(flood);

    unsigned seed = 1; // fixed: a failure comes back
    for (int i = 0; i < 300; i++) {
        char noise[512];
        for (size_t j = 0; j < sizeof noise; j++) {
            seed = seed * 1103515245u + 12345u;
            noise[j] = "GET / HTTP/1.1\r\n\r\n:\0\xff"[(seed >> 16) % 22];
        }
        int fd = dial(it);
        send(fd, noise, sizeof noise, MSG_NOSIGNAL);
        close(fd);
    }
    expect_ask(it, GET("/"), "HTTP/1.1 200 ");
    assert(stop(it) == 0);
}

typedef struct load {
    service it;
    const char *request;
    bool keep;
} load;

static atomic_int answered, lost;

// Asks until nobody listens any more. Lost: a connection was made and no whole answer came.
static void *client(void *of)
{
    const load *mine = of;
    char answer[4096];
    for (int fd; (fd = dial(mine->it)) >= 0; close(fd)) {
        bool again;
        do {
            bool ok = say(fd, mine->request) && hear(fd, answer, sizeof answer);
            atomic_fetch_add(ok ? &answered : &lost, 1);
            again = ok && mine->keep && strstr(answer, "Connection: close") == NULL;
        } while (again);
    }
    return NULL;
}

static void loses_nothing(const char *checked)
{
    const char *nothing[] = {NULL};
    service it = start(checked, nothing);
    load kinds[] = {{it, GET("/"), false},
                    {it, GET("/"), true},
                    {it, GET("/slow?ms=700"), false},
                    {it, GET("/slow?ms=30"), true}};
    pthread_t threads[12];
    for (size_t i = 0; i < 12; i++)
        assert(pthread_create(&threads[i], NULL, client, &kinds[i % 4]) == 0);
    int idle = dial(it);
    char answer[4096];
    assert(say(idle, GET("/")) && hear(idle, answer, sizeof answer));
    poll(NULL, 0, 400);

    double before = seconds();
    kill(it.pid, SIGTERM);
    poll(NULL, 0, 150);
    assert(say(idle, GET("/")) && hear(idle, answer, sizeof answer)); // on its way: still answered
    assert(strstr(answer, "Connection: close") != NULL);
    close(idle);
    assert(stop(it) == 0);
    double took = seconds() - before;
    for (size_t i = 0; i < 12; i++)
        pthread_join(threads[i], NULL);
    printf("SIGTERM under load: %d answered, %d lost, stopped in %.2f s\n", answered, lost, took);
    assert(lost == 0 && answered > 100 && took < 5);
}

int main(int argc, char **argv)
{
    assert(argc == 3);
    answers(argv[1], argv[2]);
    keeps_connections(argv[1]);
    survives_garbage(argv[1]);
    for (int i = 0; i < 3; i++)
        loses_nothing(argv[1]);
    return 0;
}
