// rt.journal: the store's statements for Lua. Synchronous: an acknowledged write is on the disk.
#include "prim/prims.h"

#include "bridge/fail.h"
#include "bridge/own.h"
#include "bridge/scratch.h"
#include "bridge/values.h"
#include "io/store.h"

#include <string.h>

enum { MAX_PARAMS = 32 };

typedef struct journal_store {
    kl_store *store; // owned; NULL once closed
} journal_store;

static void store_close(void *data)
{
    journal_store *self = data;
    kl_store_close(self->store);
    self->store = NULL;
}

static int journal_exec(lua_State *L);
static int journal_atomic(lua_State *L);

static const luaL_Reg journal_store_methods[] = {
    {"exec", journal_exec},
    {"atomic", journal_atomic},
    {NULL, NULL},
};

static const kl_own_class store_class = {"rt.journal.store", journal_store_methods, store_close};

// blank(script): the file of a new store.
static int journal_blank(lua_State *L)
{
    const char *script = luaL_checkstring(L, 1);
    kl_failure failure = {0};
    kl_buf *bytes = kl_scratch(L);
    if (!kl_store_blank(bytes, script, &failure))
        return kl_fail(L, &failure);
    kl_scratch_push(L, bytes);
    return 1;
}

static kl_store *check_store(lua_State *L)
{
    journal_store *self = kl_own_check(L, 1, &store_class);
    luaL_argcheck(L, self->store != NULL, 1, "the store is closed");
    return self->store;
}

static int journal_open(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1);
    kl_failure failure = {0};
    journal_store *self = kl_own_new(L, sizeof *self, &store_class);
    self->store = kl_store_open(path, &failure);
    return self->store != NULL ? 1 : kl_fail(L, &failure);
}

// Reads parameter `index` of the list at stack position 3; its text stays borrowed from the list.
static kl_value param(lua_State *L, int index)
{
    kl_value value = {0};
    switch (lua_rawgeti(L, 3, index)) {
    case LUA_TSTRING:
        value.type = KL_TEXT;
        value.text = lua_tolstring(L, -1, &value.length);
        break;
    case LUA_TBOOLEAN:
        value.type = KL_INTEGER;
        value.integer = lua_toboolean(L, -1);
        break;
    case LUA_TNUMBER:
        value.type = lua_isinteger(L, -1) ? KL_INTEGER : KL_REAL;
        if (value.type == KL_INTEGER)
            value.integer = lua_tointeger(L, -1);
        else
            value.real = lua_tonumber(L, -1);
        break;
    default:
        if (!lua_isnil(L, -1) && !kl_null_is(L, -1))
            luaL_error(L, "parameter %d is a %s", index, luaL_typename(L, -1));
    }
    lua_pop(L, 1);
    return value;
}

static int read_params(lua_State *L, kl_value *params)
{
    if (lua_isnoneornil(L, 3))
        return 0;
    luaL_checktype(L, 3, LUA_TTABLE);
    lua_Integer count = (lua_Integer)lua_rawlen(L, 3);
    if (lua_getfield(L, 3, "n") != LUA_TNIL) // lists with nil at the end say how long they are
        count = luaL_checkinteger(L, -1);
    lua_pop(L, 1);
    luaL_argcheck(L, count >= 0 && count <= MAX_PARAMS, 3, "too many parameters");
    for (int i = 0; i < (int)count; i++)
        params[i] = param(L, i + 1);
    return (int)count;
}

static void push_cell(lua_State *L, kl_value value)
{
    switch (value.type) {
    case KL_INTEGER:
        lua_pushinteger(L, value.integer);
        break;
    case KL_REAL:
        lua_pushnumber(L, value.real);
        break;
    case KL_TEXT:
        lua_pushlstring(L, value.text != NULL ? value.text : "", value.length);
        break;
    default:
        lua_pushnil(L);
    }
}

static void push_row(lua_State *L, const kl_store *store)
{
    int columns = kl_store_columns(store);
    lua_createtable(L, 0, columns);
    for (int column = 0; column < columns; column++) {
        push_cell(L, kl_store_cell(store, column));
        lua_setfield(L, -2, kl_store_column_name(store, column));
    }
}

// exec(store, sql, params?): a statement left open by an error is closed by the next one.
static int journal_exec(lua_State *L)
{
    kl_store *store = check_store(L);
    size_t length;
    const char *sql = luaL_checklstring(L, 2, &length);
    kl_value params[MAX_PARAMS];
    kl_failure failure = {0};
    int count = read_params(L, params);
    lua_newtable(L);
    if (!kl_store_begin(store, sql, length, params, count, &failure))
        return kl_fail(L, &failure);
    int step;
    for (lua_Integer row = 1; (step = kl_store_step(store, &failure)) == 1; row++) {
        push_row(L, store);
        lua_rawseti(L, -2, row);
    }
    if (step < 0)
        return kl_fail(L, &failure);
    lua_pushinteger(L, kl_store_changes(store));
    lua_setfield(L, -2, "changes");
    lua_pushinteger(L, kl_store_last_id(store));
    lua_setfield(L, -2, "last_id");
    return 1;
}

static bool run(kl_store *store, const char *sql, kl_failure *out)
{
    return kl_store_begin(store, sql, strlen(sql), NULL, 0, out) && kl_store_step(store, out) == 0;
}

// atomic(store, fn): the function must not wait; another task's statements would get into it.
static int journal_atomic(lua_State *L)
{
    kl_store *store = check_store(L);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    lua_settop(L, 2);
    kl_failure failure = {0};
    if (!run(store, "BEGIN IMMEDIATE", &failure))
        return kl_fail(L, &failure);
    bool ok = lua_pcall(L, 0, 1, 0) == LUA_OK; // no continuation: waiting in it raises
    if (ok && run(store, "COMMIT", &failure)) {
        return 1;
    }
    kl_failure ignored = {0}; // the first failure is the one to report
    run(store, "ROLLBACK", &ignored);
    return ok ? kl_fail(L, &failure) : lua_error(L);
}

static const luaL_Reg journal_functions[] = {
    {"open", journal_open},
    {"blank", journal_blank},
    {NULL, NULL},
};

KL_PRIM(journal)
{
    luaL_newlib(L, journal_functions);
    return 1;
}
