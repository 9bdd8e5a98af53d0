// Local machines: Linux from a root file system, in namespaces of its own, with systemd as PID 1.
//
// Everything here runs in a helper process of kiln's own program (`kiln __machine VERB`), which
// does its work in straight lines and answers on standard output, so that kiln's loop never blocks.
// A machine lives on when kiln ends: it belongs to its cgroup, and killing that leaves nothing.
//
// A site is a folder with images/, machines/ and a router: a user namespace, in which everything
// happens, and a network namespace with a bridge, a floating-address map and one cable to the host.
#ifndef KL_IO_MACHINE_H
#define KL_IO_MACHINE_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/failure.h"

// The helper's whole life: argv[2] is the verb, the request comes on standard input, the answer
// goes to standard output. Returns the exit status.
int kl_machine_main(int argc, char **argv);

// A request or a row: name NUL value NUL …; a name may come several times.
typedef struct kl_fields {
    kl_buf bytes;
} kl_fields;
void kl_fields_add(kl_fields *fields, const char *name, const char *value);
// The value, or NULL. Borrowed until the fields change.
const char *kl_fields_get(const kl_fields *fields, const char *name);
void kl_fields_free(kl_fields *fields);
// Reads a whole file, kept as fields; a missing file gives none and true.
bool kl_fields_load(kl_fields *out, const char *path, kl_failure *failure);
bool kl_fields_save(const kl_fields *fields, const char *path, kl_failure *failure);

// The answer: rows, each ended by an empty name.
void kl_answer_row(const kl_fields *row);

enum { KL_SITE_UID = 100000, KL_SITE_UIDS = 65536 }; // root of every machine, and how many follow

typedef struct kl_site {
    char dir[PATH_MAX]; // absolute
    char tag[9];        // names its cgroup and its cable
    int block;          // its networks are 10.199.block to 10.199.(block + 3)
    pid_t router;       // holds the user and the network namespace; 0: down
    int lock;
} kl_site;

// Opens the site, making its folder; finds its router if that is up.
bool kl_site_open(kl_site *site, const char *dir, kl_failure *failure);
// One helper at a time changes what is shared. Waits.
bool kl_site_lock(kl_site *site, kl_failure *failure);
void kl_site_unlock(kl_site *site);
// One helper at a time works on a machine or an image: by its name. Held to the helper's end, not
// by what it starts. Take it before the site's lock. `wait` false: fails at once if it is taken.
bool kl_site_claim(const kl_site *site, const char *name, bool wait, kl_failure *failure);
// Starts the router and its network, or leaves the one that runs.
bool kl_site_up(kl_site *site, kl_failure *failure);
// Ends the router; refused while a machine runs. Leaves no namespace, interface, route, process.
bool kl_site_down(kl_site *site, kl_failure *failure);
// Writes the path below the site's folder.
void kl_site_path(const kl_site *site, char *out, size_t size, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

// The network of a site.
bool kl_net_up(const kl_site *site, kl_failure *failure);
bool kl_net_down(const kl_site *site, kl_failure *failure);
// Is there a way out, and with it a name server?
bool kl_net_has_uplink(const kl_site *site);
// Gives a machine's process its cable to the bridge and its address.
bool kl_net_attach(const kl_site *site, pid_t pid, const char *address, kl_failure *failure);
// Points a floating address to a machine's, or to none (NULL): one transaction.
bool kl_net_assign(const kl_site *site, const char *address, const char *target,
                   kl_failure *failure);
// Appends "address target\n" for every assigned floating address.
bool kl_net_assigned(const kl_site *site, kl_buf *out, kl_failure *failure);
// Counts established TCP connections that came to the floating address and go to the target.
int kl_net_connections(const kl_site *site, const char *address, const char *target,
                       kl_failure *failure);

// A program run to its end: in the namespaces of `netns` and `userns` if not 0, in that cgroup.
typedef struct kl_command {
    char *const *argv;
    const char *input;      // NULL: none
    const char *input_file; // instead of `input`
    pid_t netns;
    pid_t userns;       // its user namespace, as its root
    const char *cgroup; // folder to join; NULL: stay
    const char *dir;    // where to start, reached as the host's root; NULL: stay
} kl_command;
// `out` gets both streams and may be NULL. False when it cannot start or ends with another status
// than 0: the failure has its last words.
bool kl_command_run(const kl_command *command, kl_buf *out, kl_failure *failure);
// In a fresh child: enters a process's namespaces (CLONE_NEW* flags), and becomes root of its user
// namespace if that is one of them.
bool kl_enter(pid_t pid, int flags);

// Control groups: membership and killing, no limits.
bool kl_cgroup_make(char *out, size_t size, const kl_site *site, const char *name,
                    kl_failure *failure);
bool kl_cgroup_path(char *out, size_t size, const kl_site *site, const char *name);
bool kl_cgroup_populated(const char *path);
// Waits until the group is empty; false when the time is over.
bool kl_cgroup_wait_empty(const char *path, double seconds);
// Kills everything in it and removes it; fine when it is not there.
bool kl_cgroup_destroy(const char *path, kl_failure *failure);

// Boots a machine whose folder is ready; returns when its PID 1 runs.
bool kl_shim_boot(const kl_site *site, const char *name, const char *layers, const char *address,
                  kl_failure *failure);

// In what becomes a machine's PID 1: refuses system calls that reach for the host.
bool kl_shim_filter(void);
// Cleans a stopped machine's merged root of its identity; changes its upper layer only.
bool kl_scrub(const kl_site *site, const char *machine, const char *layers, kl_failure *failure);

// Gives the running machines of a site whose router was lost their cables to the new one.
bool kl_machine_reattach(const kl_site *site, kl_failure *failure);

// "images/a/fs:images/b/fs", the layers of an image from the top; false: no such image.
bool kl_image_layers(const kl_site *site, const char *image, kl_buf *out, kl_failure *failure);

// The verbs. Each reads its request and answers rows.
bool kl_machine_create(kl_site *site, const kl_fields *request, kl_failure *failure);
bool kl_machine_list(kl_site *site, const kl_fields *request, kl_failure *failure);
bool kl_machine_start(kl_site *site, const kl_fields *request, kl_failure *failure);
bool kl_machine_power_off(kl_site *site, const kl_fields *request, kl_failure *failure);
bool kl_machine_destroy(kl_site *site, const kl_fields *request, kl_failure *failure);
bool kl_image_unpack(kl_site *site, const kl_fields *request, kl_failure *failure);
bool kl_image_freeze(kl_site *site, const kl_fields *request, kl_failure *failure);
bool kl_image_list(kl_site *site, const kl_fields *request, kl_failure *failure);
bool kl_image_remove(kl_site *site, const kl_fields *request, kl_failure *failure);
bool kl_machine_check(kl_site *site, const kl_fields *request, kl_failure *failure);

#endif
