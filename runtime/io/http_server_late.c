// libmicrohttpd's functions, found when the first server opens: it brings a TLS library of its own.
#include "io/late_library.h"

#include <microhttpd.h>
#include <stdarg.h>

static kl_late_library mhd = {.soname = KL_MHD_SONAME};

#define LATE(result, name, params, args) KL_LATE(&mhd, result, name, params, args)

struct MHD_Daemon *MHD_start_daemon(unsigned flags, uint16_t port, MHD_AcceptPolicyCallback accept,
                                    void *accept_ctx, MHD_AccessHandlerCallback handler, void *ctx,
                                    ...)
{
    if (!kl_late_load(&mhd))
        return NULL;
    __typeof__(MHD_start_daemon_va) *start = kl_late_find(&mhd, "MHD_start_daemon_va");
    va_list options;
    va_start(options, ctx);
    struct MHD_Daemon *daemon = start(flags, port, accept, accept_ctx, handler, ctx, options);
    va_end(options);
    return daemon;
}

typedef struct MHD_Connection connection;
typedef struct MHD_Response response;

LATE(void, MHD_stop_daemon, (struct MHD_Daemon * daemon), (daemon))
LATE(enum MHD_Result, MHD_run, (struct MHD_Daemon * daemon), (daemon))
LATE(enum MHD_Result, MHD_get_timeout, (struct MHD_Daemon * daemon, MHD_UNSIGNED_LONG_LONG *out),
     (daemon, out))
LATE(response *, MHD_create_response_from_fd64, (uint64_t length, int fd), (length, fd))
LATE(response *, MHD_create_response_from_callback,
     (uint64_t length, size_t block, MHD_ContentReaderCallback reader, void *ctx,
      MHD_ContentReaderFreeCallback ended),
     (length, block, reader, ctx, ended))
LATE(enum MHD_Result, MHD_queue_response, (connection * to, unsigned status, response *made),
     (to, status, made))
LATE(void, MHD_suspend_connection, (connection * one), (one))
LATE(void, MHD_resume_connection, (connection * one), (one))
LATE(int, MHD_get_connection_values_n,
     (connection * one, enum MHD_ValueKind kind, MHD_KeyValueIteratorN see, void *ctx),
     (one, kind, see, ctx))
LATE(const char *, MHD_lookup_connection_value,
     (connection * one, enum MHD_ValueKind kind, const char *key), (one, kind, key))
LATE(response *, MHD_create_response_from_buffer,
     (size_t size, void *bytes, enum MHD_ResponseMemoryMode mode), (size, bytes, mode))
LATE(void, MHD_destroy_response, (response * made), (made))
LATE(enum MHD_Result, MHD_add_response_header,
     (response * made, const char *name, const char *value), (made, name, value))

const union MHD_DaemonInfo *MHD_get_daemon_info(struct MHD_Daemon *daemon,
                                                enum MHD_DaemonInfoType type, ...)
{
    __typeof__(MHD_get_daemon_info) *get = kl_late_find(&mhd, "MHD_get_daemon_info");
    return get(daemon, type);
}

// Variadic, but what we ask for takes no further value.
const union MHD_ConnectionInfo *MHD_get_connection_info(connection *of,
                                                        enum MHD_ConnectionInfoType what, ...)
{
    __typeof__(MHD_get_connection_info) *get = kl_late_find(&mhd, "MHD_get_connection_info");
    return get(of, what);
}

// Variadic: a timeout is the one option that there is.
enum MHD_Result MHD_set_connection_option(connection *of, enum MHD_CONNECTION_OPTION option, ...)
{
    __typeof__(MHD_set_connection_option) *set = kl_late_find(&mhd, "MHD_set_connection_option");
    va_list values;
    va_start(values, option);
    unsigned seconds = va_arg(values, unsigned);
    va_end(values);
    return set(of, option, seconds);
}
