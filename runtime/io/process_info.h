// Who a process is, and the names of signals.
#ifndef KL_IO_PROCESS_INFO_H
#define KL_IO_PROCESS_INFO_H

#include <stdint.h>

typedef struct kl_process_info {
    int pid;
    int ppid;
    unsigned uid;
    int64_t start_time; // with pid, boot_id and pid_namespace, names this process for ever
    char host[256];
    char user[64];
    char exe[4096];
    char boot_id[64];
    char pid_namespace[64]; // "pid:[4026531836]"
} kl_process_info;

// Fills in what can be found out about kiln itself; the rest stays empty.
void kl_process_info_read(kl_process_info *out);
// When a process started, in clock ticks since boot; 0: there is none, or it is dead.
int64_t kl_process_start_time(int pid);

// "TERM" for 15; "?" for a number that has no name.
const char *kl_signal_name(int number);
// 15 for "TERM" and "SIGTERM"; 0: no such signal.
int kl_signal_number(const char *name);

#endif
