// Userdata that owns something: one way to define its class, make it and check it.
#ifndef KL_BRIDGE_OWN_H
#define KL_BRIDGE_OWN_H

#include <lauxlib.h>
#include <lua.h>

typedef struct kl_own_class {
    const char *name;        // "rt.ssh.session"
    const luaL_Reg *methods; // ends with {NULL, NULL}
    // Releases what the struct owns: at __close, __gc and the method `close` that it provides. May
    // run twice, and on a zeroed struct. Never blocks, never raises.
    void (*close)(void *self);
} kl_own_class;

// Pushes a zeroed struct of `size` bytes as userdata of that class, with one user value. [-0, +1,
// e]
void *kl_own_new(lua_State *L, size_t size, const kl_own_class *class);
// The struct at `index`, which must be of that class. [-0, +0, e]
void *kl_own_check(lua_State *L, int index, const kl_own_class *class);

#endif
