// Virtual time: when nothing is under way but sleeps, the clock jumps to the first one that is due.
#ifndef KL_BRIDGE_VIRTUAL_H
#define KL_BRIDGE_VIRTUAL_H

#include <lua.h>
#include <stdbool.h>

#include "bridge/op.h"

// Part of a sleeping operation's own struct.
typedef struct kl_sleeper {
    kl_op *op;
    double due; // seconds of virtual time since it began
    struct kl_sleeper *next;
} kl_sleeper;

// Begins virtual time. False: it is on already.
bool kl_virtual_begin(lua_State *L);
// Ends it and wakes every sleeper; real time goes on where it is.
void kl_virtual_end(lua_State *L);
// False in real time; else writes the seconds since virtual time began.
bool kl_virtual_elapsed(double *out, lua_State *L);

// Puts an operation to sleep, in virtual time only; borrows the sleeper until it is settled or
// cancelled.
void kl_virtual_sleep(kl_sleeper *sleeper, kl_op *op, double seconds);
void kl_virtual_cancel(kl_sleeper *sleeper);

// For the scheduler, when no task is ready: whether only sleeps are under way; and the jump to the
// first of them.
bool kl_virtual_idle(const struct kl_sched *sched);
void kl_virtual_jump(struct kl_sched *sched);

#endif
