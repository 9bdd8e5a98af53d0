// rt.machine: local machines, their network and floating addresses, through the machine helper.
#include "prim/machine_call.h"
#include "prim/prims.h"

#include "io/route.h"

#include <lauxlib.h>

#define VERB(function, verb, answer, timeout, ...)                                                 \
    static int function(lua_State *L)                                                              \
    {                                                                                              \
        static const kl_machine_verb what = {verb, answer, timeout, {__VA_ARGS__}};                \
        return kl_machine_call(L, &what);                                                          \
    }

VERB(machine_check, "check", KL_MACHINE_ROWS, 60, NULL)
VERB(machine_network_up, "network_up", KL_MACHINE_ROW, 60, NULL)
VERB(machine_site, "site", KL_MACHINE_ROWS, 60, NULL)
VERB(machine_repair, "repair", KL_MACHINE_ROW, 60, NULL)
VERB(machine_network_down, "network_down", KL_MACHINE_ROW, 60, NULL)
VERB(machine_release_ids, "release_ids", KL_MACHINE_ROW, 60, NULL)
VERB(machine_create, "create", KL_MACHINE_ROW, 120, "!name", "!image", "user_data", "token",
     "group", "memory", "vcpus", "disk", "data")
VERB(machine_admit, "admit", KL_MACHINE_ROW, 60, "!name", "!group")
VERB(machine_list, "list", KL_MACHINE_ROWS, 900, NULL)
VERB(machine_start, "start", KL_MACHINE_ROW, 120, "!name")
VERB(machine_power_off, "power_off", KL_MACHINE_ROW, 60, "!name", "within")
VERB(machine_destroy, "destroy", KL_MACHINE_ROW, 900, "!name")
VERB(machine_address_set, "address_set", KL_MACHINE_ROW, 60, "!address", "target")
VERB(machine_addresses, "addresses", KL_MACHINE_ROWS, 60, NULL)
VERB(machine_connections, "connections", KL_MACHINE_COUNT, 60, "!address", "!target")
VERB(machine_unpack, "unpack", KL_MACHINE_ROW, 900, "!tar", "!image", "token", "data")

static int machine_reach(lua_State *L)
{
    kl_route_add(luaL_checkstring(L, 1));
    return 0;
}

static const luaL_Reg machine_functions[] = {{"check", machine_check},
                                             {"network_up", machine_network_up},
                                             {"network_down", machine_network_down},
                                             {"site", machine_site},
                                             {"repair", machine_repair},
                                             {"release_ids", machine_release_ids},
                                             {"create", machine_create},
                                             {"admit", machine_admit},
                                             {"list", machine_list},
                                             {"start", machine_start},
                                             {"power_off", machine_power_off},
                                             {"destroy", machine_destroy},
                                             {"address_set", machine_address_set},
                                             {"addresses", machine_addresses},
                                             {"connections", machine_connections},
                                             {"unpack", machine_unpack},
                                             {"reach", machine_reach},
                                             {NULL, NULL}};

KL_PRIM(machine)
{
    kl_machine_open(L);
    luaL_newlib(L, machine_functions);
    return 1;
}
