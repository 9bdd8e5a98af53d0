// Option tables: typed, defaulted, and an unknown key is an error, since a typo must not deploy.
#ifndef KL_BRIDGE_OPTS_H
#define KL_BRIDGE_OPTS_H

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>

typedef struct kl_opts {
    lua_State *L;
    int argument; // index of the table; 0: absent
    int asked;    // index of the set of keys that were asked for
} kl_opts;

// Reads the options at `index` (a table, nil or nothing). Keeps two values on the stack until
// kl_opts_end; the strings it returns are borrowed from the table. Every reader raises on a wrong
// type, naming the option. [-0, +1, e]
void kl_opts_begin(lua_State *L, int index, kl_opts *out);
// The option, or `otherwise` when absent.
const char *kl_opts_string(kl_opts *opts, const char *key, const char *otherwise);
lua_Number kl_opts_number(kl_opts *opts, const char *key, lua_Number otherwise);
lua_Integer kl_opts_integer(kl_opts *opts, const char *key, lua_Integer otherwise);
bool kl_opts_boolean(kl_opts *opts, const char *key, bool otherwise);
// A string or a secret; NULL when absent.
const char *kl_opts_bytes(kl_opts *opts, const char *key, size_t *out_length);
// Must be there: raises "option 'x' is missing".
const char *kl_opts_need_string(kl_opts *opts, const char *key);
// Pushes the option's table, or nil when absent. Returns whether it is there. [-0, +1, e]
bool kl_opts_table(kl_opts *opts, const char *key);
// Pushes the option whatever it is, or nil. [-0, +1, e]
int kl_opts_value(kl_opts *opts, const char *key);
// Raises "unknown option 'x'" for a key that nobody asked for.
void kl_opts_end(kl_opts *opts);

#endif
