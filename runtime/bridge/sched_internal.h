// What op.c and sched.c share.
#ifndef KL_BRIDGE_SCHED_INTERNAL_H
#define KL_BRIDGE_SCHED_INTERNAL_H

#include "bridge/sched.h"

struct kl_task {
    kl_sched *sched;
    lua_State *thread; // anchored by the task's user value while the object lives
    int self_ref;      // anchors the object until it ended
    int cancel_ref;    // error to raise at the wait, LUA_NOREF if none
    kl_op *waiting;
    kl_task *next_ready;
    struct join_op *joiners;
    bool queued;
    bool done;
    bool ok;
    int results; // values on the thread's stack once done
};

struct kl_sched {
    lua_State *main;
    uv_loop_t *loop;
    kl_task *current;
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

#endif
