// starve: runs kiln again and again in one process, every time with one allocation less before
// memory is out for good. Linked with --wrap, so that kiln's own allocations and Lua's go through
// here. Under ASan it sees leaks; it counts descriptors itself.
//   starve FIRST STEP FOLDER COMMAND…     FOLDER/.kiln is removed before every run
#include "host/host.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <lauxlib.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
int __lsan_do_recoverable_leak_check(void);
#else
static int __lsan_do_recoverable_leak_check(void)
{
    return 0;
}
#endif

enum { BATCH = 100, SPOKEN = 100 }; // SPOKEN: the descriptor of what kiln says

// Shared with the parent, which tells where a child died.
static struct progress {
    long count, nth; // allocations so far; the first that fails, 0: none
    long cases, refused, ended;
    bool armed, over, bad;
} * at;

static bool starving(void)
{
    if (at == NULL || !at->armed)
        return false;
    at->count++;
    if (at->nth == 0 || at->count < at->nth)
        return false;
    errno = ENOMEM;
    return true;
}

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
char *__real_strdup(const char *text);
char *__real_strndup(const char *text, size_t length);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
char *__wrap_strdup(const char *text);
char *__wrap_strndup(const char *text, size_t length);
lua_State *__wrap_luaL_newstate(void);

void *__wrap_malloc(size_t size)
{
    return starving() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return starving() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *old, size_t size)
{
    return starving() ? NULL : __real_realloc(old, size);
}

char *__wrap_strdup(const char *text)
{
    return starving() ? NULL : __real_strdup(text);
}

char *__wrap_strndup(const char *text, size_t length)
{
    return starving() ? NULL : __real_strndup(text, length);
}

static void *lua_memory(void *context, void *old, size_t old_size, size_t size)
{
    (void)context;
    if (size == 0) {
        free(old);
        return NULL;
    }
    bool grows = old == NULL || size > old_size; // Lua relies on shrinking
    return grows && starving() ? NULL : __real_realloc(old, size);
}

lua_State *__wrap_luaL_newstate(void)
{
    return lua_newstate(lua_memory, NULL);
}

static int remove_one(const char *path, const struct stat *about, int type, struct FTW *where)
{
    (void)about, (void)type, (void)where;
    return remove(path);
}

static int descriptors(void)
{
    int count = 0;
    DIR *folder = opendir("/proc/self/fd");
    for (struct dirent *entry; folder != NULL && (entry = readdir(folder)) != NULL;)
        count += entry->d_name[0] != '.';
    if (folder != NULL)
        closedir(folder);
    return count;
}

// What the program said, as text.
static const char *said(void)
{
    static char text[65536];
    ssize_t got = pread(SPOKEN, text, sizeof text - 1, 0);
    text[got > 0 ? got : 0] = '\0';
    return text;
}

static void complain(int out, const char *what, int status)
{
    at->bad = true;
    dprintf(out, "starve: allocation %ld: %s (status %d); it said:\n%s\n", at->nth, what, status,
            said());
}

static void run_case(int out, const char *folder, int argc, char **argv)
{
    char state[4096];
    snprintf(state, sizeof state, "%s/.kiln", folder);
    nftw(state, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    if (ftruncate(SPOKEN, 0) != 0)
        abort();
    int before = descriptors();
    at->count = 0;
    at->armed = true;
    alarm(60); // a run that hangs dies, and is reported
    int status = kl_host_main(argc, argv);
    at->armed = false;
    fflush(NULL);
    bool fired = at->nth > 0 && at->count >= at->nth;
    at->cases++;
    at->refused += fired && status != 0;
    if (fired && status != 0 && strstr(said(), "memory") == NULL)
        complain(out, "no word of memory", status);
    if (!fired && at->nth > 0 && status != 0)
        complain(out, "failed with memory left", status);
    if (at->nth > 0 && descriptors() > before)
        complain(out, "left a descriptor open", status);
    if (__lsan_do_recoverable_leak_check() != 0)
        complain(out, "leaked", status);
    at->over = !fired;
}

static void run_batch(long first, long step, const char *folder, int argc, char **argv)
{
    int out = dup(2);
    if (out < 0 || dup2(SPOKEN, 1) < 0 || dup2(SPOKEN, 2) < 0)
        _exit(2);
    for (int i = 0; i <= BATCH && !at->over && (i == 0 || !at->bad); i++) {
        at->nth = i == 0 ? 0 : first + (i - 1) * step; // the first one warms what stays for good
        run_case(out, folder, argc, argv);
        if (i == 0) {
            at->over = false;
            at->cases--;
        }
    }
    _exit(0);
}

// Runs cases from `first` on in a process of their own; returns the last one.
static long batch(long first, long step, const char *folder, int argc, char **argv)
{
    at->bad = false;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0)
        run_batch(first, step, folder, argc, argv);
    int status = 0;
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        exit(2);
    at->armed = false;
    if (status == 0)
        return at->nth;
    at->cases++;
    at->refused++;
    if (status == 0x100 && at->nth > 0 && strstr(said(), "kiln: out of memory") != NULL)
        at->ended++; // below Lua: the program ends at once, and says so
    else
        complain(2, "died", status);
    return at->nth > 0 ? at->nth : first + BATCH * step;
}

int main(int argc, char **argv)
{
    long next = argc > 4 ? atol(argv[1]) : 0, step = argc > 4 ? atol(argv[2]) : 0;
    if (next < 1 || step < 1) {
        fprintf(stderr, "usage: starve FIRST STEP FOLDER COMMAND…\n");
        return 64;
    }
    at = mmap(NULL, sizeof *at, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int spoken = open("/tmp", O_TMPFILE | O_RDWR | O_APPEND, 0600);
    if (at == MAP_FAILED || spoken < 0 || dup2(spoken, SPOKEN) < 0)
        return 2;
    const char *folder = argv[3];
    argv[3] = argv[0]; // the program's own arguments begin here
    long bad = 0;
    while (!at->over && bad < 20) {
        next = batch(next, step, folder, argc - 3, argv + 3) + step;
        bad += at->bad;
    }
    printf("starve: %ld cases over %ld allocations: %ld errors, %ld of them ended at once, "
           "%ld wrong\n",
           at->cases, at->count, at->refused, at->ended, bad);
    return bad > 0 ? 1 : 0;
}
