// What the files of rt.yaml share.
#ifndef KL_PRIM_YAML_H
#define KL_PRIM_YAML_H

#include <lua.h>

#define KL_YAML_BINARY_TAG "tag:yaml.org,2002:binary"

// yaml.decode(text). [-1, +(1|2), e]
int kl_yaml_decode(lua_State *L);

#endif
