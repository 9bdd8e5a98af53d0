// Virtual time.
#include "bridge/virtual.h"

#include "bridge/sched_internal.h"

#include <assert.h>

bool kl_virtual_begin(lua_State *L)
{
    kl_sched *sched = kl_sched_of(L);
    if (sched->virtual)
        return false;
    sched->virtual = true;
    sched->elapsed = 0;
    return true;
}

void kl_virtual_end(lua_State *L)
{
    kl_sched *sched = kl_sched_of(L);
    sched->virtual = false;
    while (sched->sleepers != NULL)
        kl_virtual_jump(sched);
}

bool kl_virtual_elapsed(double *out, lua_State *L)
{
    const kl_sched *sched = kl_sched_of(L);
    *out = sched->elapsed;
    return sched->virtual;
}

void kl_virtual_sleep(kl_sleeper *sleeper, kl_op *op, double seconds)
{
    kl_sched *sched = op->sched;
    assert(sched->virtual);
    kl_op_idle(op);
    sleeper->op = op;
    sleeper->due = sched->elapsed + seconds;
    kl_sleeper **at = &sched->sleepers;
    while (*at != NULL && (*at)->due <= sleeper->due) // of two that are due together the first one
        at = &(*at)->next;
    sleeper->next = *at;
    *at = sleeper;
}

void kl_virtual_cancel(kl_sleeper *sleeper)
{
    for (kl_sleeper **at = &sleeper->op->sched->sleepers; *at != NULL; at = &(*at)->next) {
        if (*at == sleeper) {
            *at = sleeper->next;
            return;
        }
    }
}

bool kl_virtual_idle(const kl_sched *sched)
{
    return sched->virtual && sched->sleepers != NULL && sched->ops == sched->idle_ops;
}

void kl_virtual_jump(kl_sched *sched)
{
    kl_sleeper *first = sched->sleepers;
    sched->sleepers = first->next;
    if (first->due > sched->elapsed)
        sched->elapsed = first->due;
    kl_op_settle(first->op);
}
