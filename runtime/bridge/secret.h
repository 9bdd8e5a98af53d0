// Secrets: bytes that Lua can hold and hand on, but not see.
#ifndef KL_BRIDGE_SECRET_H
#define KL_BRIDGE_SECRET_H

#include <lua.h>
#include <stddef.h>

// Pushes a secret holding a copy of the bytes; it is wiped when collected. [-0, +1, e]
void kl_secret_push(lua_State *L, const char *bytes, size_t length);
// The secret's bytes, NUL-terminated, borrowed while the value lives; NULL if it is none.
const char *kl_secret_bytes(lua_State *L, int index, size_t *out_length);
// The bytes of a string or a secret; raises for anything else. [-0, +0, e]
const char *kl_secret_or_string(lua_State *L, int index, size_t *out_length);

#endif
