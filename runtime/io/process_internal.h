// What the three files of a child process share.
#ifndef KL_IO_PROCESS_INTERNAL_H
#define KL_IO_PROCESS_INTERNAL_H

#include "io/process.h"

enum {
    KL_PROCESS_TICK_MS = 20,
    KL_PROCESS_DRAIN_MS = 1000, // for output that a background child still holds open
};

typedef struct line {
    struct line *next;
    int stream;
    size_t length;
    char bytes[];
} line;

typedef struct stream {
    uv_pipe_t pipe; // data: the process
    bool open;
    kl_buf kept;    // the end of the output
    kl_buf partial; // of a line
} stream;

struct kl_process {
    uv_process_t process;
    stream streams[2];
    uv_pipe_t input;
    uv_write_t write;
    kl_buf input_bytes;
    uv_timer_t deadline;
    uv_timer_t tick;
    kl_process_family *family;
    kl_process *next;
    kl_process **link; // what points here in the family
    void (*notify)(void *context);
    void *context;
    line *first;
    line **last;
    size_t queued;
    uint64_t grace_ms;
    uint64_t kill_at;
    uint64_t drain_until;
    size_t max_output;
    int pid;
    int socket;  // that its standard input and output are; 0: none
    int handles; // not closed yet
    bool lines, inherit, draining, paused;
    bool stopping, killed, exited, ended, released;
    kl_process_result result;
    char chunk[16384];
};

// process.c: its end.
void kl_process_advance(kl_process *self);
void kl_process_tell(kl_process *self);
void kl_process_exited(uv_process_t *process, int64_t code, int signum);
void kl_process_deadline(uv_timer_t *timer);
// Closes one of its handles, once.
void kl_process_close_handle(void *handle);

// process_stream.c: its output.
void kl_process_start_reading(kl_process *self);
void kl_process_close_streams(kl_process *self);
// Moves what was kept of the streams into the result.
void kl_process_keep_result(kl_process *self);
void kl_process_free_streams(kl_process *self);

#endif
