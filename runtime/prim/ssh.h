// The session class of rt.ssh, for the primitives that run on it.
#ifndef KL_PRIM_SSH_H
#define KL_PRIM_SSH_H

#include <lua.h>

#include "io/ssh_session.h"

// The session at `index`, borrowed while the value lives; raises when it is none or was closed by
// the caller. [-0, +0, e]
kl_ssh_session *kl_ssh_check(lua_State *L, int index);

#endif
