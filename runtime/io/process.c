// Child processes.
//
// A process ends in steps: its leader exits; when it was told to stop, its group must be gone too;
// its pipes reach their end, or a background child that still holds them has had its second.
#include "io/process_internal.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

static void wipe(kl_buf *buf)
{
    if (buf->data != NULL)
        explicit_bzero(buf->data, buf->capacity);
    kl_buf_free(buf);
}

static void free_process(kl_process *self)
{
    kl_process_free_streams(self);
    kl_buf_free(&self->result.out);
    kl_buf_free(&self->result.err);
    wipe(&self->input_bytes);
    free(self);
}

static void handle_closed(uv_handle_t *handle)
{
    kl_process *self = handle->data;
    if (--self->handles == 0 && self->released)
        free_process(self);
}

void kl_process_close_handle(void *handle)
{
    if (!uv_is_closing(handle))
        uv_close(handle, handle_closed);
}

static void leave_family(kl_process *self)
{
    if (self->link == NULL)
        return;
    *self->link = self->next;
    if (self->next != NULL)
        self->next->link = self->link;
    self->link = NULL;
}

void kl_process_tell(kl_process *self)
{
    if (!self->released)
        self->notify(self->context);
}

static int target(const kl_process *self)
{
    return self->inherit ? self->pid : -self->pid;
}

static bool group_is_gone(const kl_process *self)
{
    return self->inherit || (kill(-self->pid, 0) != 0 && errno == ESRCH);
}

// Whether what was told to stop has stopped; tells it louder when it is time.
static bool has_stopped(kl_process *self)
{
    uint64_t now = uv_now(self->tick.loop);
    if (self->exited && group_is_gone(self))
        return true;
    if (now >= self->kill_at && !self->killed) {
        self->killed = true;
        if (!self->exited || !self->inherit)
            kill(target(self), SIGKILL);
    }
    // Dead ones that init does not collect keep a group alive: not for ever.
    return self->exited && now >= self->kill_at + KL_PROCESS_DRAIN_MS;
}

static void end(kl_process *self)
{
    self->ended = true;
    leave_family(self);
    kl_process_keep_result(self);
    kl_process_close_streams(self);
    kl_process_close_handle(&self->input);
    kl_process_close_handle(&self->deadline);
    kl_process_close_handle(&self->tick);
    kl_process_close_handle(&self->process);
    kl_process_tell(self);
}

// Looks whether the process has ended, all of it.
void kl_process_advance(kl_process *self)
{
    if (self->ended || (self->stopping && !has_stopped(self)) || !self->exited)
        return;
    bool reading = self->streams[0].open || self->streams[1].open;
    if (reading && uv_now(self->tick.loop) < self->drain_until)
        return;
    end(self);
}

static void ticked(uv_timer_t *timer)
{
    kl_process_advance(timer->data);
}

static void start_ticking(kl_process *self)
{
    if (!uv_is_active((uv_handle_t *)&self->tick))
        uv_timer_start(&self->tick, ticked, KL_PROCESS_TICK_MS, KL_PROCESS_TICK_MS);
}

void kl_process_exited(uv_process_t *process, int64_t code, int signum)
{
    kl_process *self = process->data;
    self->exited = true;
    self->result.code = signum != 0 ? -1 : (int)code;
    self->result.signal = signum;
    self->drain_until = uv_now(process->loop) + KL_PROCESS_DRAIN_MS;
    kl_process_drain(self); // what the pipes hold fits
    start_ticking(self);
    kl_process_advance(self);
}

static void stop(kl_process *self)
{
    if (self->stopping || self->ended)
        return;
    self->stopping = true;
    self->kill_at = uv_now(self->tick.loop) + self->grace_ms;
    if (!self->exited || !self->inherit)
        kill(target(self), SIGTERM);
    start_ticking(self);
}

void kl_process_deadline(uv_timer_t *timer)
{
    kl_process *self = timer->data;
    if (self->exited)
        return;
    self->result.timed_out = true;
    stop(self);
}

const kl_process_result *kl_process_ended(const kl_process *self)
{
    return self->ended ? &self->result : NULL;
}

int kl_process_pid(const kl_process *self)
{
    return self->pid;
}

void kl_process_signal(kl_process *self, int signum)
{
    if (!self->ended && !(self->exited && self->inherit))
        kill(target(self), signum);
}

void kl_process_release(kl_process *self)
{
    self->released = true;
    if (self->ended) {
        if (self->handles == 0)
            free_process(self);
        return;
    }
    stop(self);
    kl_process_close_streams(self);
    kl_process_close_handle(&self->input);
    kl_process_close_handle(&self->deadline);
    uv_unref((uv_handle_t *)&self->process); // nobody waits for it any more
    uv_unref((uv_handle_t *)&self->tick);
    kl_process_advance(self);
}

void kl_process_kill_family(kl_process_family *family)
{
    while (family->first != NULL) {
        kl_process *self = family->first;
        self->released = true;
        if (!self->exited || !self->inherit)
            kill(target(self), SIGKILL);
        end(self);
    }
}

static kl_process_family *left_at_exit; // exit(3) gives its handlers no argument

static void kill_left(void)
{
    for (const kl_process *self = left_at_exit ? left_at_exit->first : NULL; self != NULL;
         self = self->next) {
        if (!self->exited || !self->inherit)
            kill(target(self), SIGKILL);
    }
}

void kl_process_kill_at_exit(kl_process_family *family)
{
    static bool registered;
    if (!registered)
        atexit(kill_left);
    registered = true;
    left_at_exit = family;
}
