// The session class of rt.ssh, for the primitives that run on it, and what its parts share.
#ifndef KL_PRIM_SSH_H
#define KL_PRIM_SSH_H

#include <lauxlib.h>
#include <lua.h>

#include "io/ssh_session.h"

// The session at `index`, borrowed while the value lives; raises when it is none or was closed by
// the caller. [-0, +0, e]
kl_ssh_session *kl_ssh_check(lua_State *L, int index);

// ssh_key.c
// The key at `index`, borrowed while the value lives. [-0, +0, e]
kl_ssh_key *kl_ssh_key_check(lua_State *L, int index);
// Pushes a key without its struct yet and returns where to put it, which owns it then. [-0, +1, e]
kl_ssh_key **kl_ssh_key_new(lua_State *L);
int kl_ssh_key_open(lua_State *L);
// ssh_forward.c
int kl_ssh_session_forward(lua_State *L);
int kl_ssh_session_listen(lua_State *L);
// ssh_agent.c
int kl_ssh_agent_keys(lua_State *L);

#endif
