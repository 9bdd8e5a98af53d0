// UTF-8 (RFC 3629, section 4: the table of valid byte sequences).
#include "base/utf8.h"

#include <stdbool.h>

static bool is_tail(unsigned char byte)
{
    return (byte & 0xC0) == 0x80;
}

// Whether the second byte may follow the first one: keeps out overlong forms and surrogates.
static bool may_follow(unsigned char first, unsigned char second)
{
    switch (first) {
    case 0xE0:
        return second >= 0xA0 && second <= 0xBF;
    case 0xED:
        return second >= 0x80 && second <= 0x9F;
    case 0xF0:
        return second >= 0x90 && second <= 0xBF;
    case 0xF4:
        return second >= 0x80 && second <= 0x8F;
    default:
        return is_tail(second);
    }
}

size_t kl_utf8_step(const char *bytes, size_t length)
{
    if (length == 0)
        return 0;
    unsigned char first = (unsigned char)bytes[0];
    if (first < 0x80)
        return 1;
    if (first < 0xC2 || first > 0xF4)
        return 0;
    size_t size = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
    if (length < size || !may_follow(first, (unsigned char)bytes[1]))
        return 0;
    for (size_t i = 2; i < size; i++) {
        if (!is_tail((unsigned char)bytes[i]))
            return 0;
    }
    return size;
}

size_t kl_utf8_check(const char *bytes, size_t length)
{
    size_t at = 0;
    while (at < length) {
        size_t step = kl_utf8_step(bytes + at, length - at);
        if (step == 0)
            return at;
        at += step;
    }
    return length;
}
