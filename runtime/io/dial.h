// Opens a TCP connection without blocking the loop: resolves the name, tries each address in turn.
#ifndef KL_IO_DIAL_H
#define KL_IO_DIAL_H

#include <uv.h>

#include "base/failure.h"

typedef struct kl_dial kl_dial;

// Called once: a connected, non-blocking socket which the callee owns, or -1 and the failure
// (`unreachable`). The dial is gone afterwards.
typedef void (*kl_dial_fn)(void *ctx, int fd, const kl_failure *failure);

// Starts. Never calls `done` before it returned; has no deadline of its own beyond the kernel's.
kl_dial *kl_dial_start(uv_loop_t *loop, const char *host, int port, kl_dial_fn done, void *ctx);
// Gives up: `done` will not be called.
void kl_dial_cancel(kl_dial *dial);

#endif
