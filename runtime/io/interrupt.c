// Interrupts.
#include "io/interrupt.h"

#include "base/ending.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

enum { WATCHED = 3 };

static const int watched[WATCHED] = {SIGINT, SIGTERM, SIGHUP};

struct kl_interrupt {
    uv_signal_t handles[WATCHED];
    int open;
    void (*notify)(void *context, int number); // NULL once it came
    void *context;
};

// What the handler below works with; set before it is installed.
static volatile sig_atomic_t came, second_status;
static void (*of_libuv[WATCHED])(int);
static pthread_t loop_thread;
static void (*first)(void *context);
static void *first_context;

// libuv's handler only writes into a pipe: nothing would happen while Lua computes or SQLite waits.
// So ours stands before it, counts, and ends the program itself the second time.
static void handle(int number)
{
    if (!pthread_equal(pthread_self(), loop_thread)) { // `first` looks at what that thread does
        pthread_kill(loop_thread, number);
        return;
    }
    if (++came == 1)
        first(first_context);
    else
        kl_end_now(second_status, "left at once; what had begun can be resumed: kiln runs\n");
    for (int i = 0; i < WATCHED; i++)
        if (watched[i] == number)
            of_libuv[i](number);
}

static void told(uv_signal_t *signal, int number)
{
    kl_interrupt *self = signal->data;
    void (*notify)(void *, int) = self->notify;
    self->notify = NULL;
    if (notify != NULL)
        notify(self->context, number);
}

static void closed(uv_handle_t *signal)
{
    kl_interrupt *self = signal->data;
    if (--self->open == 0)
        free(self);
}

kl_interrupt *kl_interrupt_watch(uv_loop_t *loop, int status, void (*at_once)(void *context),
                                 void (*notify)(void *context, int number), void *context)
{
    kl_interrupt *self = kl_need(calloc(1, sizeof *self));
    self->notify = notify;
    self->context = context;
    came = 0;
    second_status = status;
    loop_thread = pthread_self();
    first = at_once;
    first_context = context;
    for (int i = 0; i < WATCHED; i++, self->open++) {
        uv_signal_init(loop, &self->handles[i]);
        self->handles[i].data = self;
        struct sigaction action;
        // As long as this handle is there, libuv leaves the signal's action alone.
        if (uv_signal_start(&self->handles[i], told, watched[i]) == 0 &&
            sigaction(watched[i], NULL, &action) == 0) {
            of_libuv[i] = action.sa_handler;
            action.sa_handler = handle;
            sigaction(watched[i], &action, NULL);
        }
        uv_unref((uv_handle_t *)&self->handles[i]);
    }
    return self;
}

void kl_interrupt_close(kl_interrupt *self)
{
    if (self == NULL)
        return;
    self->notify = NULL;
    sigset_t watched_set, before;
    sigemptyset(&watched_set);
    for (int i = 0; i < WATCHED; i++)
        sigaddset(&watched_set, watched[i]);
    pthread_sigmask(SIG_BLOCK, &watched_set, &before);
    for (int i = 0; i < WATCHED; i++) {
        uv_close((uv_handle_t *)&self->handles[i], closed); // gives the default action back
        signal(watched[i], SIG_IGN);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}
