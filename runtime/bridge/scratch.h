// A buffer that Lua frees: for bytes gathered in C and then pushed, which may raise.
#ifndef KL_BRIDGE_SCRATCH_H
#define KL_BRIDGE_SCRATCH_H

#include <lua.h>

#include "base/buf.h"

// Pushes an empty buffer as a userdata that frees it when collected; free it at once when done with
// it (kl_buf_free) so that big ones do not wait for the collector. [-0, +1, e]
kl_buf *kl_scratch(lua_State *L);
// Wipes its bytes before freeing it, for secrets. [-0, +1, e]
kl_buf *kl_scratch_secret(lua_State *L);
// Wipes and frees. May run twice.
void kl_scratch_wipe(kl_buf *buf);
// Pushes the buffer's bytes as a string and frees the buffer. [-0, +1, e]
void kl_scratch_push(lua_State *L, kl_buf *buf);

#endif
