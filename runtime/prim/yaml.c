// rt.yaml: YAML through libyaml. Written so that YAML 1.1 readers (PyYAML, which cloud-init uses)
// see the types that were meant; read with that version's rules for plain scalars.
#include "prim/prims.h"

#include "base/utf8.h"
#include "bridge/fail.h"
#include "bridge/own.h"
#include "bridge/scratch.h"
#include "bridge/values.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
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

// Words that YAML 1.1 reads as null or booleans.
static bool is_word(const char *text, size_t length)
{
    static const char *const words[] = {"y",     "n",  "yes", "no",  "true",
                                        "false", "on", "off", "null"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strlen(words[i]) == length && strncasecmp(words[i], text, length) == 0)
            return true;
    }
    return false;
}

// Only what no reader can take for another type goes without quotes.
static yaml_scalar_style_t style_of(const char *text, size_t length)
{
    static const char safe[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                               "_./@+,= -";
    if (length == 0 || memchr(text, '\0', length) != NULL)
        return YAML_DOUBLE_QUOTED_SCALAR_STYLE;
    if (memchr(text, '\n', length) != NULL && strchr(" \t\n\r", text[0]) == NULL &&
        memchr(text, '\r', length) == NULL && memchr(text, '\t', length) == NULL)
        return YAML_LITERAL_SCALAR_STYLE; // the emitter quotes what a block cannot show
    bool starts_plain = strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_/", text[0]);
    if (starts_plain && strspn(text, safe) == length && text[length - 1] != ' ' &&
        !is_word(text, length))
        return YAML_PLAIN_SCALAR_STYLE;
    return YAML_DOUBLE_QUOTED_SCALAR_STYLE;
}

static void put_scalar(encoder *self, const char *text, size_t length, yaml_scalar_style_t style)
{
    yaml_event_t event;
    if (kl_utf8_check(text, length) != length)
        refuse(self, "a string that is not valid UTF-8");
    if (!yaml_scalar_event_initialize(&event, NULL, NULL, (const yaml_char_t *)text, (int)length, 1,
                                      1, style))
        refuse(self, "out of memory");
    emit(self, &event);
}

static void put_number(encoder *self)
{
    char text[64];
    if (lua_isinteger(self->L, -1)) {
        snprintf(text, sizeof text, "%" PRId64, (int64_t)lua_tointeger(self->L, -1));
    } else {
        double number = lua_tonumber(self->L, -1);
        if (!isfinite(number))
            refuse(self, "a number that is not finite");
        snprintf(text, sizeof text, "%.17g", number);
        if (strtod(text, NULL) == number && snprintf(text, sizeof text, "%.15g", number) > 0 &&
            strtod(text, NULL) != number)
            snprintf(text, sizeof text, "%.17g", number);
        // YAML 1.1 reads "1e+20" as text: a mantissa needs its point.
        char *exponent = strchr(text, 'e');
        if (strchr(text, '.') == NULL) {
            char tail[32];
            snprintf(tail, sizeof tail, "%s", exponent != NULL ? exponent : "");
            snprintf(exponent != NULL ? exponent : text + strlen(text), 34, ".0%s", tail);
        }
    }
    put_scalar(self, text, strlen(text), YAML_PLAIN_SCALAR_STYLE);
}

static void put_value(encoder *self);

static void put_array(encoder *self, size_t count)
{
    lua_State *L = self->L;
    yaml_event_t event;
    yaml_sequence_start_event_initialize(
        &event, NULL, NULL, 1, count == 0 ? YAML_FLOW_SEQUENCE_STYLE : YAML_BLOCK_SEQUENCE_STYLE);
    emit(self, &event);
    for (size_t i = 1; i <= count; i++) {
        self->path.step[self->path.depth].key = NULL;
        self->path.step[self->path.depth++].index = (lua_Integer)i;
        lua_rawgeti(L, -1, (lua_Integer)i);
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
    size_t length;
    const char *text;
    switch (lua_type(L, -1)) {
    case LUA_TSTRING:
        text = lua_tolstring(L, -1, &length);
        put_scalar(self, text, length, style_of(text, length));
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

    yaml_event_t event;
    yaml_stream_start_event_initialize(&event, YAML_UTF8_ENCODING);
    emit(self, &event);
    yaml_document_start_event_initialize(&event, NULL, NULL, NULL, 1);
    emit(self, &event);
    lua_pushvalue(L, 1);
    put_value(self);
    yaml_document_end_event_initialize(&event, 1);
    emit(self, &event);
    yaml_stream_end_event_initialize(&event);
    emit(self, &event);
    encoder_close(self);
    kl_scratch_push(L, self->out);
    return 1;
}

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

static bool bad(decoder *self, const char *why)
{
    kl_failure_set(&self->failure, "invalid", 0, "YAML line %zu: %s",
                   self->event.start_mark.line + 1, why);
    return false;
}

static bool push_integer(lua_State *L, const char *text)
{
    const char *digits = text + (text[0] == '-' || text[0] == '+');
    bool octal = digits[0] == '0' && digits[1] != '\0';
    char *end;
    if (digits[0] < '0' || digits[0] > '9')
        return false;
    errno = 0;
    long long value = strncmp(digits, "0x", 2) == 0   ? strtoll(text, &end, 16)
                      : strncmp(digits, "0b", 2) == 0 ? strtoll(digits + 2, &end, 2)
                      : octal                         ? strtoll(text, &end, 8)
                                                      : strtoll(text, &end, 10);
    if (*end != '\0' || errno != 0)
        return false;
    lua_pushinteger(L, value);
    return true;
}

static bool push_float(lua_State *L, const char *text)
{
    if (strspn(text, "+-.0123456789eE") != strlen(text) || strchr(text, '.') == NULL ||
        strpbrk(text, "0123456789") == NULL)
        return false;
    char *end;
    double value = strtod(text, &end);
    if (*end != '\0')
        return false;
    lua_pushnumber(L, value);
    return true;
}

// A plain scalar by the rules of YAML 1.1 (yaml.org/type), without sexagesimals and underscores.
static void push_plain(lua_State *L, const char *text, size_t length)
{
    static const char *const yes[] = {"yes", "true", "on"};
    static const char *const no[] = {"no", "false", "off"};
    if (length == 0 || strcmp(text, "~") == 0 || strcasecmp(text, "null") == 0) {
        kl_null_push(L);
        return;
    }
    for (size_t i = 0; i < 3; i++) {
        if (strcasecmp(text, yes[i]) == 0 || strcasecmp(text, no[i]) == 0) {
            lua_pushboolean(L, strcasecmp(text, yes[i]) == 0);
            return;
        }
    }
    if (!push_integer(L, text) && !push_float(L, text))
        lua_pushlstring(L, text, length);
}

static void keep_anchor(decoder *self, const char *anchor)
{
    if (anchor == NULL)
        return;
    lua_pushvalue(self->L, -1);
    lua_setfield(self->L, self->anchors, anchor);
}

static bool read_value(decoder *self);

static bool read_sequence(decoder *self)
{
    lua_State *L = self->L;
    lua_newtable(L);
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
    return true;
}

static bool read_mapping(decoder *self)
{
    lua_State *L = self->L;
    lua_newtable(L);
    keep_anchor(self, (const char *)self->event.data.mapping_start.anchor);
    for (;;) {
        if (!next_event(self))
            return false;
        if (self->event.type == YAML_MAPPING_END_EVENT)
            return true;
        if (self->event.type != YAML_SCALAR_EVENT)
            return bad(self, "a key must be plain text");
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

static bool read_collection(decoder *self)
{
    if (++self->depth > KL_PATH_DEPTH)
        return bad(self, "nested too deep");
    luaL_checkstack(self->L, 8, "YAML nested too deep");
    bool ok =
        self->event.type == YAML_SEQUENCE_START_EVENT ? read_sequence(self) : read_mapping(self);
    self->depth--;
    return ok;
}

// Pushes the value that the current event starts. [-0, +1, e]
static bool read_value(decoder *self)
{
    lua_State *L = self->L;
    const char *text;
    switch (self->event.type) {
    case YAML_SCALAR_EVENT:
        text = (const char *)self->event.data.scalar.value;
        if (self->event.data.scalar.plain_implicit)
            push_plain(L, text, self->event.data.scalar.length);
        else
            lua_pushlstring(L, text, self->event.data.scalar.length);
        keep_anchor(self, (const char *)self->event.data.scalar.anchor);
        return true;
    case YAML_ALIAS_EVENT: // the same table again, so aliases of aliases cost nothing
        if (lua_getfield(L, self->anchors, (const char *)self->event.data.alias.anchor) == LUA_TNIL)
            return bad(self, "an alias of nothing");
        return true;
    case YAML_SEQUENCE_START_EVENT:
    case YAML_MAPPING_START_EVENT:
        return read_collection(self);
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

static int yaml_decode(lua_State *L)
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

static const luaL_Reg yaml_functions[] = {
    {"encode", yaml_encode},
    {"decode", yaml_decode},
    {NULL, NULL},
};

KL_PRIM(yaml)
{
    luaL_newlib(L, yaml_functions);
    return 1;
}
