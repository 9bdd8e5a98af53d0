// rt.snapshot: images of local machines: a stopped machine's own layer, frozen.
#include "prim/machine_call.h"
#include "prim/prims.h"

static int snapshot_freeze(lua_State *L)
{
    static const kl_machine_verb freeze = {
        "freeze", KL_MACHINE_ROW, 900, {"!name", "!image", "token", "data"}};
    return kl_machine_call(L, &freeze);
}

static int snapshot_list(lua_State *L)
{
    static const kl_machine_verb list = {"images", KL_MACHINE_ROWS, 60, {NULL}};
    return kl_machine_call(L, &list);
}

static int snapshot_remove(lua_State *L)
{
    static const kl_machine_verb remove = {"remove", KL_MACHINE_ROW, 300, {"!image", "token"}};
    return kl_machine_call(L, &remove);
}

static const luaL_Reg snapshot_functions[] = {{"freeze", snapshot_freeze},
                                              {"list", snapshot_list},
                                              {"remove", snapshot_remove},
                                              {NULL, NULL}};

KL_PRIM(snapshot)
{
    kl_machine_open(L);
    luaL_newlib(L, snapshot_functions);
    return 1;
}
