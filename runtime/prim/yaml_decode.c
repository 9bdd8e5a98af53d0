// rt.yaml's decode: libyaml's events to Lua values.
#include "prim/yaml.h"

#include "base/yaml_plain.h"
#include "bridge/fail.h"
#include "bridge/own.h"
#include "bridge/scratch.h"
#include "bridge/values.h"
#include "io/base64.h"

#include <lauxlib.h>
#include <stdbool.h>
#include <string.h>
#include <yaml.h>

static const luaL_Reg no_methods[] = {{NULL, NULL}};

typedef struct decoder {
    yaml_parser_t parser;
    yaml_event_t event;
    bool open;
    bool has_event;
    lua_State *L;
    int anchors; // stack index of the table name -> value
    int depth;
    kl_failure failure;
} decoder;

static void drop_event(decoder *self)
{
    if (self->has_event)
        yaml_event_delete(&self->event);
    self->has_event = false;
}

static void decoder_close(void *data)
{
    decoder *self = data;
    drop_event(self);
    if (self->open)
        yaml_parser_delete(&self->parser);
    self->open = false;
}

static const kl_own_class decoder_class = {"rt.yaml.decoder", no_methods, decoder_close};

static bool next_event(decoder *self)
{
    drop_event(self);
    if (!yaml_parser_parse(&self->parser, &self->event)) {
        kl_failure_set(&self->failure, "invalid", 0, "YAML line %zu: %s",
                       self->parser.problem_mark.line + 1,
                       self->parser.problem != NULL ? self->parser.problem : "cannot be read");
        return false;
    }
    self->has_event = true;
    return true;
}

static bool refuse(decoder *self, const char *kind, const char *why)
{
    kl_failure_set(&self->failure, kind, 0, "YAML line %zu: %s", self->event.start_mark.line + 1,
                   why);
    return false;
}

static bool bad(decoder *self, const char *why)
{
    return refuse(self, "invalid", why);
}

// Good YAML that would get another meaning here.
static bool unsupported(decoder *self, const char *why)
{
    return refuse(self, "unsupported", why);
}

static bool push_plain(decoder *self, const char *text, size_t length)
{
    lua_State *L = self->L;
    kl_yaml_scalar scalar = kl_yaml_plain(text, length);
    switch (scalar.type) {
    case KL_YAML_NULL:
        kl_null_push(L);
        break;
    case KL_YAML_BOOLEAN:
        lua_pushboolean(L, scalar.boolean);
        break;
    case KL_YAML_INTEGER:
        lua_pushinteger(L, scalar.integer);
        break;
    case KL_YAML_HUGE: // as text it would be written in quotes
        return unsupported(self, "a whole number that is too large");
    case KL_YAML_REAL:
        lua_pushnumber(L, scalar.real);
        break;
    default:
        lua_pushlstring(L, text, length);
    }
    return true;
}

// Tags other than the types that are read anyway would be lost, and with them what was meant.
static bool is_known_tag(const char *tag, bool plain)
{
    static const char *const known[] = {YAML_NULL_TAG, YAML_BOOL_TAG, YAML_INT_TAG, YAML_FLOAT_TAG};
    if (tag == NULL || strcmp(tag, "!") == 0 || strcmp(tag, YAML_STR_TAG) == 0 ||
        strcmp(tag, YAML_SEQ_TAG) == 0 || strcmp(tag, YAML_MAP_TAG) == 0)
        return true;
    for (size_t i = 0; plain && i < sizeof known / sizeof known[0]; i++) {
        if (strcmp(tag, known[i]) == 0)
            return true;
    }
    return false;
}

// Bytes in base64, with blanks and line ends anywhere (https://yaml.org/type/binary.html).
static bool push_binary(decoder *self, const char *text, size_t length)
{
    kl_buf *dense = kl_scratch(self->L), *bytes = kl_scratch(self->L);
    kl_buf_reserve(dense, length);
    for (size_t i = 0; i < length; i++) {
        if (memchr(" \t\r\n", text[i], 4) == NULL)
            dense->data[dense->length++] = text[i];
    }
    if (!kl_base64_decode(bytes, dense->data, dense->length))
        return bad(self, "!!binary that is not base64");
    kl_buf_free(dense);
    kl_scratch_push(self->L, bytes);
    lua_replace(self->L, -3);
    lua_pop(self->L, 1);
    return true;
}

static bool read_scalar(decoder *self)
{
    const char *text = (const char *)self->event.data.scalar.value;
    const char *tag = (const char *)self->event.data.scalar.tag;
    size_t length = self->event.data.scalar.length;
    bool plain = self->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    if (tag != NULL && strcmp(tag, KL_YAML_BINARY_TAG) == 0)
        return push_binary(self, text, length);
    if (!is_known_tag(tag, plain))
        return unsupported(self, "a tag that is not supported");
    if (!plain || (tag != NULL && (tag[1] == '\0' || strcmp(tag, YAML_STR_TAG) == 0)))
        lua_pushlstring(self->L, text, length);
    else
        return push_plain(self, text, length);
    return true;
}

static void keep_anchor(decoder *self, const char *anchor)
{
    if (anchor == NULL)
        return;
    lua_pushvalue(self->L, -1);
    lua_setfield(self->L, self->anchors, anchor);
}

static bool read_value(decoder *self);

// Pushes the table of a collection. [-0, +1, e]
static bool push_table(decoder *self)
{
    if (!lua_checkstack(self->L, 8) || self->depth >= KL_PATH_DEPTH)
        return bad(self, "nested too deep");
    self->depth++;
    lua_newtable(self->L);
    return true;
}

static bool read_sequence(decoder *self)
{
    lua_State *L = self->L;
    if (!is_known_tag((const char *)self->event.data.sequence_start.tag, false))
        return unsupported(self, "a tag that is not supported");
    if (!push_table(self))
        return false;
    keep_anchor(self, (const char *)self->event.data.sequence_start.anchor);
    for (lua_Integer i = 1;; i++) {
        if (!next_event(self))
            return false;
        if (self->event.type == YAML_SEQUENCE_END_EVENT)
            break;
        if (!read_value(self))
            return false;
        lua_rawseti(L, -2, i);
    }
    kl_array_mark(L, -1);
    self->depth--;
    return true;
}

static bool read_mapping(decoder *self)
{
    lua_State *L = self->L;
    if (!is_known_tag((const char *)self->event.data.mapping_start.tag, false))
        return unsupported(self, "a tag that is not supported");
    if (!push_table(self))
        return false;
    keep_anchor(self, (const char *)self->event.data.mapping_start.anchor);
    for (;;) {
        if (!next_event(self))
            return false;
        if (self->event.type == YAML_MAPPING_END_EVENT)
            return self->depth-- > 0;
        if (self->event.type != YAML_SCALAR_EVENT)
            return bad(self, "a key must be plain text");
        if (!is_known_tag((const char *)self->event.data.scalar.tag, false))
            return unsupported(self, "a tag that is not supported, at a key");
        if (self->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
            strcmp((const char *)self->event.data.scalar.value, "<<") == 0)
            return unsupported(self, "merge keys (<<) are not supported");
        lua_pushlstring(L, (const char *)self->event.data.scalar.value,
                        self->event.data.scalar.length);
        lua_pushvalue(L, -1);
        if (lua_rawget(L, -3) != LUA_TNIL)
            return bad(self, "the same key twice");
        lua_pop(L, 1);
        if (!next_event(self) || !read_value(self))
            return false;
        lua_rawset(L, -3);
    }
}

// Pushes the value that the current event starts. [-0, +1, e]
static bool read_value(decoder *self)
{
    lua_State *L = self->L;
    switch (self->event.type) {
    case YAML_SCALAR_EVENT:
        if (!read_scalar(self))
            return false;
        keep_anchor(self, (const char *)self->event.data.scalar.anchor);
        return true;
    case YAML_ALIAS_EVENT: // the same table again, so aliases of aliases cost nothing
        if (lua_getfield(L, self->anchors, (const char *)self->event.data.alias.anchor) == LUA_TNIL)
            return bad(self, "an alias of nothing");
        return true;
    case YAML_SEQUENCE_START_EVENT:
        return read_sequence(self);
    case YAML_MAPPING_START_EVENT:
        return read_mapping(self);
    default:
        return bad(self, "a value is missing");
    }
}

static bool read_document(decoder *self)
{
    if (!next_event(self) || !next_event(self)) // stream start, document start
        return false;
    if (self->event.type == YAML_STREAM_END_EVENT) {
        kl_null_push(self->L);
        return true;
    }
    if (!next_event(self) || !read_value(self))
        return false;
    if (!next_event(self) || !next_event(self)) // document end, stream end
        return false;
    return self->event.type == YAML_STREAM_END_EVENT || bad(self, "more than one document");
}

int kl_yaml_decode(lua_State *L)
{
    size_t length;
    const char *text = luaL_checklstring(L, 1, &length);
    lua_settop(L, 1);
    decoder *self = kl_own_new(L, sizeof *self, &decoder_class);
    self->L = L;
    lua_newtable(L);
    self->anchors = lua_gettop(L);
    if (!yaml_parser_initialize(&self->parser))
        return luaL_error(L, "out of memory");
    self->open = true;
    yaml_parser_set_input_string(&self->parser, (const unsigned char *)text, length);
    bool ok = read_document(self);
    decoder_close(self);
    return ok ? 1 : kl_fail(L, &self->failure);
}
