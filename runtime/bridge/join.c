// Waiting for a task to end.
#include "bridge/sched_internal.h"

static void join_unlink(kl_op *op)
{
    kl_join_op *self = (kl_join_op *)op;
    for (kl_join_op **at = &self->target->joiners; *at != NULL; at = &(*at)->next) {
        if (*at == self) {
            *at = self->next;
            return;
        }
    }
}

static int join_push(lua_State *L, kl_op *op)
{
    return kl_task_push_results(L, ((kl_join_op *)op)->target);
}

static const kl_op_class join_class = {"task.join", join_unlink, join_push, NULL};

int kl_task_join(lua_State *L, kl_task *task)
{
    lua_settop(L, 1); // the task's object stays at 1 while we wait
    kl_join_op *self = kl_op_new(L, sizeof *self, &join_class);
    self->target = task;
    kl_op_idle(&self->op);
    if (task->done) {
        self->op.settled = true;
    } else {
        self->next = task->joiners;
        task->joiners = self;
    }
    return kl_op_wait(L, &self->op);
}
