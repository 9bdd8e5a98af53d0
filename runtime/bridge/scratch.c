// A buffer that Lua frees.
#include "bridge/scratch.h"

#include <lauxlib.h>
#include <openssl/crypto.h>

static int scratch_gc(lua_State *L)
{
    kl_buf_free(lua_touserdata(L, 1));
    return 0;
}

static int scratch_secret_gc(lua_State *L)
{
    kl_scratch_wipe(lua_touserdata(L, 1));
    return 0;
}

static kl_buf *scratch(lua_State *L, const char *name, lua_CFunction collect)
{
    kl_buf *buf = lua_newuserdatauv(L, sizeof *buf, 0);
    *buf = (kl_buf){0};
    if (luaL_newmetatable(L, name)) {
        lua_pushcfunction(L, collect);
        lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, -2);
    return buf;
}

kl_buf *kl_scratch(lua_State *L)
{
    return scratch(L, "kiln.scratch", scratch_gc);
}

kl_buf *kl_scratch_secret(lua_State *L)
{
    return scratch(L, "kiln.scratch.secret", scratch_secret_gc);
}

void kl_scratch_wipe(kl_buf *buf)
{
    if (buf->data != NULL)
        OPENSSL_cleanse(buf->data, buf->capacity);
    kl_buf_free(buf);
}

void kl_scratch_push(lua_State *L, kl_buf *buf)
{
    lua_pushlstring(L, kl_buf_text(buf), buf->length);
    kl_buf_free(buf);
}
