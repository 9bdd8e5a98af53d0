// rt.json: JSON that loses nothing. Decoding goes through lua-cjson, after a scan that refuses what
// lua-cjson would round, guess or confuse; encoding is done here, for sorted keys and exact
// numbers.
#include "prim/prims.h"

#include "base/json_scan.h"
#include "base/utf8.h"
#include "bridge/fail.h"
#include "bridge/opts.h"
#include "bridge/scratch.h"
#include "bridge/values.h"

#include <inttypes.h>
#include <lua-cjson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXACT 1e15 // below it, every whole number is exact in a double and has at most 15 digits

enum { BYTES_REFUSE, BYTES_KEEP, BYTES_REPLACE };

typedef struct encoder {
    lua_State *L;
    int bytes; // what to do with those that are not UTF-8
    kl_buf *out;
    bool pretty;
    bool sorted;
    kl_path path;
} encoder;

static void refuse(encoder *self, const char *why)
{
    const char *where = kl_path_push(self->L, &self->path);
    luaL_error(self->L, "cannot encode %s as JSON: %s", where, why);
}

// A byte that is no part of valid UTF-8.
static void put_byte(encoder *self, unsigned char byte)
{
    if (self->bytes == BYTES_REFUSE)
        refuse(self, "a string that is not valid UTF-8");
    if (self->bytes == BYTES_KEEP)
        kl_buf_printf(self->out, "\\udc%02x", byte);
    else
        kl_buf_puts(self->out, "\xEF\xBF\xBD"); // U+FFFD
}

static void put_control(encoder *self, unsigned char c)
{
    const char *short_form = c != 0 ? strchr("\"\"\\\\\nn\tt\rr\bb\ff", c) : NULL;
    if (short_form != NULL)
        kl_buf_printf(self->out, "\\%c", short_form[1]);
    else
        kl_buf_printf(self->out, "\\u%04x", c);
}

static void put_string(encoder *self, const char *bytes, size_t length)
{
    kl_buf *out = self->out;
    kl_buf_append(out, "\"", 1);
    size_t plain = 0; // start of what needs no escape
    size_t i = 0;
    while (i < length) {
        unsigned char c = (unsigned char)bytes[i];
        size_t step = kl_utf8_step(bytes + i, length - i);
        if (step > 1 || (step == 1 && c >= 0x20 && c != '"' && c != '\\' && c != 0x7F)) {
            i += step;
            continue;
        }
        kl_buf_append(out, bytes + plain, i - plain);
        if (step == 0)
            put_byte(self, c);
        else
            put_control(self, c);
        plain = ++i;
    }
    kl_buf_append(out, bytes + plain, length - plain);
    kl_buf_append(out, "\"", 1);
}

static void put_number(encoder *self)
{
    lua_State *L = self->L;
    if (lua_isinteger(L, -1)) {
        lua_Integer whole = lua_tointeger(L, -1);
        kl_buf_printf(self->out, "%" PRId64, (int64_t)whole);
        return;
    }
    lua_Number number = lua_tonumber(L, -1);
    if (!isfinite(number))
        refuse(self, "not a number, or infinite");
    char text[32];
    for (int digits = 14; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, number);
        if (strtod(text, NULL) == number)
            break;
        if (floor(number) == number)
            refuse(self, "a whole number of 15 digits or more would be rounded; use a string");
    }
    kl_buf_puts(self->out, number == 0 ? "0" : text);
}

static void new_line(encoder *self)
{
    if (self->pretty)
        kl_buf_printf(self->out, "\n%*s", self->path.depth * 2, "");
}

static void put_value(encoder *self);

static void put_item(encoder *self, const char *key, size_t length, lua_Integer index)
{
    if (index > 1)
        kl_buf_append(self->out, ",", 1);
    self->path.step[self->path.depth].key = key;
    self->path.step[self->path.depth].index = index;
    self->path.depth++;
    new_line(self);
    if (key != NULL) {
        put_string(self, key, length);
        kl_buf_puts(self->out, self->pretty ? ": " : ":");
    }
    put_value(self);
    self->path.depth--;
}

static void put_array(encoder *self, size_t count)
{
    kl_buf_append(self->out, "[", 1);
    for (size_t i = 1; i <= count; i++) {
        lua_rawgeti(self->L, -1, (lua_Integer)i);
        put_item(self, NULL, 0, (lua_Integer)i);
        lua_pop(self->L, 1);
    }
    if (count > 0)
        new_line(self);
    kl_buf_append(self->out, "]", 1);
}

static void put_sorted(encoder *self, size_t count)
{
    lua_State *L = self->L;
    const kl_key *keys = kl_table_keys(L, -1, count);
    for (size_t i = 0; i < count; i++) {
        lua_pushlstring(L, keys[i].bytes, keys[i].length);
        lua_rawget(L, -3);
        put_item(self, keys[i].bytes, keys[i].length, (lua_Integer)i + 1);
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}

static void put_unsorted(encoder *self)
{
    lua_State *L = self->L;
    lua_Integer index = 0;
    lua_pushnil(L);
    while (lua_next(L, -2) != 0) {
        size_t length;
        const char *key = lua_tolstring(L, -2, &length);
        put_item(self, key, length, ++index);
        lua_pop(L, 1);
    }
}

static void put_table(encoder *self)
{
    if (self->path.depth >= KL_JSON_DEPTH - 1)
        luaL_error(self->L, "cannot encode as JSON: nested deeper than %d levels, or in a circle",
                   KL_JSON_DEPTH);
    luaL_checkstack(self->L, 8, "JSON nested too deep");
    size_t count;
    kl_shape shape = kl_table_shape(self->L, -1, &count);
    if (shape == KL_SHAPE_MIXED)
        refuse(self, "a table must have only string keys, or only the keys 1 to n");
    if (shape == KL_SHAPE_ARRAY) {
        put_array(self, count);
        return;
    }
    kl_buf_append(self->out, "{", 1);
    if (self->sorted)
        put_sorted(self, count);
    else
        put_unsorted(self);
    if (count > 0)
        new_line(self);
    kl_buf_append(self->out, "}", 1);
}

// Writes the value on top of the stack. [-0, +0, e]
static void put_value(encoder *self)
{
    lua_State *L = self->L;
    size_t length;
    switch (lua_type(L, -1)) {
    case LUA_TSTRING: {
        const char *bytes = lua_tolstring(L, -1, &length);
        put_string(self, bytes, length);
        return;
    }
    case LUA_TNUMBER:
        put_number(self);
        return;
    case LUA_TBOOLEAN:
        kl_buf_puts(self->out, lua_toboolean(L, -1) ? "true" : "false");
        return;
    case LUA_TTABLE:
        put_table(self);
        return;
    default:
        if (!kl_null_is(L, -1))
            refuse(self, lua_pushfstring(L, "a %s (%s)", luaL_typename(L, -1),
                                         luaL_tolstring(L, -1, NULL)));
        kl_buf_puts(self->out, "null");
    }
}

static int bytes_option(kl_opts *opts)
{
    static const char *const names[] = {"refuse", "keep", "replace", NULL};
    const char *name = kl_opts_string(opts, "bytes", "refuse");
    for (int i = 0; names[i] != NULL; i++) {
        if (strcmp(names[i], name) == 0)
            return i;
    }
    return luaL_error(opts->L, "option 'bytes' must be refuse, keep or replace, not '%s'", name);
}

static int json_encode(lua_State *L)
{
    luaL_checkany(L, 1);
    kl_opts opts;
    kl_opts_begin(L, 2, &opts);
    encoder self = {.L = L};
    self.pretty = kl_opts_boolean(&opts, "pretty", false);
    self.sorted = kl_opts_boolean(&opts, "sorted", true);
    self.bytes = bytes_option(&opts);
    kl_opts_end(&opts);

    self.out = kl_scratch(L);
    lua_pushvalue(L, 1);
    put_value(&self);
    kl_scratch_push(L, self.out);
    return 1;
}

static size_t settle_value(lua_State *L);

static size_t settle_array(lua_State *L)
{
    size_t members = 0;
    lua_Integer count = (lua_Integer)lua_rawlen(L, -1);
    for (lua_Integer i = 1; i <= count; i++) {
        lua_rawgeti(L, -1, i);
        members += settle_value(L);
        lua_rawseti(L, -2, i);
    }
    kl_array_mark(L, -1);
    return members;
}

static size_t settle_object(lua_State *L)
{
    size_t members = 0;
    lua_pushnil(L);
    while (lua_next(L, -2) != 0) {
        members += 1 + settle_value(L);
        lua_pushvalue(L, -2);
        lua_insert(L, -2); // table, key, key, value
        lua_rawset(L, -4); // an existing key: allowed while traversing
    }
    return members;
}

// Puts right what lua-cjson made, on top of the stack: whole numbers, arrays. Returns how many
// members the objects in it have. [-1, +1, e]
static size_t settle_value(lua_State *L)
{
    if (lua_type(L, -1) == LUA_TNUMBER) {
        lua_Number number = lua_tonumber(L, -1);
        if (floor(number) == number && fabs(number) < EXACT) {
            lua_pop(L, 1);
            lua_pushinteger(L, (lua_Integer)number);
        }
        return 0;
    }
    if (!lua_istable(L, -1))
        return 0;
    luaL_checkstack(L, 8, "JSON nested too deep");
    lua_rawgeti(L, -1, 1);
    bool array = !lua_isnil(L, -1);
    bool mark = lua_type(L, -1) == LUA_TNUMBER && isinf(lua_tonumber(L, -1));
    lua_pop(L, 1);
    if (mark && lua_rawgeti(L, -1, 2) == LUA_TSTRING) { // KL_JSON_WHOLE_BEFORE
        long long whole = strtoll(lua_tostring(L, -1), NULL, 10);
        lua_pop(L, 2);
        lua_pushinteger(L, whole);
        return 0;
    }
    if (mark) { // KL_JSON_EMPTY_ARRAY
        lua_pop(L, 1);
        lua_pushnil(L);
        lua_rawseti(L, -2, 1);
    }
    return array ? settle_array(L) : settle_object(L);
}

static int fail_at(lua_State *L, const kl_json_scan *scan)
{
    kl_fail_as(L, "invalid", "JSON line %d, column %d: %s", scan->line, scan->column,
               scan->message);
    lua_pushinteger(L, scan->line);
    lua_setfield(L, -2, "line");
    lua_pushinteger(L, scan->column);
    lua_setfield(L, -2, "column");
    return 2;
}

// Upvalue 1: lua-cjson's decode.
static int json_decode(lua_State *L)
{
    size_t length;
    const char *text = luaL_checklstring(L, 1, &length);
    kl_opts opts;
    kl_opts_begin(L, 2, &opts);
    bool bytes = bytes_option(&opts) == BYTES_KEEP;
    bool last_wins = kl_opts_boolean(&opts, "last_wins", false);
    kl_opts_end(&opts);
    lua_settop(L, 1);
    kl_buf *copy = kl_scratch(L);
    kl_json_scan scan;
    if (!kl_json_scan_text(&scan, copy, text, length, bytes)) {
        kl_buf_free(copy);
        return fail_at(L, &scan);
    }
    lua_pushvalue(L, lua_upvalueindex(1));
    if (copy->length > 0)
        kl_scratch_push(L, copy);
    else
        lua_pushvalue(L, 1);
    if (lua_pcall(L, 1, 1, 0) != LUA_OK)
        return kl_fail_as(L, "invalid", "JSON: %s", luaL_tolstring(L, -1, NULL));
    if (settle_value(L) == scan.members || last_wins)
        return 1;
    if (kl_json_scan_twice(&scan, text, length))
        return fail_at(L, &scan);
    return kl_fail_as(L, "invalid", "JSON: an object has the same key twice");
}

static int json_array(lua_State *L)
{
    lua_settop(L, 1);
    if (lua_isnil(L, 1)) {
        lua_newtable(L);
        lua_replace(L, 1);
    }
    luaL_checktype(L, 1, LUA_TTABLE);
    if (lua_getmetatable(L, 1) && !kl_array_is(L, 1))
        return luaL_argerror(L, 1, "the table has a metatable of its own");
    kl_array_mark(L, 1);
    lua_settop(L, 1);
    return 1;
}

static int json_is_array(lua_State *L)
{
    luaL_checkany(L, 1);
    size_t count;
    lua_pushboolean(L, lua_istable(L, 1) && kl_table_shape(L, 1, &count) == KL_SHAPE_ARRAY);
    return 1;
}

static const luaL_Reg json_functions[] = {{"encode", json_encode}, {"decode", NULL},
                                          {"array", json_array},   {"is_array", json_is_array},
                                          {"null", NULL},          {NULL, NULL}};

KL_PRIM(json)
{
    luaL_newlib(L, json_functions);
    kl_null_push(L);
    lua_setfield(L, -2, "null");

    lua_pushcfunction(L, luaopen_cjson);
    lua_call(L, 0, 1); // an instance of our own, whatever others set on theirs
    lua_getfield(L, -1, "decode_max_depth");
    lua_pushinteger(L, KL_JSON_DEPTH + 2);
    lua_call(L, 1, 0);
    lua_getfield(L, -1, "decode");
    lua_pushcclosure(L, json_decode, 1);
    lua_setfield(L, -3, "decode");
    lua_pop(L, 1);
    return 1;
}
