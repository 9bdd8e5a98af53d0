// What crypto.c takes from crypto_ssh.c: functions of rt.crypto, see runtime/meta/rt_crypto.lua.
#ifndef KL_PRIM_CRYPTO_H
#define KL_PRIM_CRYPTO_H

#include <lua.h>

int kl_crypto_ed25519_keypair(lua_State *L); // [-0, +1, v]
int kl_crypto_fingerprint(lua_State *L);     // [-0, +(1|2), e]

#endif
