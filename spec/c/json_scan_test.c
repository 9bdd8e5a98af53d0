// base/json_scan, base/utf8: no text reads past its end, and every verdict has its place.
#include "base/json_scan.h"
#include "base/utf8.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

// Scans a copy of exactly that length, so that the sanitizer sees a read past it.
static bool scan(kl_json_scan *out, const char *text, size_t length)
{
    char *exact = malloc(length > 0 ? length : 1);
    assert(exact != NULL);
    memcpy(exact, text, length);
    kl_buf copy = {0};
    bool ok = kl_json_scan_text(out, &copy, exact, length, true);
    if (ok)
        kl_json_scan_twice(&(kl_json_scan){0}, exact, length);
    kl_buf_free(&copy);
    free(exact);
    return ok;
}

static void test_every_beginning(const char *text)
{
    kl_json_scan out;
    size_t length = strlen(text);
    assert(scan(&out, text, length));
    for (size_t cut = 0; cut < length; cut++) {
        assert(!scan(&out, text, cut));
        assert(out.at <= cut && out.line >= 1 && out.column >= 1 && out.message[0] != '\0');
    }
}

static void test_every_byte(const char *text)
{
    size_t length = strlen(text);
    char *changed = malloc(length);
    assert(changed != NULL);
    for (size_t at = 0; at < length; at++) {
        for (int byte = 0; byte < 256; byte++) {
            kl_json_scan out;
            memcpy(changed, text, length);
            changed[at] = (char)byte;
            if (!scan(&out, changed, length))
                assert(out.at <= length);
        }
    }
    free(changed);
}

static void test_empty_arrays(void)
{
    const char text[] = "{\"a\":[ ],\"b\":[[],1],\"c\":\"[]\"}";
    const char expected[] = "{\"a\":[1e999],\"b\":[[1e999],1],\"c\":\"[]\"}";
    kl_json_scan out;
    kl_buf copy = {0};
    assert(kl_json_scan_text(&out, &copy, text, strlen(text), false));
    assert(out.members == 3);
    assert(strcmp(kl_buf_text(&copy), expected) == 0);
    kl_buf_free(&copy);
    assert(!kl_json_scan_text(&out, &copy, "[1e999]", 7, false)); // the mark itself
    kl_buf_free(&copy);
}

// The mark of an empty array is infinite: no accepted number may be, however it is spelled.
static void test_infinite(void)
{
    char text[1000] = "[9.";
    memset(text + 3, '1', 400);
    strcpy(text + 403, "e399]");
    kl_json_scan out;
    assert(!scan(&out, text, strlen(text)));
    strcpy(text + 403, "e200]");
    assert(scan(&out, text, strlen(text)));
    assert(!scan(&out, "1e309", 5) && scan(&out, "1e308", 5) && scan(&out, "0e99999999", 10));
}

static void test_utf8(void)
{
    assert(kl_utf8_check("a\xC3\xA9\xF0\x9F\x98\x80", 7) == 7);
    assert(kl_utf8_check("a\xC3", 2) == 1);
    assert(kl_utf8_check("ab\xED\xA0\x80", 5) == 2);
    assert(kl_utf8_check("\xF4\x90\x80\x80", 4) == 0);
    assert(kl_utf8_check("", 0) == 0);
}

int main(void)
{
    const char text[] = "{\"k\\u00e9y\":[-1.5e+3,true,false,null,{},[ ],\"\\ud83d\\ude00\\udc80\"],"
                        "\n \"\xC3\xA9\":{\"a\":{\"b\":[[0]]}}}";
    test_every_beginning(text);
    test_every_byte(text);
    test_empty_arrays();
    test_infinite();
    test_utf8();
    return 0;
}
