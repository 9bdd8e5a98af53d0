// Commands that reach /bin/sh unchanged, whatever the user's login shell is.
#ifndef KL_IO_SSH_SHELL_H
#define KL_IO_SSH_SHELL_H

#include "base/buf.h"

#include <stdbool.h>

// Fills `out`, which is empty, with the command that has the login shell run `text` by /bin/sh. A
// text that does not fit the packet that starts a command goes over the command's standard input:
// `out_input` gets what must come before any other input.
void kl_ssh_shell_command(kl_buf *out, kl_buf *out_input, const char *text);

// Returns whether a text fits the packet, and leaves the standard input alone.
bool kl_ssh_shell_fits(const char *text);

// Appends a word that sh reads as it is.
void kl_ssh_shell_quote(kl_buf *out, const char *word);

// Appends such a word, but `~/` at its beginning stands for the home folder there.
void kl_ssh_shell_path(kl_buf *out, const char *path);

#endif
