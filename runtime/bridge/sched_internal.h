// What op.c and sched.c share.
#ifndef KL_BRIDGE_SCHED_INTERNAL_H
#define KL_BRIDGE_SCHED_INTERNAL_H

#include "bridge/sched.h"

#include <signal.h>
#include <stdint.h>

struct kl_task {
    kl_sched *sched;
    lua_State *thread; // anchored by the task's user value while the object lives
    int self_ref;      // anchors the object until it ended
    int cancel_ref;    // error to raise at the wait, LUA_NOREF if none
    int stop_ref;      // error that ends it after a signal, LUA_NOREF if none; children have it too
    kl_op *waiting;
    kl_task *next_ready;
    struct kl_join_op *joiners;
    bool queued;
    bool done;
    bool ok;
    int results; // values on the thread's stack once done
};

typedef struct kl_join_op {
    kl_op op;
    kl_task *target;
    struct kl_join_op *next;
} kl_join_op;

struct kl_sched {
    lua_State *main;
    uv_loop_t *loop;
    kl_task *current;
    lua_State *volatile running;       // the coroutine that runs now; a signal handler reads it
    volatile sig_atomic_t interrupted; // a signal told Lua to stop
    bool spent;                        // what runs now went on for too long after it
    uint64_t slice_since;              // when it was first looked at, 0: not yet
    int closing;                       // coroutines that are closed inside each other
    kl_task *ready_first;
    kl_task *ready_last;
    int ops;
    int idle_ops; // of these, the ones that wait for ever if nobody comes (kl_op_idle)
    int tasks;
    bool polling; // inside uv_run
    bool starved; // a task that nobody joins ended because memory is out
    bool virtual; // time is virtual.c's
    double elapsed;
    struct kl_sleeper *sleepers; // by due time
};

// Puts the task at the end of the ready queue, once.
void kl_sched_ready(kl_sched *sched, kl_task *task);

// Pushes what a task that ended left; returns how many values. [-0, +n, e]
int kl_task_push_results(lua_State *L, const kl_task *task);

// Whether the thread is a task's. Lua code never holds one.
bool kl_task_owns(lua_State *L);
// Pushes a value that stands for the running task, always the same one. [-0, +1, e]
void kl_task_token(lua_State *L);

// Around each resume: says which thread runs, and what did before. In stop.c.
lua_State *kl_sched_enter(lua_State *L);
void kl_sched_leave(lua_State *L, lua_State *outer);

#endif
