// Operations that wait: started from Lua, settled by the loop. The only file that yields.
#ifndef KL_BRIDGE_OP_H
#define KL_BRIDGE_OP_H

#include <lua.h>
#include <stdbool.h>
#include <uv.h>

typedef struct kl_op kl_op;

typedef struct kl_op_class {
    const char *name; // "timer.sleep"
    // Stops the work without blocking; callbacks that still come must hold a reference. May be
    // NULL.
    void (*cancel)(kl_op *op);
    // Pushes the results and returns their number; runs in the waiting task and may raise.
    int (*push)(lua_State *L, kl_op *op);
    // Releases what the struct's members own; runs once, at the last drop. May be NULL.
    void (*free)(kl_op *op);
} kl_op_class;

// First member of an operation's own struct. Fields belong to op.c and sched.c.
struct kl_op {
    const kl_op_class *class;
    struct kl_sched *sched;
    struct kl_task *waiter; // who waits, NULL before kl_op_wait and after the wait
    kl_op **box;            // the Lua value that owns a reference, NULL once it gave it back
    int references;
    bool settled;
    bool cancelled;
    bool idle;
};

// Makes a zeroed `size` bytes whose first member is a kl_op and leaves its box on the stack, which
// owns one reference. Raises where the running code may not wait, and the pending cancel of its
// task; so start the work only after it. [-0, +1, e]
void *kl_op_new(lua_State *L, size_t size, const kl_op_class *class);

// Raises, naming `what`, where the running code may not wait. [-0, +0, v]
void kl_op_may_wait(lua_State *L, const char *what);

// Yields until the operation is settled, then returns what class->push pushed:
// `return kl_op_wait(L, &self->op);`. At most once for an operation.
int kl_op_wait(lua_State *L, kl_op *op);

// Says that the operation is nothing under way but waits for what may never come: the next request
// to a server, a signal, a task. It does not hold virtual time.
void kl_op_idle(kl_op *op);

// Records that the work has ended. From loop callbacks; never calls Lua; may come twice or late.
void kl_op_settle(kl_op *op);

// References for C: a callback that will come, a handle that closes.
kl_op *kl_op_hold(kl_op *op);
void kl_op_drop(kl_op *op);

// The event loop of this Lua state.
uv_loop_t *kl_loop(lua_State *L);

#endif
