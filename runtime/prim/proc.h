// What the files of rt.proc share.
#ifndef KL_PRIM_PROC_H
#define KL_PRIM_PROC_H

#include <lua.h>

#include "io/process.h"

// Reads the options at argument 1 and leaves what they borrow on the stack. [-0, +n, e]
void kl_proc_config(lua_State *L, kl_process_config *out);
// Pushes how a program ended: a table, or nil and an error when its time was over. [-0, +(1|2), e]
int kl_proc_push(lua_State *L, const kl_process_result *result, const char *program,
                 uint64_t timeout_ms);

// proc_family.c
// The programs of a Lua state, which end with it. A module whose objects have programs calls this
// when it is opened: what is made first is collected last. [-0, +0, e]
kl_process_family *kl_proc_family(lua_State *L);

// interrupts(status): proc_interrupts.c.
int kl_proc_interrupts(lua_State *L);

#endif
