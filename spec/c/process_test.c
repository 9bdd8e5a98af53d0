// io/process: an owner that goes takes its whole family with it, and nothing is left of the
// handles.
#include "io/process.h"
#include "io/process_info.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void count(void *context)
{
    ++*(int *)context;
}

static kl_process *start(uv_loop_t *loop, kl_process_family *family, const char *script, int *told)
{
    char *argv[] = {"sh", "-c", (char *)(uintptr_t)script, NULL};
    kl_process_config config = {.argv = argv, .max_output = 100, .grace_ms = 50, .lines = true};
    kl_failure failure = {0};
    config.notify = count;
    config.context = told;
    kl_process *self = kl_process_start(loop, family, &config, &failure);
    assert(self != NULL && !kl_failed(&failure));
    return self;
}

// Runs the loop until the process has ended or a line is there.
static void wait_for(uv_loop_t *loop, const kl_process *self, bool line)
{
    while (kl_process_ended(self) == NULL && !(line && kl_process_has_line(self)))
        uv_run(loop, UV_RUN_ONCE);
}

static void test_result(uv_loop_t *loop)
{
    kl_process_family family = {0};
    int told = 0;
    kl_process *self = start(loop, &family, "echo out; echo err >&2; exit 3", &told);
    assert(family.first == self);
    wait_for(loop, self, false);
    const kl_process_result *result = kl_process_ended(self);
    assert(result->code == 3 && result->signal == 0 && !result->timed_out && told > 0);
    assert(strcmp(kl_buf_text(&result->out), "out\n") == 0);
    assert(strcmp(kl_buf_text(&result->err), "err\n") == 0);
    assert(family.first == NULL);
    kl_process_release(self);
    uv_run(loop, UV_RUN_DEFAULT);
}

static void test_missing(uv_loop_t *loop)
{
    kl_process_family family = {0};
    char *argv[] = {"no-such-program-anywhere", NULL};
    int told = 0;
    kl_process_config config = {.argv = argv, .notify = count, .context = &told};
    kl_failure failure = {0};
    assert(kl_process_start(loop, &family, &config, &failure) == NULL);
    assert(strcmp(failure.kind, "not_found") == 0 && strstr(failure.message, argv[0]) != NULL);
    assert(family.first == NULL);
    uv_run(loop, UV_RUN_DEFAULT);
    assert(told == 0);
}

static void turn(uv_timer_t *timer)
{
    (void)timer;
}

// A released process that ignores SIGTERM is killed after its grace, and nobody is told.
static void test_release(uv_loop_t *loop)
{
    kl_process_family family = {0};
    int told = 0;
    kl_process *self =
        start(loop, &family, "trap '' TERM; echo up; while :; do sleep 0.05; done", &told);
    wait_for(loop, self, true);
    int pid = kl_process_pid(self);
    told = 0;
    kl_process_release(self); // from here on it does not keep the loop alive
    uv_timer_t turns;
    uv_timer_init(loop, &turns);
    uv_timer_start(&turns, turn, 10, 10);
    for (int i = 0; i < 500 && family.first != NULL; i++)
        uv_run(loop, UV_RUN_ONCE);
    uv_close((uv_handle_t *)&turns, NULL);
    assert(family.first == NULL && told == 0);
    assert(kill(pid, 0) != 0 && errno == ESRCH);
    uv_run(loop, UV_RUN_DEFAULT);
}

static void test_kill_family(uv_loop_t *loop)
{
    kl_process_family family = {0};
    int told = 0;
    int pids[3];
    kl_process *members[3];
    for (int i = 0; i < 3; i++) {
        members[i] =
            start(loop, &family, "trap '' TERM; echo up; sleep 100 & wait; sleep 100", &told);
        wait_for(loop, members[i], true);
        pids[i] = kl_process_pid(members[i]);
    }
    kl_process_release(members[1]); // on its way out already
    kl_process_kill_family(&family);
    assert(family.first == NULL);
    uv_run(loop, UV_RUN_DEFAULT);
    for (int i = 0; i < 3; i++) {
        for (int t = 0; t < 200 && kl_process_start_time(pids[i]) != 0; t++)
            usleep(10000);
        assert(kl_process_start_time(pids[i]) == 0);
    }
}

int main(void)
{
    uv_loop_t loop;
    assert(uv_loop_init(&loop) == 0);
    test_result(&loop);
    test_missing(&loop);
    test_release(&loop);
    test_kill_family(&loop);
    assert(uv_loop_close(&loop) == 0); // no handle is left
    return 0;
}
