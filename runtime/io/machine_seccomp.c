// What no machine may ask of the kernel that it shares: a second fence behind its user namespace.
#include "io/machine.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define NATIVE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define NATIVE AUDIT_ARCH_AARCH64
#endif

// Other kernels, kernel code, the host's clock and swap, keys of others, files by number: all of
// it needs rights on the host anyway, which a machine has not. As in systemd-nspawn(1).
static const unsigned refused[] = {
    SYS_kexec_load,
    SYS_init_module,
    SYS_finit_module,
    SYS_delete_module,
    SYS_add_key,
    SYS_request_key,
    SYS_keyctl,
    SYS_open_by_handle_at,
    SYS_clock_settime,
    SYS_settimeofday,
    SYS_bpf,
    SYS_perf_event_open,
    SYS_swapon,
    SYS_swapoff,
    SYS_acct,
    SYS_syslog,
    SYS_quotactl,
    SYS_lookup_dcookie,
    SYS_kexec_file_load,
};
enum { REFUSED = sizeof refused / sizeof refused[0] };

static struct sock_filter statement(unsigned short code, unsigned value)
{
    return (struct sock_filter){.code = code, .k = value};
}

// Calls in another architecture's numbering (32 bits) are refused as a whole where they could slip
// through; so is x86's x32, which has bit 30 set.
bool kl_shim_filter(void)
{
#ifdef NATIVE
    struct sock_filter code[REFUSED + 8];
    unsigned short n = 0;
    code[n++] = statement(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch));
    code[n] = statement(BPF_JMP | BPF_JEQ | BPF_K, NATIVE);
    code[n++].jf = REFUSED + 3; // to the refusal
    code[n++] = statement(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    code[n] = statement(BPF_JMP | BPF_JGE | BPF_K, 0x40000000);
    code[n++].jt = REFUSED + 1;
    for (unsigned i = 0; i < REFUSED; i++) {
        code[n] = statement(BPF_JMP | BPF_JEQ | BPF_K, refused[i]);
        code[n++].jt = (unsigned char)(REFUSED - i);
    }
    code[n++] = statement(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    code[n++] = statement(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
    const struct sock_fprog program = {.len = n, .filter = code};
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0;
#else
    return true; // the user namespace alone
#endif
}
