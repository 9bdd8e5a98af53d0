// rt.cloudinit: user-data as cloud-init reads it: cloud-config, or several parts as MIME, within
// the size that the cloud takes. https://cloudinit.readthedocs.io/en/latest/explanation/format.html
#include "prim/prims.h"

#include "bridge/fail.h"
#include "bridge/opts.h"
#include "bridge/scratch.h"

#include <string.h>

enum { DEFAULT_LIMIT = 64 * 1024 }; // DigitalOcean's; EC2 takes 16 KiB

static lua_Integer limit_option(lua_State *L, int index)
{
    kl_opts opts;
    kl_opts_begin(L, index, &opts);
    lua_Integer limit = kl_opts_integer(&opts, "max_bytes", DEFAULT_LIMIT);
    kl_opts_end(&opts);
    luaL_argcheck(L, limit > 0, index, "max_bytes must be positive");
    return limit;
}

// The text on top of the stack, or nil and an error when it is too long. [-0, +(0|2), e]
static int within_limit(lua_State *L, lua_Integer limit)
{
    size_t length = lua_rawlen(L, -1);
    if (length <= (size_t)limit)
        return 1;
    return kl_fail_as(L, "limit",
                      "user-data of %zu bytes is too long, the cloud takes %lld; put big files "
                      "into the image, or upload them when the machine is ready",
                      length, (long long)limit);
}

static int cloudinit_config(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_Integer limit = limit_option(L, 2);
    lua_pushliteral(L, "#cloud-config\n");
    lua_getglobal(L, "require");
    lua_pushliteral(L, "rt.yaml");
    lua_call(L, 1, 1);
    lua_getfield(L, -1, "encode");
    lua_remove(L, -2);
    lua_pushvalue(L, 1);
    lua_call(L, 1, 1);
    lua_concat(L, 2);
    return within_limit(L, limit);
}

static const char *const part_types[] = {"cloud-config", "shellscript", "cloud-boothook", "jinja2",
                                         NULL};

static bool known_type(const char *type)
{
    for (size_t i = 0; part_types[i] != NULL; i++) {
        if (strcmp(part_types[i], type) == 0)
            return true;
    }
    return false;
}

// One part of the list on top of the stack. [-0, +0, e]
static void put_part(lua_State *L, kl_buf *out, const char *boundary)
{
    kl_opts opts;
    size_t length;
    kl_opts_begin(L, lua_gettop(L), &opts);
    const char *type = kl_opts_need_string(&opts, "type");
    const char *filename = kl_opts_string(&opts, "filename", "part");
    const char *content = kl_opts_bytes(&opts, "content", &length);
    kl_opts_end(&opts);
    if (content == NULL || !known_type(type))
        luaL_error(L, content == NULL ? "a part needs its content"
                                      : "a part's type is cloud-config, shellscript, "
                                        "cloud-boothook or jinja2");
    if (strpbrk(filename, "\"\\\r\n") != NULL)
        luaL_error(L, "a part's filename has no quotes and no line breaks");
    if (memmem(content, length, boundary, strlen(boundary)) != NULL)
        luaL_error(L, "a part's content has the line that separates parts");
    kl_buf_printf(out,
                  "--%s\nContent-Type: text/%s; charset=\"utf-8\"\nMIME-Version: 1.0\n"
                  "Content-Transfer-Encoding: 8bit\n"
                  "Content-Disposition: attachment; filename=\"%s\"\n\n",
                  boundary, type, filename);
    kl_buf_append(out, content, length);
    if (length == 0 || content[length - 1] != '\n')
        kl_buf_puts(out, "\n");
    lua_pop(L, 1); // the set that kl_opts keeps
}

static int cloudinit_multipart(lua_State *L)
{
    static const char boundary[] = "==kiln-part-of-user-data=="; // fixed: the same text every time
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_Integer limit = limit_option(L, 2);
    kl_buf *out = kl_scratch(L);
    kl_buf_printf(out, "Content-Type: multipart/mixed; boundary=\"%s\"\nMIME-Version: 1.0\n\n",
                  boundary);
    lua_Integer count = (lua_Integer)lua_rawlen(L, 1);
    luaL_argcheck(L, count > 0, 1, "a list of parts");
    for (lua_Integer i = 1; i <= count; i++) {
        lua_rawgeti(L, 1, i);
        luaL_checktype(L, -1, LUA_TTABLE);
        put_part(L, out, boundary);
        lua_pop(L, 1);
    }
    kl_buf_printf(out, "--%s--\n", boundary);
    kl_scratch_push(L, out);
    return within_limit(L, limit);
}

static const luaL_Reg cloudinit_functions[] = {
    {"config", cloudinit_config},
    {"multipart", cloudinit_multipart},
    {NULL, NULL},
};

KL_PRIM(cloudinit)
{
    luaL_newlib(L, cloudinit_functions);
    return 1;
}
