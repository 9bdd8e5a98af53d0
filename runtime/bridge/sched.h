// Tasks: coroutines on the event loop. The only file that resumes them.
#ifndef KL_BRIDGE_SCHED_H
#define KL_BRIDGE_SCHED_H

#include <lua.h>
#include <stdbool.h>
#include <uv.h>

#include "bridge/op.h"

typedef struct kl_sched kl_sched;
typedef struct kl_task kl_task;

// Makes the scheduler of `L` (a fresh main state) on `loop`, which it borrows. NULL: out of memory.
kl_sched *kl_sched_new(lua_State *L, uv_loop_t *loop);
// Frees it. After lua_close; the loop must have run its close callbacks.
void kl_sched_free(kl_sched *sched);
kl_sched *kl_sched_of(lua_State *L);
uv_loop_t *kl_sched_loop(const kl_sched *sched);

// Runs the function below its `nargs` arguments as the first task, until it ended, and every task
// under it. Pushes `true, results…` or `false, error`; returns the number of pushed values.
// [-(nargs+1), +n, e]
int kl_sched_run(lua_State *L, int nargs);

// Pushes a new task made of the function below its `nargs` arguments. [-(nargs+1), +1, e]
kl_task *kl_task_spawn(lua_State *L, int nargs);
// The task at `index`; raises if it is none. [-0, +0, e]
kl_task *kl_task_check(lua_State *L, int index);
// Wakes the task's wait with the error value on top of the stack, once; a task that does not wait
// gets it at its next wait. A finished task is left alone. [-1, +0, e]
void kl_task_cancel(lua_State *L, kl_task *task);
// Waits for the task; `true, results…` or `false, error`. The task is at stack index 1.
int kl_task_join(lua_State *L, kl_task *task);
// The task that runs now, or NULL. Pushes its object (or nil). [-0, +1, e]
kl_task *kl_task_current(lua_State *L);
// Pushes the task's own table. [-0, +1, e]
void kl_task_locals(lua_State *L, kl_task *task);

// Makes the error value on top of the stack what ends the task, and those that it starts from now
// on, when it goes on computing after a signal; nil: nothing does. [-1, +0, e]
void kl_task_stop_with(lua_State *L, kl_task *task);
// Tells the Lua code that runs now that a signal came. From a signal handler, on the loop's thread.
void kl_sched_interrupt(kl_sched *sched);
// Begins to hear signals anew: an earlier one is forgotten.
void kl_sched_watch(kl_sched *sched);
// Whether the code that runs now is being ended after a signal.
bool kl_sched_spent(const kl_sched *sched);

typedef struct kl_live {
    int ops;
    int tasks;
    int handles;
} kl_live;
// What is alive: operations, unfinished tasks, referenced handles of the loop.
kl_live kl_sched_live(const kl_sched *sched);

#endif
