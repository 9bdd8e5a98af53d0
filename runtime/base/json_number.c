// What a number's text in JSON stands for.
#include "base/json_number.h"

#include "base/json_scan.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

bool kl_json_is_infinite(const char *literal, size_t length)
{
    kl_buf copy = {0}; // the text need not end after the number
    kl_buf_append(&copy, literal, length);
    bool infinite = isinf(strtod(copy.data, NULL));
    kl_buf_free(&copy);
    return infinite;
}

bool kl_json_is_int64(const char *literal, size_t length)
{
    char digits[24], *end;
    if (length >= sizeof digits)
        return false;
    memcpy(digits, literal, length);
    digits[length] = '\0';
    errno = 0;
    strtoll(digits, &end, 10);
    return errno == 0 && *end == '\0';
}

void kl_json_mark_whole(kl_buf *out, const char *literal, size_t length)
{
    kl_buf_puts(out, KL_JSON_WHOLE_BEFORE);
    kl_buf_append(out, literal, length);
    kl_buf_puts(out, KL_JSON_WHOLE_AFTER);
}
