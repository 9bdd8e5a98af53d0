// libcurl's functions, found at the first request: with the thirty libraries that it brings,
// loading it takes longer than the rest of a start.
#include "io/late_library.h"

#include <curl/curl.h>
#include <stdarg.h>

static kl_late_library curl = {.soname = KL_CURL_SONAME};

#define LATE(result, name, params, args) KL_LATE(&curl, result, name, params, args)

// The function of that name, looked up once.
#define FIND(name)                                                                                 \
    ({                                                                                             \
        static __typeof__(name) *found;                                                            \
        if (found == NULL)                                                                         \
            *(void **)&found = kl_late_find(&curl, #name);                                         \
        found;                                                                                     \
    })

CURLcode curl_global_init(long flags)
{
    return kl_late_load(&curl) ? FIND(curl_global_init)(flags) : CURLE_FAILED_INIT;
}

LATE(void, curl_global_cleanup, (void), ())
LATE(void, curl_free, (void *text), (text))
LATE(CURL *, curl_easy_init, (void), ())
LATE(void, curl_easy_cleanup, (CURL * easy), (easy))
LATE(CURLcode, curl_easy_pause, (CURL * easy, int directions), (easy, directions))
LATE(time_t, curl_getdate, (const char *text, const time_t *unused), (text, unused))
LATE(void, curl_easy_reset, (CURL * easy), (easy))
LATE(const char *, curl_easy_strerror, (CURLcode code), (code))
LATE(CURLM *, curl_multi_init, (void), ())
LATE(CURLMcode, curl_multi_cleanup, (CURLM * multi), (multi))
LATE(CURLMcode, curl_multi_add_handle, (CURLM * multi, CURL *easy), (multi, easy))
LATE(CURLMcode, curl_multi_remove_handle, (CURLM * multi, CURL *easy), (multi, easy))
LATE(CURLMcode, curl_multi_assign, (CURLM * multi, curl_socket_t fd, void *data), (multi, fd, data))
LATE(CURLMcode, curl_multi_socket_action,
     (CURLM * multi, curl_socket_t fd, int events, int *running), (multi, fd, events, running))
LATE(CURLMsg *, curl_multi_info_read, (CURLM * multi, int *left), (multi, left))
LATE(struct curl_slist *, curl_slist_append, (struct curl_slist * list, const char *text),
     (list, text))
LATE(void, curl_slist_free_all, (struct curl_slist * list), (list))
LATE(CURLU *, curl_url, (void), ())
LATE(void, curl_url_cleanup, (CURLU * url), (url))
LATE(CURLUcode, curl_url_set, (CURLU * url, CURLUPart part, const char *text, unsigned flags),
     (url, part, text, flags))
LATE(const char *, curl_url_strerror, (CURLUcode code), (code))

// Later releases declare the first parameter const: a name of our own fits both.
CURLUcode late_url_get(CURLU *url, CURLUPart part, char **out,
                       unsigned flags) __asm__("curl_url_get");
CURLUcode late_url_get(CURLU *url, CURLUPart part, char **out, unsigned flags)
{
    return FIND(curl_url_get)(url, part, out, flags);
}

// The variadic ones take one value more, whose type the option's number tells.
#undef curl_easy_setopt
#undef curl_easy_getinfo
#undef curl_multi_setopt
#define SET(name, handle, option)                                                                  \
    do {                                                                                           \
        va_list values;                                                                            \
        va_start(values, option);                                                                  \
        if (option >= CURLOPTTYPE_OFF_T && option < CURLOPTTYPE_BLOB)                              \
            code = FIND(name)(handle, option, va_arg(values, curl_off_t));                         \
        else if (option < CURLOPTTYPE_OBJECTPOINT)                                                 \
            code = FIND(name)(handle, option, va_arg(values, long));                               \
        else                                                                                       \
            code = FIND(name)(handle, option, va_arg(values, void *));                             \
        va_end(values);                                                                            \
    } while (0)

CURLcode curl_easy_setopt(CURL *easy, CURLoption option, ...)
{
    CURLcode code;
    SET(curl_easy_setopt, easy, option);
    return code;
}

CURLMcode curl_multi_setopt(CURLM *multi, CURLMoption option, ...)
{
    CURLMcode code;
    SET(curl_multi_setopt, multi, option);
    return code;
}

CURLcode curl_easy_getinfo(CURL *easy, CURLINFO info, ...)
{
    va_list values;
    va_start(values, info);
    CURLcode code = FIND(curl_easy_getinfo)(easy, info, va_arg(values, void *));
    va_end(values);
    return code;
}
