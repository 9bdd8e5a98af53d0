// Secrets: bytes that Lua can hold and hand on, but not see.
#include "bridge/secret.h"

#include <lauxlib.h>
#include <openssl/crypto.h>
#include <string.h>

#define SECRET "kiln.secret"

typedef struct secret {
    size_t length;
    char bytes[];
} secret;

static int secret_gc(lua_State *L)
{
    secret *self = luaL_checkudata(L, 1, SECRET);
    OPENSSL_cleanse(self->bytes, self->length);
    return 0;
}

static int secret_tostring(lua_State *L)
{
    lua_pushliteral(L, "<secret>");
    return 1;
}

static int secret_refuse(lua_State *L)
{
    return luaL_error(L, "a secret cannot be read, joined or indexed; hand it on as it is");
}

void kl_secret_push(lua_State *L, const char *bytes, size_t length)
{
    secret *self = lua_newuserdatauv(L, sizeof *self + length + 1, 0);
    self->length = 0;
    if (luaL_newmetatable(L, SECRET)) {
        const luaL_Reg methods[] = {{"__gc", secret_gc},         {"__tostring", secret_tostring},
                                    {"__concat", secret_refuse}, {"__index", secret_refuse},
                                    {"__len", secret_refuse},    {NULL, NULL}};
        luaL_setfuncs(L, methods, 0);
        lua_pushliteral(L, "locked");
        lua_setfield(L, -2, "__metatable");
    }
    lua_setmetatable(L, -2);
    memcpy(self->bytes, bytes, length);
    self->bytes[length] = '\0';
    self->length = length;
}

const char *kl_secret_bytes(lua_State *L, int index, size_t *out_length)
{
    const secret *self = luaL_testudata(L, index, SECRET);
    if (self == NULL)
        return NULL;
    if (out_length != NULL)
        *out_length = self->length;
    return self->bytes;
}

const char *kl_secret_or_string(lua_State *L, int index, size_t *out_length)
{
    const char *bytes = kl_secret_bytes(L, index, out_length);
    return bytes != NULL ? bytes : luaL_checklstring(L, index, out_length);
}
