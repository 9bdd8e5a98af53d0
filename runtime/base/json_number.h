// What a number's text in JSON stands for.
#ifndef KL_BASE_JSON_NUMBER_H
#define KL_BASE_JSON_NUMBER_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

// Whether a double makes infinity of it.
bool kl_json_is_infinite(const char *literal, size_t length);
// Whether it is a whole number without point and exponent, and 64 bits carry it.
bool kl_json_is_int64(const char *literal, size_t length);
// Appends a whole number as KL_JSON_WHOLE_BEFORE and KL_JSON_WHOLE_AFTER have it.
void kl_json_mark_whole(kl_buf *out, const char *literal, size_t length);

#endif
