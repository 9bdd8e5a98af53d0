// What the parts of rt.transfer share.
#ifndef KL_PRIM_TRANSFER_H
#define KL_PRIM_TRANSFER_H

#include <lua.h>

// transfer_digest.c
int kl_transfer_digest(lua_State *L);

#endif
