// Commands that reach /bin/sh unchanged, whatever the user's login shell is.
//
// sshd hands every command to the user's login shell, and shells disagree on quotes: in fish a
// backslash escapes inside single quotes, in csh `!` and line ends do not lose their meaning there.
// All of them (bash, dash, zsh, fish, tcsh among them) pass printable ASCII between single quotes
// unchanged, apart from `'`, `\` and `!`. The text is therefore written in the escapes of
// printf(1)'s %b, of which no login shell reads any: a backslash before `n` or a digit stays.
#include "io/ssh_shell.h"

#include <stdio.h>
#include <string.h>

#define COMMAND_MAX 32000 // libssh2 puts a command into one packet

// Ends a text that goes over standard input: a text that was cut off on the way must not run.
#define WHOLE "\n#whole"

void kl_ssh_shell_path(kl_buf *out, const char *path)
{
    bool of_home = strncmp(path, "~/", 2) == 0;
    if (of_home)
        kl_buf_puts(out, "\"$HOME\"");
    kl_ssh_shell_quote(out, of_home ? path + 1 : path);
}

void kl_ssh_shell_quote(kl_buf *out, const char *word)
{
    kl_buf_puts(out, "'");
    for (const char *at = word; *at != '\0'; at++) {
        if (*at == '\'')
            kl_buf_puts(out, "'\\''");
        else
            kl_buf_append(out, at, 1);
    }
    kl_buf_puts(out, "'");
}

static void escape(kl_buf *out, const char *text)
{
    for (const char *at = text; *at != '\0'; at++) {
        unsigned char byte = (unsigned char)*at;
        if (byte == '\n')
            kl_buf_puts(out, "\\n");
        else if (byte < ' ' || byte > '~' || strchr("'\\!", byte) != NULL)
            kl_buf_printf(out, "\\0%03o", byte);
        else
            kl_buf_append(out, at, 1);
    }
}

static bool in_packet(kl_buf *out, const char *text)
{
    kl_buf_puts(out, "exec /bin/sh -c 'exec /bin/sh -c \"$(printf %b \"$0\")\"' '");
    escape(out, text);
    kl_buf_puts(out, "'");
    return out->length <= COMMAND_MAX;
}

bool kl_ssh_shell_fits(const char *text)
{
    kl_buf command = {0};
    bool fits = in_packet(&command, text);
    kl_buf_free(&command);
    return fits;
}

void kl_ssh_shell_command(kl_buf *out, kl_buf *out_input, const char *text)
{
    if (in_packet(out, text))
        return;
    out->length = 0;
    kl_buf_printf(out_input, "%s" WHOLE, text);
    kl_buf_printf(out,
                  "exec /bin/sh -c 'kiln_text=$(head -c %zu); case $kiln_text in "
                  "*\"#whole\") eval \"$kiln_text\" ;; *) exit 255 ;; esac'",
                  out_input->length);
}
