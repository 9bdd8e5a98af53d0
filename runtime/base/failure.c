// What went wrong outside, as a value.
#include "base/failure.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void kl_failure_set(kl_failure *out, const char *kind, int code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    out->kind = kind;
    out->code = code;
    vsnprintf(out->message, sizeof out->message, format, args);
    va_end(args);
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
