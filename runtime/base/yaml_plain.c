// Plain scalars by YAML 1.1.
#include "base/yaml_plain.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_/";
static const char safe[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                           "_./@+,= -";

// Words that are null or booleans to some reader.
static bool is_word(const char *text)
{
    static const char *const words[] = {"y",     "n",  "yes", "no",  "true",
                                        "false", "on", "off", "null"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strcasecmp(words[i], text) == 0)
            return true;
    }
    return false;
}

kl_yaml_style kl_yaml_style_of(const char *text, size_t length)
{
    if (length == 0 || memchr(text, '\0', length) != NULL)
        return KL_YAML_QUOTED;
    if (strchr(text, '\n') != NULL && strchr(" \t\n\r", text[0]) == NULL &&
        strpbrk(text, "\r\t") == NULL)
        return KL_YAML_BLOCK;
    if (strchr(letters, text[0]) != NULL && strspn(text, safe) == length &&
        text[length - 1] != ' ' && !is_word(text))
        return KL_YAML_PLAIN;
    return KL_YAML_QUOTED;
}

// KL_YAML_INTEGER, KL_YAML_HUGE, or KL_YAML_TEXT for what is no whole number.
static kl_yaml_type read_integer(const char *text, int64_t *out)
{
    bool negative = text[0] == '-';
    const char *digits = text + (negative || text[0] == '+');
    if (digits[0] < '0' || digits[0] > '9')
        return KL_YAML_TEXT;
    int base = 10;
    if (strncmp(digits, "0x", 2) == 0)
        base = 16;
    else if (strncmp(digits, "0b", 2) == 0)
        base = 2;
    else if (digits[0] == '0' && digits[1] != '\0')
        base = 8;
    if (base == 2 && digits[2] != '0' && digits[2] != '1') // strtoull takes a sign, or nothing
        return KL_YAML_TEXT;
    char *end;
    errno = 0;
    uint64_t size = strtoull(base == 2 ? digits + 2 : digits, &end, base);
    if (*end != '\0')
        return KL_YAML_TEXT;
    if (errno != 0 || size > (uint64_t)INT64_MAX + (negative ? 1 : 0))
        return KL_YAML_HUGE;
    *out = (int64_t)(negative ? -size : size);
    return KL_YAML_INTEGER;
}

static bool read_real(const char *text, double *out)
{
    if (strspn(text, "+-.0123456789eE") != strlen(text) || strchr(text, '.') == NULL ||
        strpbrk(text, "0123456789") == NULL)
        return false;
    char *end;
    *out = strtod(text, &end);
    return *end == '\0';
}

kl_yaml_scalar kl_yaml_plain(const char *text, size_t length)
{
    static const char *const words[] = {"no", "yes", "false", "true", "off", "on"};
    kl_yaml_scalar scalar = {KL_YAML_TEXT, false, 0, 0};
    if (length == 0 || strcmp(text, "~") == 0 || strcasecmp(text, "null") == 0)
        scalar.type = KL_YAML_NULL;
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strcasecmp(text, words[i]) == 0) {
            scalar.type = KL_YAML_BOOLEAN;
            scalar.boolean = i % 2 == 1;
        }
    }
    if (scalar.type == KL_YAML_TEXT)
        scalar.type = read_integer(text, &scalar.integer);
    if (scalar.type == KL_YAML_TEXT && read_real(text, &scalar.real))
        scalar.type = KL_YAML_REAL;
    return scalar;
}

void kl_yaml_real_text(double number, char *out, size_t size)
{
    char digits[40];
    snprintf(digits, sizeof digits, "%.15g", number);
    if (strtod(digits, NULL) != number)
        snprintf(digits, sizeof digits, "%.17g", number);
    size_t mantissa = strcspn(digits, "e"); // "1e+20" is text to YAML 1.1, "1.0e+20" is not
    const char *point = strchr(digits, '.') == NULL ? ".0" : "";
    snprintf(out, size, "%.*s%s%s", (int)mantissa, digits, point, digits + mantissa);
}
