// Ending the program at once, from anywhere: a signal handler, or code that is out of memory. The
// journal is durable at every moment, so this is a kill that gives the terminal back and says why.
#ifndef KL_BASE_ENDING_H
#define KL_BASE_ENDING_H

#include <termios.h>

// From now on an ending at once gives these settings back to the terminal. NULL: nothing to give
// back. Copies.
void kl_ending_terminal(int fd, const struct termios *before);

// Writes the text to standard error and exits. Async-signal-safe; runs no destructors.
_Noreturn void kl_end_now(int status, const char *text);

// What to do where memory below Lua runs out: ends the program with status 1.
_Noreturn void kl_out_of_memory(void);

// Returns the pointer, or ends the program when it is NULL: `p = kl_need(strdup(text))`.
void *kl_need(void *pointer);

#endif
