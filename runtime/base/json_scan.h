// Reads JSON text (RFC 8259) strictly and says where it is wrong, before a parser builds values.
#ifndef KL_BASE_JSON_SCAN_H
#define KL_BASE_JSON_SCAN_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

enum { KL_JSON_DEPTH = 500 }; // arrays and objects inside each other

// What an empty array becomes in the copy: an array of one number that no accepted text can hold.
#define KL_JSON_EMPTY_ARRAY "[1e999]"
// What goes before and after the digits of a whole number that a double cannot carry: the same,
// with them as a text.
#define KL_JSON_WHOLE_BEFORE "[1e999,\""
#define KL_JSON_WHOLE_AFTER "\"]"

typedef struct kl_json_scan {
    size_t members; // of all objects together
    size_t at;      // where it is wrong, in bytes from 0
    int line;       // the same, from 1
    int column;     // in bytes, from 1
    char message[160];
} kl_json_scan;

// False: the text is no JSON, is nested deeper than KL_JSON_DEPTH, is not UTF-8, or holds a number
// that neither 64 bits nor a double carry exactly. When it holds empty arrays, or whole numbers of
// 15 digits and more, `copy` gets the text with each written as above; else it stays empty. With
// `bytes`, the escapes \udc80 to \udcff stand for the single bytes 0x80 to 0xff, and the copy has
// those.
bool kl_json_scan_text(kl_json_scan *out, kl_buf *copy, const char *text, size_t length,
                       bool bytes);

// Finds the first key that its object has already, in a text that kl_json_scan_text accepted, and
// describes it in `out`. False: there is none that is spelled the same.
bool kl_json_scan_twice(kl_json_scan *out, const char *text, size_t length);

#endif
