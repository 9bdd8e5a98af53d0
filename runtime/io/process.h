// Child processes: own session and process group, captured output, a deadline that ends the group.
#ifndef KL_IO_PROCESS_H
#define KL_IO_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/buf.h"
#include "base/failure.h"

typedef struct kl_process kl_process;

// The processes that one owner started and that are not gone yet. Starts zeroed.
typedef struct kl_process_family {
    kl_process *first;
} kl_process_family;

typedef struct kl_process_config {
    char *const *argv; // borrowed until started; NULL-terminated; argv[0] is looked up in PATH
    char *const *env;  // borrowed until started; NULL: kiln's own
    const char *cwd;   // borrowed until started; NULL: kiln's own
    const void *input; // copied; NULL: standard input is /dev/null
    size_t input_length;
    uint64_t timeout_ms; // 0: none
    uint64_t grace_ms;   // between SIGTERM and SIGKILL
    size_t max_output;   // bytes kept of each stream, the last ones
    bool lines;          // queue lines for kl_process_take_line
    bool inherit; // kiln's own three streams, in kiln's own session: for a program that talks
                  // to the user
    int socket;   // its standard input and output, borrowed until started; 0: none. Only its
                  // standard error is kept then
    // Called from the loop when there is a line, and when it has ended. Not after the release.
    void (*notify)(void *context);
    void *context;
} kl_process_config;

// Starts a program; it has none of kiln's descriptors above 2. NULL: `failure` says why; kind
// not_found and denied name the program or the working directory. Returns owned: release it.
kl_process *kl_process_start(uv_loop_t *loop, kl_process_family *family,
                             const kl_process_config *config, kl_failure *failure);

enum { KL_PROCESS_OUT, KL_PROCESS_ERR };

// Takes the next line, without its newline, into `out` (replaced), and which stream it came from.
bool kl_process_take_line(kl_process *self, kl_buf *out, int *out_stream);
bool kl_process_has_line(const kl_process *self);
// From now on lines that nobody takes are dropped instead of holding up the program.
void kl_process_drain(kl_process *self);

typedef struct kl_process_result {
    int code;       // exit status, -1 when a signal ended it
    int signal;     // that ended it, 0
    bool timed_out; // the deadline passed, whatever it ended with
    bool truncated; // out or err lack their beginning
    kl_buf out;
    kl_buf err;
} kl_process_result;

// NULL while it runs. Borrowed until the release.
const kl_process_result *kl_process_ended(const kl_process *self);
// The end of its standard error so far. Borrowed until the loop runs again.
const kl_buf *kl_process_errors(const kl_process *self);
int kl_process_pid(const kl_process *self);
// Sends a signal to the process group; no effect once it has ended.
void kl_process_signal(kl_process *self, int signum);
// Takes `self`, never blocks. What still runs gets SIGTERM, and SIGKILL after the grace time.
void kl_process_release(kl_process *self);
// SIGKILL for all of the family, at once, for when the loop ends; closes their handles.
void kl_process_kill_family(kl_process_family *family);
// Has the family killed when the program exits without getting there. Borrows it until it is
// replaced; NULL: none.
void kl_process_kill_at_exit(kl_process_family *family);

#endif
