// Stops Lua code that goes on computing after a signal told it to stop.
//
// The loop hears of a signal only when Lua waits. So the signal's handler also sets a hook on the
// code that runs, which looks at the clock now and then. When the code has run on for PATIENCE_NS,
// the hook raises the task's stop error, and again at each instruction, so that no `pcall` can
// catch it for good. It raises inside the recipe's functions alone: kiln's own go on undisturbed,
// hand the error on and write the journal.
#include "bridge/sched_internal.h"

#include <lauxlib.h>
#include <string.h>

#define PATIENCE_NS 300000000

enum { INSTRUCTIONS = 1000 }; // between two looks at the clock

static bool is_kiln(const char *source)
{
    return strncmp(source, "@stdlib/", 8) == 0 || strncmp(source, "@providers/", 11) == 0;
}

static void look(lua_State *L, lua_Debug *frame)
{
    kl_sched *sched = kl_sched_of(L);
    const kl_task *task = sched->current;
    if (task == NULL || task->stop_ref == LUA_NOREF)
        return;
    uint64_t now = uv_hrtime();
    if (sched->slice_since == 0)
        sched->slice_since = now;
    if (!sched->spent && now - sched->slice_since < PATIENCE_NS)
        return;
    if (!sched->spent)
        lua_sethook(L, look, LUA_MASKCOUNT, 1);
    sched->spent = true;
    lua_getinfo(L, "S", frame);
    if (is_kiln(frame->source))
        return;
    lua_rawgeti(L, LUA_REGISTRYINDEX, task->stop_ref);
    lua_error(L);
}

static void set_hook(const kl_sched *sched, lua_State *L)
{
    int wanted = sched->spent ? 1 : INSTRUCTIONS;
    if (lua_gethook(L) != look || lua_gethookcount(L) != wanted) // else its count goes on
        lua_sethook(L, look, LUA_MASKCOUNT, wanted);
}

void kl_sched_interrupt(kl_sched *sched)
{
    sched->interrupted = 1;
    lua_State *running = sched->running;
    if (running != NULL)
        lua_sethook(running, look, LUA_MASKCOUNT, INSTRUCTIONS);
}

void kl_sched_watch(kl_sched *sched)
{
    sched->interrupted = 0;
    sched->spent = false;
}

lua_State *kl_sched_enter(lua_State *L)
{
    kl_sched *sched = kl_sched_of(L);
    lua_State *outer = sched->running;
    sched->running = L;
    if (sched->interrupted)
        set_hook(sched, L);
    return outer;
}

void kl_sched_leave(lua_State *L, lua_State *outer)
{
    kl_sched *sched = kl_sched_of(L);
    sched->running = outer;
    if (sched->interrupted && outer != NULL)
        set_hook(sched, outer);
}
