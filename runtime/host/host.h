// The host: a Lua state with kiln's modules in it, and the program that runs there.
#ifndef KL_HOST_HOST_H
#define KL_HOST_HOST_H

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>

// Runs the command line and returns the exit status.
int kl_host_main(int argc, char **argv);

// Opens Lua's libraries. `require` finds what the system has installed; with `everywhere`, as in
// the plain interpreter, what lies in the working directory and where LUA_PATH points, too.
// [-0, +0, e]
void kl_host_libraries(lua_State *L, bool everywhere);

// Adds the searcher of embedded Lua sources, the rt.* modules and rt.host to package. [-0, +0, e]
void kl_host_modules(lua_State *L);

// The embedded source at a path of the tree ("stdlib/kiln/scope.lua"); NULL: there is none.
const char *kl_embedded_source(const char *path, size_t *out_length);
// The same source compiled, for luaL_loadbufferx with "b"; NULL: there is none, or the Lua library
// at hand is another release than the one that compiled it.
const char *kl_embedded_code(const char *path, size_t *out_length);
// The path of the embedded source number `index`, in a fixed order; NULL past the last.
const char *kl_embedded_path(size_t index);

#endif
