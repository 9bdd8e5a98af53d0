// Lists of words for a program: its arguments, its environment.
#ifndef KL_BRIDGE_WORDS_H
#define KL_BRIDGE_WORDS_H

#include <lua.h>
#include <stdbool.h>

// Pushes a NULL-terminated vector of the strings of the list at `list`, which keeps them. Raises
// for what is no string or has a zero byte, naming `what`. [-0, +1, e]
char **kl_words_push(lua_State *L, int list, const char *what);

// Pushes the environment as a list of "NAME=value": kiln's own (not if `clear`) less what the map
// at `map` replaces, then the map (0: none). [-0, +1, e]
void kl_environment_push(lua_State *L, int map, bool clear);

#endif
