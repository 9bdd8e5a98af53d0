// What went wrong outside, as a value: the world's failures never raise below the bridge.
#ifndef KL_BASE_FAILURE_H
#define KL_BASE_FAILURE_H

#include <stdbool.h>
#include <stddef.h>

typedef struct kl_failure {
    const char *kind; // a static string of the kinds below; NULL means no failure
    int code;         // the library's or errno's number, 0 when there is none
    char message[512];
} kl_failure;

// Kinds: cancelled stopped timeout unreachable exit auth host_key not_found exists invalid denied
// limit io tls protocol unsupported locked diverged probe usage.

// Fills `out`; `kind` must be a static string. A later call replaces an earlier one. Control
// characters other than tabs and line ends become '?'.
void kl_failure_set(kl_failure *out, const char *kind, int code, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

// Fills `out` from an errno: the kind that fits it and "<what>: <strerror>".
void kl_failure_errno(kl_failure *out, int error, const char *what);

static inline bool kl_failed(const kl_failure *failure)
{
    return failure->kind != NULL;
}

#endif
