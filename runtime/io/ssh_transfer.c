// Files over an SSH session: what uploads and downloads share.
#include "io/ssh_transfer_internal.h"

#include "io/ssh_shell.h"

#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ERRORS_MAX 4096
#define RATE 400e6            // bytes a second that a window is to allow
#define WINDOW_MAX 67108864.0 // what is paused may fill memory with

void kl_ssh_transfer_token(char out[17])
{
    unsigned char random[8];
    if (RAND_bytes(random, sizeof random) != 1)
        abort();
    for (size_t i = 0; i < sizeof random; i++)
        snprintf(out + i * 2, 3, "%02x", random[i]);
}

void kl_ssh_transfer_free(kl_ssh_transfer *transfer)
{
    transfer->kind->free(transfer);
    free(transfer->subject);
    kl_buf_free(&transfer->errors);
    free(transfer);
}

void kl_ssh_transfer_progress(const kl_ssh_transfer *transfer, uint64_t *out_bytes,
                              uint64_t *out_total)
{
    transfer->kind->progress(transfer, out_bytes, out_total);
}

void kl_ssh_transfer_close(kl_ssh_transfer *transfer)
{
    if (transfer->channel != NULL)
        kl_ssh_channel_close(transfer->channel);
    kl_ssh_transfer_free(transfer);
}

void kl_ssh_transfer_end(kl_ssh_transfer *transfer, const kl_ssh_transferred *result)
{
    kl_ssh_transfer_fn done = transfer->done;
    void *ctx = transfer->ctx;
    kl_ssh_transfer_close(transfer);
    done(ctx, result, NULL);
}

void kl_ssh_transfer_fail(kl_ssh_transfer *transfer, const kl_failure *cause)
{
    kl_ssh_transfer_fn done = transfer->done;
    void *ctx = transfer->ctx;
    kl_failure failure;
    kl_failure_set(&failure, cause->kind, cause->code, "%s: %.300s", transfer->subject,
                   cause->message);
    kl_ssh_transfer_close(transfer);
    done(ctx, NULL, &failure);
}

// The scripts speak the C locale's messages of coreutils and tar.
static const char *kind_of(int code, const char *errors)
{
    static const struct {
        const char *text;
        const char *kind;
    } kinds[] = {{"Permission denied", "denied"},     {"Operation not permitted", "denied"},
                 {"Read-only file system", "denied"}, {"No space left", "limit"},
                 {"quota exceeded", "limit"},         {"Wrote only", "limit"},
                 {"cannot overwrite", "exists"},      {"invalid user", "invalid"},
                 {"invalid group", "invalid"},        {"No such file", "not_found"},
                 {"Not a directory", "invalid"},      {"not found", "unsupported"}};
    if (code == KL_TRANSFER_NOT_FOUND)
        return "not_found";
    if (code == KL_TRANSFER_NO_FILE || code == KL_TRANSFER_IS_TREE)
        return "invalid";
    if (code == KL_TRANSFER_DIFFERS)
        return "io";
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strstr(errors, kinds[i].text) != NULL)
            return kinds[i].kind;
    return "io";
}

static void script_failed(kl_ssh_transfer *transfer, const kl_ssh_exit *exit)
{
    kl_buf *errors = &transfer->errors;
    while (errors->length > 0 && errors->data[errors->length - 1] == '\n')
        errors->data[--errors->length] = '\0';
    kl_failure failure;
    kl_failure_set(&failure, kind_of(exit->code, kl_buf_text(errors)), exit->code, "%s",
                   errors->length > 0 ? errors->data
                   : exit->signal[0]  ? "ended by a signal on the host"
                                      : "failed on the host without a word");
    kl_ssh_transfer_fail(transfer, &failure);
}

static void on_data(void *ctx, kl_ssh_stream stream, const char *bytes, size_t length)
{
    kl_ssh_transfer *transfer = ctx;
    if (stream == KL_SSH_ERR) {
        kl_buf_append(&transfer->errors, bytes, length);
        if (transfer->errors.length > ERRORS_MAX) // what came last says how it ended
            kl_buf_shift(&transfer->errors, transfer->errors.length - ERRORS_MAX);
        return;
    }
    kl_failure failure;
    if (transfer->kind->data != NULL && !transfer->kind->data(transfer, bytes, length, &failure))
        kl_ssh_transfer_fail(transfer, &failure);
}

static ssize_t on_pull(void *ctx, char *out, size_t size, kl_failure *out_failure)
{
    kl_ssh_transfer *transfer = ctx;
    return transfer->kind->pull == NULL ? 0
                                        : transfer->kind->pull(transfer, out, size, out_failure);
}

static void on_done(void *ctx, const kl_ssh_exit *exit, const kl_failure *failure)
{
    kl_ssh_transfer *transfer = ctx;
    transfer->channel = NULL;
    if (failure != NULL)
        kl_ssh_transfer_fail(transfer, failure);
    else if (exit->code != 0)
        script_failed(transfer, exit);
    else
        transfer->kind->finish(transfer);
}

static const kl_ssh_channel_events events = {on_data, on_pull, on_done, NULL};

void kl_ssh_transfer_command(kl_buf *out, const char *script, const char *const words[])
{
    kl_buf_puts(out, "set --");
    for (int i = 0; words[i] != NULL; i++) {
        kl_buf_puts(out, " ");
        kl_ssh_shell_path(out, words[i]);
    }
    kl_buf_printf(out, "\n%s", script);
}

char *kl_ssh_transfer_marked(kl_buf *bytes, const char *mark, size_t *out_after)
{
    char start[24];
    int length = snprintf(start, sizeof start, "\n%s ", mark);
    char *found =
        bytes->length > 0 ? memmem(bytes->data, bytes->length, start, (size_t)length) : NULL;
    if (found == NULL)
        return NULL;
    char *line = found + length;
    char *end = memchr(line, '\n', bytes->length - (size_t)(line - bytes->data));
    if (end == NULL)
        return NULL;
    *end = '\0';
    *out_after = (size_t)(end + 1 - bytes->data);
    return line;
}

bool kl_ssh_transfer_noisy(kl_failure *out_failure)
{
    kl_failure_set(out_failure, "protocol", 0,
                   "the login shell says more than %d bytes before the command runs",
                   KL_TRANSFER_NOISE);
    return false;
}

void kl_ssh_transfer_widen(const kl_ssh_transfer *transfer)
{
    double trip = kl_ssh_session_round_trip(transfer->session);
    if (trip >= KL_LONG_TRIP)
        kl_ssh_channel_widen(transfer->channel,
                             (unsigned long)(trip * RATE < WINDOW_MAX ? trip * RATE : WINDOW_MAX));
}

kl_ssh_transfer *kl_ssh_transfer_start(kl_ssh_transfer *transfer, kl_ssh_session *session,
                                       const char *path, const char *script,
                                       const char *const words[], double timeout,
                                       kl_failure *out_failure)
{
    kl_buf subject = {0};
    kl_buf_printf(&subject, "%s: %s %s", kl_ssh_session_name(session), transfer->kind->verb, path);
    transfer->subject = subject.data;
    transfer->session = session;
    kl_buf command = {0};
    kl_ssh_transfer_command(&command, script, words);
    transfer->channel =
        kl_ssh_channel_exec(session, command.data, timeout, &events, transfer, out_failure);
    kl_buf_free(&command);
    if (transfer->channel != NULL)
        return transfer;
    kl_ssh_transfer_free(transfer);
    return NULL;
}
