// Interrupts: the first SIGINT, SIGTERM or SIGHUP is told to the loop, the second ends the program
// at once, also while the loop does not turn.
#ifndef KL_IO_INTERRUPT_H
#define KL_IO_INTERRUPT_H

#include <uv.h>

typedef struct kl_interrupt kl_interrupt;

// Starts to watch, on the loop's thread; one at a time in a process. At the first signal `at_once`
// comes from the signal's handler, on that thread, and `notify` from the loop. The second signal
// exits with `status`. Does not keep the loop alive. Returns owned.
kl_interrupt *kl_interrupt_watch(uv_loop_t *loop, int status, void (*at_once)(void *context),
                                 void (*notify)(void *context, int number), void *context);
// From now on the signals have no effect: what there was to stop has ended, and so will the
// program. `notify` does not come any more. NULL is fine.
void kl_interrupt_close(kl_interrupt *self);

#endif
