// Reads JSON text strictly and says where it is wrong.
#include "base/json_scan.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_number.h"
#include "base/utf8.h"

typedef struct scanner {
    const char *text;
    size_t length;
    size_t at;
    size_t copied; // how much of the text the copy has
    kl_buf *copy;
    kl_buf *keys; // of found_key; NULL: not asked for
    kl_json_scan *out;
    bool bytes;    // \udcXX is a byte
    size_t opened; // arrays and objects so far
    int depth;
    char open[KL_JSON_DEPTH];     // '[' or '{' of each level
    size_t object[KL_JSON_DEPTH]; // its number
} scanner;

typedef struct found_key {
    size_t object;
    size_t at; // of its first quote
    size_t length;
    const char *text;
} found_key;

static bool wrong(scanner *self, size_t at, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static bool wrong(scanner *self, size_t at, const char *format, ...)
{
    kl_json_scan *out = self->out;
    out->at = at;
    out->line = 1;
    size_t start = 0;
    for (size_t i = 0; i < at; i++) {
        if (self->text[i] == '\n') {
            out->line++;
            start = i + 1;
        }
    }
    out->column = (int)(at - start) + 1;
    va_list args;
    va_start(args, format);
    vsnprintf(out->message, sizeof out->message, format, args);
    va_end(args);
    return false;
}

static int peek(const scanner *self)
{
    return self->at < self->length ? (unsigned char)self->text[self->at] : -1;
}

static bool expected(scanner *self, const char *what)
{
    int c = peek(self);
    if (c < 0)
        return wrong(self, self->at, "the text ends where %s was expected", what);
    if (c > 0x20 && c < 0x7F)
        return wrong(self, self->at, "%s was expected, not '%c'", what, c);
    return wrong(self, self->at, "%s was expected, not byte 0x%02x", what, (unsigned)c);
}

static void skip_space(scanner *self)
{
    int c;
    while ((c = peek(self)) == ' ' || c == '\t' || c == '\n' || c == '\r')
        self->at++;
}

static size_t skip_digits(scanner *self)
{
    size_t start = self->at;
    while (isdigit(peek(self)))
        self->at++;
    return self->at - start;
}

static void copy_instead(scanner *self, size_t start, const char *bytes, size_t length);

static bool copy_whole(scanner *self, size_t start)
{
    kl_buf whole = {0};
    kl_json_mark_whole(&whole, self->text + start, self->at - start);
    copy_instead(self, start, whole.data, whole.length);
    kl_buf_free(&whole);
    return true;
}

// A whole number of 15 digits and more is an identifier somebody would look up: never round it.
static bool check_number(scanner *self, size_t start, size_t whole, size_t fraction, long exponent)
{
    const char *why = NULL;
    const char *literal = self->text + start;
    size_t length = self->at - start;
    if (whole >= 15 && kl_json_is_int64(literal, length))
        return copy_whole(self, start);
    if (whole >= 15 || (whole + fraction >= 15 && exponent >= (long)fraction))
        why = "is beyond 64 bits, or a fraction of 15 digits or more, and would be rounded";
    else if (exponent > 0 && kl_json_is_infinite(literal, length))
        why = "is too large";
    return why == NULL || wrong(self, start, "number %.*s%s %s", length < 60 ? (int)length : 60,
                                literal, length < 60 ? "" : "…", why);
}

// The digits and sign after the e, kept small: nothing above 1000 makes a difference.
static bool scan_exponent(scanner *self, long *out)
{
    bool negative = peek(self) == '-';
    if (negative || peek(self) == '+')
        self->at++;
    size_t start = self->at;
    if (skip_digits(self) == 0)
        return expected(self, "a digit");
    for (size_t i = start; i < self->at && *out < 1000; i++)
        *out = *out * 10 + (self->text[i] - '0');
    if (negative)
        *out = -*out;
    return true;
}

static bool scan_number(scanner *self)
{
    size_t start = self->at;
    if (peek(self) == '-')
        self->at++;
    bool zero = peek(self) == '0';
    size_t whole = skip_digits(self);
    if (whole == 0)
        return expected(self, "a digit");
    if (zero && whole > 1)
        return wrong(self, start, "a number must not start with 0");
    size_t fraction = 0;
    if (peek(self) == '.') {
        self->at++;
        if ((fraction = skip_digits(self)) == 0)
            return expected(self, "a digit");
    }
    long exponent = 0;
    if (peek(self) == 'e' || peek(self) == 'E') {
        self->at++;
        if (!scan_exponent(self, &exponent))
            return false;
    }
    return check_number(self, start, zero ? 0 : whole, fraction, exponent);
}

static int hex_value(scanner *self)
{
    int value = 0;
    for (int i = 0; i < 4; i++, self->at++) {
        int c = peek(self);
        if (!isxdigit(c))
            return -1;
        value = value * 16 + (isdigit(c) ? c - '0' : tolower(c) - 'a' + 10);
    }
    return value;
}

// Writes `bytes` to the copy in place of the text from `start` to here.
static void copy_instead(scanner *self, size_t start, const char *bytes, size_t length)
{
    kl_buf_append(self->copy, self->text + self->copied, start - self->copied);
    kl_buf_append(self->copy, bytes, length);
    self->copied = self->at;
}

static bool scan_unicode(scanner *self, size_t start)
{
    int unit = hex_value(self);
    if (unit < 0)
        return expected(self, "a hexadecimal digit");
    if (self->bytes && unit >= 0xDC80 && unit <= 0xDCFF) {
        char byte = (char)(unit - 0xDC00);
        copy_instead(self, start, &byte, 1);
        return true;
    }
    bool high = unit >= 0xD800 && unit <= 0xDBFF;
    if (!high && (unit < 0xDC00 || unit > 0xDFFF))
        return true;
    if (high && self->at + 1 < self->length && self->text[self->at] == '\\' &&
        self->text[self->at + 1] == 'u') {
        self->at += 2;
        int low = hex_value(self);
        if (low >= 0xDC00 && low <= 0xDFFF)
            return true;
    }
    return wrong(self, start, "half a surrogate pair is no character");
}

static bool scan_escape(scanner *self)
{
    size_t start = self->at++;
    int c = peek(self);
    if (c == 'u') {
        self->at++;
        return scan_unicode(self, start);
    }
    if (c < 0 || strchr("\"\\/bfnrt", c) == NULL || c == 0)
        return wrong(self, start, "an escape that JSON does not know");
    self->at++;
    return true;
}

static bool scan_string(scanner *self)
{
    size_t start = self->at++;
    for (;;) {
        int c = peek(self);
        if (c < 0)
            return wrong(self, start, "a string without an end");
        if (c == '"') {
            self->at++;
            return true;
        }
        if (c == '\\') {
            if (!scan_escape(self))
                return false;
            continue;
        }
        if (c < 0x20)
            return wrong(self, self->at, "a control character (0x%02x) inside a string",
                         (unsigned)c);
        size_t step = kl_utf8_step(self->text + self->at, self->length - self->at);
        if (step == 0)
            return wrong(self, self->at, "byte 0x%02x is not valid UTF-8", (unsigned)c);
        self->at += step;
    }
}

static bool scan_word(scanner *self, const char *word)
{
    size_t length = strlen(word);
    if (self->length - self->at < length || memcmp(self->text + self->at, word, length) != 0)
        return expected(self, "a value");
    self->at += length;
    return true;
}

static bool scan_key(scanner *self)
{
    skip_space(self);
    if (peek(self) != '"')
        return expected(self, "a string as key");
    size_t start = self->at;
    if (!scan_string(self))
        return false;
    if (self->keys != NULL) {
        found_key key = {self->object[self->depth - 1], start, self->at - start,
                         self->text + start};
        kl_buf_append(self->keys, &key, sizeof key);
    }
    skip_space(self);
    if (peek(self) != ':')
        return expected(self, "':'");
    self->at++;
    self->out->members++;
    return true;
}

// Enters an array or object. `out_value`: whether a value comes next (it was not empty).
static bool scan_open(scanner *self, bool *out_value)
{
    size_t start = self->at;
    char open = self->text[self->at++];
    skip_space(self);
    *out_value = false;
    if (peek(self) == (open == '[' ? ']' : '}')) {
        self->at++;
        if (open == '[')
            copy_instead(self, start, KL_JSON_EMPTY_ARRAY, sizeof KL_JSON_EMPTY_ARRAY - 1);
        return true;
    }
    if (self->depth == KL_JSON_DEPTH)
        return wrong(self, start, "nested deeper than %d levels", KL_JSON_DEPTH);
    self->object[self->depth] = self->opened++;
    self->open[self->depth++] = open;
    *out_value = true;
    return open == '[' || scan_key(self);
}

static bool scan_value(scanner *self, bool *out_value)
{
    *out_value = false;
    skip_space(self);
    int c = peek(self);
    switch (c) {
    case '[':
    case '{':
        return scan_open(self, out_value);
    case '"':
        return scan_string(self);
    case 't':
        return scan_word(self, "true");
    case 'f':
        return scan_word(self, "false");
    case 'n':
        return scan_word(self, "null");
    default:
        return c == '-' || isdigit(c) ? scan_number(self) : expected(self, "a value");
    }
}

// After a value: closes what ends here. `out_value`: whether another value comes.
static bool scan_after(scanner *self, bool *out_value)
{
    *out_value = false;
    while (self->depth > 0) {
        skip_space(self);
        bool array = self->open[self->depth - 1] == '[';
        int c = peek(self);
        if (c == ',') {
            self->at++;
            *out_value = true;
            return array || scan_key(self);
        }
        if (c != (array ? ']' : '}'))
            return expected(self, array ? "',' or ']'" : "',' or '}'");
        self->at++;
        self->depth--;
    }
    return true;
}

static bool scan_all(scanner *self)
{
    bool more = true;
    while (more) {
        if (!scan_value(self, &more))
            return false;
        if (!more && !scan_after(self, &more))
            return false;
    }
    skip_space(self);
    return self->at == self->length || expected(self, "the end of the text");
}

bool kl_json_scan_text(kl_json_scan *out, kl_buf *copy, const char *text, size_t length, bool bytes)
{
    scanner self = {.text = text, .length = length, .copy = copy, .out = out, .bytes = bytes};
    *out = (kl_json_scan){0};
    if (!scan_all(&self))
        return false;
    if (copy->length > 0)
        kl_buf_append(copy, text + self.copied, length - self.copied);
    return true;
}

static int by_object(const void *a, const void *b)
{
    const found_key *left = a;
    const found_key *right = b;
    if (left->object != right->object)
        return left->object < right->object ? -1 : 1;
    if (left->length != right->length)
        return left->length < right->length ? -1 : 1;
    int order = memcmp(left->text, right->text, left->length);
    return order != 0 ? order : (left->at > right->at) - (left->at < right->at);
}

static bool same_key(const found_key *a, const found_key *b)
{
    return a->object == b->object && a->length == b->length &&
           memcmp(a->text, b->text, a->length) == 0;
}

bool kl_json_scan_twice(kl_json_scan *out, const char *text, size_t length)
{
    kl_buf found = {0}, copy = {0};
    scanner self = {.text = text, .length = length, .copy = &copy, .keys = &found, .out = out};
    self.bytes = true; // the text was accepted
    *out = (kl_json_scan){0};
    scan_all(&self);
    size_t count = found.length / sizeof(found_key);
    found_key *keys = (found_key *)(void *)found.data;
    const found_key *first = NULL;
    if (count > 1)
        qsort(keys, count, sizeof *keys, by_object);
    for (size_t i = 1; i < count; i++) {
        if (same_key(&keys[i - 1], &keys[i]) && (first == NULL || keys[i].at < first->at))
            first = &keys[i];
    }
    if (first != NULL)
        wrong(&self, first->at, "the object has the key %.*s twice",
              first->length < 100 ? (int)first->length : 100, first->text);
    bool twice = first != NULL;
    kl_buf_free(&found);
    kl_buf_free(&copy);
    return twice;
}
