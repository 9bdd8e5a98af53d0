// rt.yaml: YAML through libyaml. Written so that YAML 1.1 readers (PyYAML, which cloud-init uses)
// see the types that were meant; read with that version's rules for plain scalars.
#include "prim/yaml.h"

#include "prim/prims.h"

#include "base/utf8.h"
#include "base/yaml_plain.h"
#include "bridge/fail.h"
#include "bridge/own.h"
#include "bridge/scratch.h"
#include "bridge/values.h"
#include "io/base64.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

enum { OUTPUT_LIMIT = 4 << 20 }; // shared tables (aliases) must not grow without bound

typedef struct encoder {
    yaml_emitter_t emitter;
    bool open;
    lua_State *L;
    kl_buf *out;
    kl_path path;
} encoder;

static void encoder_close(void *self)
{
    encoder *e = self;
    if (e->open)
        yaml_emitter_delete(&e->emitter);
    e->open = false;
}

static const luaL_Reg no_methods[] = {{NULL, NULL}};
static const kl_own_class encoder_class = {"rt.yaml.encoder", no_methods, encoder_close};

static int write_out(void *data, unsigned char *bytes, size_t length)
{
    encoder *self = data;
    if (self->out->length + length > OUTPUT_LIMIT)
        return 0;
    kl_buf_append(self->out, bytes, length);
    return 1;
}

static void refuse(encoder *self, const char *why)
{
    const char *where = kl_path_push(self->L, &self->path);
    luaL_error(self->L, "cannot encode %s as YAML: %s", where, why);
}

static void emit(encoder *self, yaml_event_t *event)
{
    if (!yaml_emitter_emit(&self->emitter, event)) // takes the event
        refuse(self, self->emitter.problem != NULL ? self->emitter.problem : "too long");
}

static yaml_scalar_style_t style_of(const char *text, size_t length)
{
    switch (kl_yaml_style_of(text, length)) {
    case KL_YAML_PLAIN:
        return YAML_PLAIN_SCALAR_STYLE;
    case KL_YAML_BLOCK:
        return YAML_LITERAL_SCALAR_STYLE; // the emitter quotes what a block cannot show
    default:
        return YAML_DOUBLE_QUOTED_SCALAR_STYLE;
    }
}

static void put_tagged(encoder *self, const char *tag, const char *text, size_t length,
                       yaml_scalar_style_t style)
{
    yaml_event_t event;
    if (!yaml_scalar_event_initialize(&event, NULL, (const yaml_char_t *)tag,
                                      (const yaml_char_t *)text, (int)length, tag == NULL,
                                      tag == NULL, style))
        refuse(self, "out of memory");
    emit(self, &event);
}

static void put_scalar(encoder *self, const char *text, size_t length, yaml_scalar_style_t style)
{
    if (kl_utf8_check(text, length) != length)
        refuse(self, "a name that is not valid UTF-8");
    put_tagged(self, NULL, text, length, style);
}

// In lines of 76 characters, as PyYAML writes it.
static void put_binary(encoder *self, const char *bytes, size_t length)
{
    if (length > OUTPUT_LIMIT)
        refuse(self, "too long");
    kl_buf *text = kl_scratch(self->L), *lines = kl_scratch(self->L);
    kl_base64_encode(text, bytes, length);
    for (size_t at = 0; at < text->length; at += 76) {
        size_t rest = text->length - at;
        kl_buf_append(lines, text->data + at, rest < 76 ? rest : 76);
        kl_buf_append(lines, "\n", 1);
    }
    put_tagged(self, KL_YAML_BINARY_TAG, lines->data, lines->length, YAML_LITERAL_SCALAR_STYLE);
    kl_buf_free(text);
    kl_buf_free(lines);
    lua_pop(self->L, 2);
}

static void put_string(encoder *self)
{
    size_t length;
    const char *text = lua_tolstring(self->L, -1, &length);
    if (kl_utf8_check(text, length) == length)
        put_scalar(self, text, length, style_of(text, length));
    else
        put_binary(self, text, length);
}

static void put_number(encoder *self)
{
    char text[64];
    double number = lua_tonumber(self->L, -1);
    if (lua_isinteger(self->L, -1))
        snprintf(text, sizeof text, "%" PRId64, (int64_t)lua_tointeger(self->L, -1));
    else if (isfinite(number))
        kl_yaml_real_text(number, text, sizeof text);
    else
        refuse(self, "a number that is not finite");
    put_scalar(self, text, strlen(text), YAML_PLAIN_SCALAR_STYLE);
}

static void put_value(encoder *self);

static void put_array(encoder *self, size_t count)
{
    yaml_event_t event;
    yaml_sequence_start_event_initialize(
        &event, NULL, NULL, 1, count == 0 ? YAML_FLOW_SEQUENCE_STYLE : YAML_BLOCK_SEQUENCE_STYLE);
    emit(self, &event);
    for (size_t i = 1; i <= count; i++) {
        self->path.step[self->path.depth].key = NULL;
        self->path.step[self->path.depth++].index = (lua_Integer)i;
        lua_rawgeti(self->L, -1, (lua_Integer)i);
        put_value(self);
        self->path.depth--;
    }
    yaml_sequence_end_event_initialize(&event);
    emit(self, &event);
}

static void put_map(encoder *self, size_t count)
{
    lua_State *L = self->L;
    yaml_event_t event;
    yaml_mapping_start_event_initialize(
        &event, NULL, NULL, 1, count == 0 ? YAML_FLOW_MAPPING_STYLE : YAML_BLOCK_MAPPING_STYLE);
    emit(self, &event);
    int table = lua_gettop(L);
    kl_key *keys = kl_table_keys(L, table, count);
    for (size_t i = 0; i < count; i++) {
        self->path.step[self->path.depth++].key = keys[i].bytes;
        put_scalar(self, keys[i].bytes, keys[i].length, style_of(keys[i].bytes, keys[i].length));
        lua_pushlstring(L, keys[i].bytes, keys[i].length);
        lua_rawget(L, table);
        put_value(self);
        self->path.depth--;
    }
    lua_pop(L, 1);
    yaml_mapping_end_event_initialize(&event);
    emit(self, &event);
}

static void put_table(encoder *self)
{
    size_t count;
    if (self->path.depth >= KL_PATH_DEPTH)
        refuse(self, "nested too deep");
    luaL_checkstack(self->L, 8, "YAML nested too deep");
    switch (kl_table_shape(self->L, -1, &count)) {
    case KL_SHAPE_ARRAY:
        put_array(self, count);
        return;
    case KL_SHAPE_MAP:
        put_map(self, count);
        return;
    default:
        refuse(self, "a table that is neither a list nor a map of names");
    }
}

// Writes the value on top of the stack. [-1, +0, e]
static void put_value(encoder *self)
{
    lua_State *L = self->L;
    const char *text;
    switch (lua_type(L, -1)) {
    case LUA_TSTRING:
        put_string(self);
        break;
    case LUA_TNUMBER:
        put_number(self);
        break;
    case LUA_TBOOLEAN:
        text = lua_toboolean(L, -1) ? "true" : "false";
        put_scalar(self, text, strlen(text), YAML_PLAIN_SCALAR_STYLE);
        break;
    case LUA_TTABLE:
        put_table(self);
        break;
    default:
        if (!kl_null_is(L, -1))
            refuse(self, luaL_typename(L, -1));
        put_scalar(self, "null", 4, YAML_PLAIN_SCALAR_STYLE);
    }
    lua_pop(L, 1);
}

// The value at stack index 1.
static void put_document(encoder *self)
{
    yaml_event_t event;
    yaml_stream_start_event_initialize(&event, YAML_UTF8_ENCODING);
    emit(self, &event);
    yaml_document_start_event_initialize(&event, NULL, NULL, NULL, 1);
    emit(self, &event);
    lua_pushvalue(self->L, 1);
    put_value(self);
    yaml_document_end_event_initialize(&event, 1);
    emit(self, &event);
    yaml_stream_end_event_initialize(&event);
    emit(self, &event);
}

static int yaml_encode(lua_State *L)
{
    luaL_checkany(L, 1);
    lua_settop(L, 1);
    encoder *self = kl_own_new(L, sizeof *self, &encoder_class);
    self->L = L;
    self->out = kl_scratch(L);
    if (!yaml_emitter_initialize(&self->emitter))
        return luaL_error(L, "out of memory");
    self->open = true;
    yaml_emitter_set_output(&self->emitter, write_out, self);
    yaml_emitter_set_unicode(&self->emitter, 1);
    yaml_emitter_set_width(&self->emitter, -1);

    put_document(self);
    encoder_close(self);
    kl_scratch_push(L, self->out);
    return 1;
}

static const luaL_Reg yaml_functions[] = {
    {"encode", yaml_encode},
    {"decode", kl_yaml_decode},
    {NULL, NULL},
};

KL_PRIM(yaml)
{
    luaL_newlib(L, yaml_functions);
    return 1;
}
