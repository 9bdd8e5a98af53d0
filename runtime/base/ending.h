// Ending the program at once, from anywhere: a signal handler, or code that is out of memory. The
// journal is durable at every moment, so this is a kill that gives the terminal back and says why.
#ifndef KL_BASE_ENDING_H
#define KL_BASE_ENDING_H

#include <stdbool.h>
#include <termios.h>

// From now on an ending at once gives these settings back to the terminal. NULL: nothing to give
// back. Copies.
void kl_ending_terminal(int fd, const struct termios *before);

// Whether a crash leaves the memory in a core dump. Kiln's has secrets in it: without a core limit
// the kernel writes none, and a handler that it pipes to gets one without memory (core(5)). Not
// PR_SET_DUMPABLE: that would take /proc/self away from who is not root. Programs that kiln starts
// inherit it; machines get the kernel's default back.
void kl_core_dump(bool wanted);

// From now on abort(), where a failed assertion ends too, gives the terminal back and says that a
// run can be resumed, before SIGABRT ends the program. libssh2 asserts what a host may send.
void kl_ending_abort(void);

// Writes the text to standard error and exits. Async-signal-safe; runs no destructors.
_Noreturn void kl_end_now(int status, const char *text);

// What to do where memory below Lua runs out: ends the program with status 1.
_Noreturn void kl_out_of_memory(void);

// Returns the pointer, or ends the program when it is NULL: `p = kl_need(strdup(text))`.
void *kl_need(void *pointer);

#endif
