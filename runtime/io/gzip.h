// A stream of bytes, packed as gzip on its way.
#ifndef KL_IO_GZIP_H
#define KL_IO_GZIP_H

#include <stddef.h>
#include <sys/types.h>

#include "base/failure.h"

typedef struct kl_gzip kl_gzip;

// The next plain bytes, up to `size`; 0 at their end, -1: `out_failure`.
typedef ssize_t (*kl_gzip_source)(void *ctx, char *out, size_t size, kl_failure *out_failure);

// Returns owned.
kl_gzip *kl_gzip_open(kl_gzip_source source, void *ctx);
// Writes the next packed bytes, up to `size`, which is at least 1024; 0 at the end, -1:
// `out_failure`. A call packs at most 128 KB, a millisecond's work; what does not get smaller goes
// as it is.
ssize_t kl_gzip_read(kl_gzip *gzip, char *out, size_t size, kl_failure *out_failure);
void kl_gzip_close(kl_gzip *gzip);

#endif
