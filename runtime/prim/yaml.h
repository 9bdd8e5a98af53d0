// What the files of rt.yaml share.
#ifndef KL_PRIM_YAML_H
#define KL_PRIM_YAML_H

#include <lua.h>

// yaml.decode(text). [-1, +(1|2), e]
int kl_yaml_decode(lua_State *L);

#endif
