// Unpacks a tar file whose maker is not trusted.
#ifndef KL_IO_TAR_UNPACK_H
#define KL_IO_TAR_UNPACK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/failure.h"

// Unpacks into a directory that is there, empty and nobody else's; blocks, for a thread. Modes come
// without set-id bits, times as they are, holes stay, files belong to whoever runs this. A name
// that leads out of the directory, or a device, ends it; `invalid`, `io`, `limit`, `unsupported`.
// `out_bytes` is the sum of the files' lengths. When `stop` becomes true it ends early.
bool kl_tar_unpack(const char *path, const char *directory, const atomic_bool *stop,
                   uint64_t *out_bytes, kl_failure *out_failure);

#endif
