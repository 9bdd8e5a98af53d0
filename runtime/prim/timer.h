// What the parts of rt.timer share.
#ifndef KL_PRIM_TIMER_H
#define KL_PRIM_TIMER_H

#include <lua.h>

// timer_meter.c
int kl_timer_meter(lua_State *L);

#endif
