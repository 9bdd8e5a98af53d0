// The terminal: its size, whole writes, and a line typed by the user without blocking the loop.
#ifndef KL_IO_TERMINAL_H
#define KL_IO_TERMINAL_H

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

#include "base/buf.h"
#include "base/failure.h"

// False: `fd` is no terminal.
bool kl_terminal_size(int fd, int *out_columns, int *out_rows);

// Writes all of it, also where the descriptor does not block.
bool kl_terminal_write(int fd, const char *bytes, size_t length, kl_failure *failure);

typedef struct kl_terminal_line kl_terminal_line;

// Writes the prompt to standard error and reads one line from standard input, which may be a
// terminal, a pipe or a file; nothing after the line is consumed. Without `echo`, what is typed
// does not show; the terminal is put back at the end, at the release and when a signal interrupts.
// `notify` comes once, from the loop, or never when it has ended on return. NULL: `failure`.
kl_terminal_line *kl_terminal_read_line(uv_loop_t *loop, const char *prompt, bool echo,
                                        void (*notify)(void *context), void *context,
                                        kl_failure *failure);
bool kl_terminal_has_ended(const kl_terminal_line *self);
// The line without its newline; NULL at the end of the input or on a failure, which `failure` then
// tells (its kind NULL: end of the input). Borrowed until the release.
const kl_buf *kl_terminal_result(const kl_terminal_line *self, kl_failure *failure);
// Takes `self`, wipes the line, never blocks.
void kl_terminal_release(kl_terminal_line *self);

#endif
