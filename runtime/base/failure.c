// What went wrong outside, as a value.
#include "base/failure.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

// A host may have written a part of the message: what steers a terminal becomes '?'. In UTF-8, the
// control characters above ASCII are 0xc2 and a byte from 0x80 to 0x9f.
static void clean(char *text)
{
    for (unsigned char *at = (unsigned char *)text; *at != '\0'; at++) {
        bool above = at[0] == 0xc2 && at[1] >= 0x80 && at[1] <= 0x9f;
        if (above)
            at[1] = '?';
        if (above || (*at < ' ' && *at != '\n' && *at != '\t') || *at == 0x7f)
            *at = '?';
    }
}

void kl_failure_set(kl_failure *out, const char *kind, int code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    out->kind = kind;
    out->code = code;
    vsnprintf(out->message, sizeof out->message, format, args);
    va_end(args);
    clean(out->message);
}

static const char *kind_of_errno(int error)
{
    switch (error) {
    case ENOENT:
    case ENOTDIR:
    case ESRCH:
        return "not_found";
    case EEXIST:
    case ENOTEMPTY:
    case EADDRINUSE:
        return "exists";
    case EACCES:
    case EPERM:
    case EROFS:
        return "denied";
    case ETIMEDOUT:
        return "timeout";
    case ECONNREFUSED:
    case ECONNRESET:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case EPIPE:
        return "unreachable";
    case EINVAL:
    case ENAMETOOLONG:
    case EISDIR:
    case ELOOP:
        return "invalid";
    case EMFILE:
    case ENFILE:
    case ENOSPC:
    case EDQUOT:
    case ENOMEM:
        return "limit";
    default:
        return "io";
    }
}

void kl_failure_errno(kl_failure *out, int error, const char *what)
{
    kl_failure_set(out, kind_of_errno(error), error, "%s: %s", what, strerror(error));
}
