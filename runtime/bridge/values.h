// How structured values look in Lua, for every format: null, arrays, maps.
//
// null is the light userdata NULL: present, unlike nil. An array is a table with keys 1 to n; one
// that is marked stays an array when it is empty, while an empty table without the mark is a map.
#ifndef KL_BRIDGE_VALUES_H
#define KL_BRIDGE_VALUES_H

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>

void kl_null_push(lua_State *L);             // [-0, +1, 0]
bool kl_null_is(lua_State *L, int index);    // [-0, +0, 0]
void kl_array_mark(lua_State *L, int index); // [-0, +0, e]
bool kl_array_is(lua_State *L, int index);   // marked as one [-0, +0, e]

typedef enum kl_shape { KL_SHAPE_MAP, KL_SHAPE_ARRAY, KL_SHAPE_MIXED } kl_shape;
// What the table at `index` is, and how many entries it has. Reads raw, no metamethods. [-0, +0, e]
kl_shape kl_table_shape(lua_State *L, int index, size_t *out_count);

typedef struct kl_key {
    const char *bytes; // borrowed from the table
    size_t length;
} kl_key;
// Pushes a userdata that holds the `count` string keys of the map at `index`, in byte order; its
// address is returned. [-0, +1, e]
kl_key *kl_table_keys(lua_State *L, int index, size_t count);

// Where a value lies in a bigger one: ".users[2].name", for messages.
enum { KL_PATH_DEPTH = 500 };
typedef struct kl_path {
    int depth;
    struct {
        const char *key; // NULL: an index
        lua_Integer index;
    } step[KL_PATH_DEPTH];
} kl_path;
// Pushes the path as text; the whole value itself is "the value". [-0, +1, e]
const char *kl_path_push(lua_State *L, const kl_path *path);

#endif
