// measure: runs a command several times; prints its median seconds, its largest memory in bytes,
// and the median CPU seconds of it and its children.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double seconds_of(struct timeval time)
{
    return (double)time.tv_sec + (double)time.tv_usec / 1e6;
}

// Seconds from fork to the command's end; raises *out_memory to its peak resident set.
static double run_once(long *out_memory, double *out_cpu, char **command)
{
    double start = now();
    pid_t pid = fork();
    if (pid == 0) {
        int null = open("/dev/null", O_RDWR);
        dup2(null, 0);
        dup2(null, 1);
        dup2(null, 2);
        execvp(command[0], command);
        _exit(127);
    }
    int status;
    struct rusage used;
    if (pid < 0 || wait4(pid, &status, 0, &used) != pid || status != 0)
        return -1;
    if (used.ru_maxrss > *out_memory)
        *out_memory = used.ru_maxrss;
    *out_cpu = seconds_of(used.ru_utime) + seconds_of(used.ru_stime);
    return now() - start;
}

int main(int argc, char **argv)
{
    int times = argc > 2 ? atoi(argv[1]) : 0;
    if (times < 1 || times > 1000) {
        fprintf(stderr, "usage: measure TIMES COMMAND [ARGUMENT…]\n");
        return 64;
    }
    double seconds[1000], cpu[1000];
    long memory = 0;
    for (int i = 0; i < times; i++) {
        seconds[i] = run_once(&memory, &cpu[i], argv + 2);
        if (seconds[i] < 0) {
            fprintf(stderr, "measure: %s failed\n", argv[2]);
            return 1;
        }
    }
    qsort(seconds, (size_t)times, sizeof *seconds, by_size);
    qsort(cpu, (size_t)times, sizeof *cpu, by_size);
    printf("%.6f %ld %.6f\n", seconds[times / 2], memory * 1024, cpu[times / 2]);
    return 0;
}
