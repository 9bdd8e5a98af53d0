// Local machines: Linux from a root file system, in namespaces of its own, with systemd as PID 1.
//
// Everything here runs in a helper process of kiln's own program (`kiln __machine VERB`), which
// does its work in straight lines and answers on standard output, so that kiln's loop never blocks.
// A machine lives on when kiln ends: it belongs to its cgroup, and killing that leaves nothing.
//
// A site is a folder with images/, machines/ and a router: a user namespace, in which everything
// happens, and a network namespace with a bridge, a floating-address map and one cable to the
// outside. For root the outside is the host's own network. An ordinary user has no say there, so
// the outside is one more namespace, and io/route.h opens kiln's connections in it.
#ifndef KL_IO_MACHINE_H
#define KL_IO_MACHINE_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
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

// What the router keeps open for as long as it lives: the outside of an ordinary user's site, and
// its claim to the block of networks.
enum { KL_ROUTER_OUTSIDE = 3, KL_ROUTER_CLAIM = 4 };

typedef struct kl_site {
    char dir[PATH_MAX];   // absolute
    char tag[9];          // names its cgroup and its cable
    bool ordinary;        // its owner is not root
    uid_t uid;            // on the host, root of every machine
    gid_t gid;            // the same
    char group[PATH_MAX]; // its control group, whether it is there or not; "": not chosen yet
    int block;            // its networks are 10.199.block to 10.199.(block + 3)
    pid_t router;         // holds the user and the network namespace; 0: down
    int lock;
    struct rlimit core; // what this process was started with: it goes to machines
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
// Starts the router's process with its namespaces, in an empty site; the block is chosen then.
bool kl_router_start(kl_site *site, kl_failure *failure);
// Ends it and its network; fine when it is not there.
bool kl_router_end(kl_site *site, kl_failure *failure);
// Finds the site's block, and its router if that is up.
bool kl_router_read(kl_site *site, kl_failure *failure);
// Writes the path below the site's folder.
void kl_site_path(const kl_site *site, char *out, size_t size, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

// The host ids that machines have: root's are 100000 and those that follow; an ordinary user is
// root of the machines, and the others are what /etc/subuid and /etc/subgid give to the user.
enum { KL_IDS = 65536, KL_IDS_ROOT = 100000 };
// Maps them for a process that has just made its user namespace.
bool kl_ids_map(const kl_site *site, pid_t pid, kl_failure *failure);
// Describes them: "0 100000 65536\n…", as /proc/PID/uid_map and gid_map have them.
bool kl_ids_describe(const kl_site *site, kl_buf *out, kl_failure *failure);

// Runs `work` in a child that is root of the site's user namespace (its router's, or one of the
// same ids) and has been in the folder `dir` of the site before. Files of machines belong to ids
// that an ordinary user cannot touch in any other way. What `work` appends to `out` comes back.
typedef bool kl_inside_fn(const void *ctx, kl_buf *out, kl_failure *failure);
bool kl_inside(const kl_site *site, const char *dir, kl_inside_fn *work, const void *ctx,
               kl_buf *out, kl_failure *failure);
// Removes the tree dir/name of the site; fine when it is not there.
bool kl_inside_remove(const kl_site *site, const char *dir, const char *name, kl_failure *failure);

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

// A program run to its end: in the namespaces of `inside` if not 0, in that cgroup.
typedef struct kl_command {
    char *const *argv;
    const char *input;      // NULL: none
    const char *input_file; // instead of `input`
    pid_t inside;           // a process whose user namespace is entered, as its root
    enum { KL_NET_HERE, KL_NET_ITS, KL_NET_OUTSIDE } net; // ours; that of `inside`; the router's
    const char *cgroup;                                   // folder to join; NULL: stay
    const char *dir; // where to start, reached before `inside` is entered; NULL: stay
} kl_command;
// `out` gets both streams and may be NULL. False when it cannot start or ends with another status
// than 0: the failure has its last words.
bool kl_command_run(const kl_command *command, kl_buf *out, kl_failure *failure);
// In a fresh child: enters a process's user namespace as its root, and its other namespaces that
// `flags` (CLONE_NEW*) name. No process (0): becomes root of the user namespace that it is in.
bool kl_enter(pid_t pid, int flags);
// The same, with the network that lies outside of a router's.
bool kl_enter_outside(pid_t router);
// Is there such a program on this host?
bool kl_command_exists(const char *name);

// Control groups: membership and killing, no limits. Only what lies below a group that this process
// may write can be used: all for root; for others what was delegated to them.
// Where the host's cgroup2 hierarchy is; root gets one mounted where there is none. NULL: nowhere.
const char *kl_cgroup_hierarchy(void);
// Sets the site's group if that is known.
bool kl_cgroup_read(kl_site *site, kl_failure *failure);
// May this process put others into the site's group?
bool kl_cgroup_is_joinable(const kl_site *site);
// Chooses the group of a site that has none to join. Takes the site's lock for granted.
bool kl_cgroup_choose(kl_site *site, kl_failure *failure);
// Where systemd gives out control groups: becomes the same helper in a scope of its own, with the
// request as its input. Returns when there is no such systemd.
void kl_cgroup_enter_scope(const kl_site *site, const char *verb, const kl_fields *request);
bool kl_cgroup_make(char *out, size_t size, const kl_site *site, const char *name,
                    kl_failure *failure);
bool kl_cgroup_path(char *out, size_t size, const kl_site *site, const char *name);
bool kl_cgroup_populated(const char *path);
// Waits until the group is empty; false when the time is over.
bool kl_cgroup_wait_empty(const char *path, double seconds);
// Writes one of the group's files.
bool kl_cgroup_limit(const char *group, const char *file, const char *value, kl_failure *failure);
// Kills everything in it and removes it; fine when it is not there.
bool kl_cgroup_destroy(const char *path, kl_failure *failure);

// Boots a machine whose folder is ready; returns when its PID 1 runs.
bool kl_shim_boot(const kl_site *site, const char *name, const char *layers, const char *address,
                  kl_failure *failure);

// In what becomes a machine's PID 1: refuses system calls that reach for the host.
bool kl_shim_filter(void);
// Cleans a stopped machine's merged root of its identity; changes its upper layer only.
bool kl_scrub(const kl_site *site, const char *machine, const char *layers, kl_failure *failure);

// A machine's PID 1, in our numbers; 0: unknown.
pid_t kl_machine_init(const kl_site *site, const char *name);
// The PID 1 of any machine that runs; 0: none does.
pid_t kl_machine_survivor(const kl_site *site);
// Gives the running machines of a site whose router was lost their cables to the new one.
bool kl_machine_reattach(const kl_site *site, kl_failure *failure);

// "images/a/fs:images/b/fs", the layers of an image from the top; false: no such image.
bool kl_image_layers(const kl_site *site, const char *image, kl_buf *out, kl_failure *failure);

// The helper `portal PID START`: opens sockets in the network outside of that router for whoever
// has the other end of standard input; ends with it or with the router. See io/route.h.
int kl_portal_main(int argc, char **argv);

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
