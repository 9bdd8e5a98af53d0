// Local machines: Linux from a root file system, in namespaces of its own, with systemd as PID 1.
//
// Everything here runs in a helper process of kiln's own program (`kiln __machine VERB`), which
// does its work in straight lines and answers on standard output, so that kiln's loop never blocks.
// A machine lives on when kiln ends: it belongs to its cgroup, and killing that leaves nothing.
//
// A site is a folder with images/, machines/ and a router: a user and a network namespace with the
// machines' cables, a floating-address map and one cable to the outside. For root the outside is
// the host's own network. An ordinary user has no say there, so the outside is one more namespace,
// and io/route.h opens kiln's connections in it.
//
// Each machine has a user namespace of its own, within one that bounds what it may make. Those of
// root's sites have host ids of their own too; nobody has the layers' and the router's.
#ifndef KL_IO_MACHINE_H
#define KL_IO_MACHINE_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/stat.h>
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
    char dir[PATH_MAX];   // absolute; the helper works in it
    int fd;               // it, open
    char tag[9];          // names its cgroup and its cable
    bool ordinary;        // its owner is not root
    uid_t uid;            // on the host, root of the layers and of the router
    gid_t gid;            // the same
    char group[PATH_MAX]; // its control group, whether it is there or not; "": not chosen yet
    int block;            // its networks are 10.199.block to 10.199.(block + 3)
    pid_t router;         // holds the router's user and network namespace; 0: down
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
// Ends it and its network; fine when it is not there. `for_good`: as of kl_net_down.
bool kl_router_end(kl_site *site, bool for_good, kl_failure *failure);
// Finds the site's block, and its router if that is up.
bool kl_router_read(kl_site *site, kl_failure *failure);
// Writes a path below the site's folder, in which the helper works.
void kl_site_path(const kl_site *site, char *out, size_t size, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
// Opens a folder below one that is open (O_PATH), through no symbolic link; -1: failed.
int kl_site_folder(int base, const char *path, struct stat *out, kl_failure *failure);
// Makes a folder with that mode below one that is open: the site's owner's, or of the ids of
// layers.
bool kl_site_own_folder(const kl_site *site, int base, const char *path, mode_t mode,
                        bool of_machine, kl_failure *failure);
// Makes images/ or machines/, closed to others; takes one of before over.
bool kl_site_make_folder(const kl_site *site, const char *name, kl_failure *failure);

// The host ids of machines. Root has a range of its own, in blocks of KL_IDS: the first one is that
// of layers and routers, each machine that runs has another. Layers of before have the ids from
// KL_IDS_BEFORE on, which an ordinary user may have. An ordinary user is root of the machines, the
// other ids are what /etc/subuid and /etc/subgid give to the user, and all machines have the same.
enum { KL_IDS = 65536, KL_IDS_BEFORE = 100000 };
// The first id of root's range.
unsigned kl_range_first(void);
// Is it the first id of a block of such a range?
bool kl_range_is_ours(unsigned first);
// Makes the range root's in /etc/subuid and /etc/subgid; fails when somebody else has ids of it.
bool kl_range_reserve(kl_site *site, kl_failure *failure);
// Chooses a block for a machine; it is taken for as long as the descriptor is open. -1: failed.
int kl_range_block(const kl_site *site, unsigned *out, kl_failure *failure);
// The first id of the layers in machines/NAME or images/NAME, as the file `ids` there says.
bool kl_ids_of_folder(const char *folder, unsigned *out, kl_failure *failure);
bool kl_ids_note(const kl_site *site, const char *folder, unsigned first, kl_failure *failure);
// Maps the ids of layers for a process that has just made its user namespace.
bool kl_ids_map(const kl_site *site, pid_t pid, kl_failure *failure);
// The same with any map, by one who has the right to.
bool kl_ids_write_map(pid_t pid, const char *map, kl_failure *failure);
// Describes those of layers: "0 100000 65536\n…", as /proc/PID/uid_map and gid_map have them.
bool kl_ids_describe(const kl_site *site, kl_buf *out, kl_failure *failure);

// Runs `work` in a child that is root of the ids of layers and starts in `folder`. What `work`
// appends to `out` comes back.
typedef bool kl_inside_fn(const void *ctx, kl_buf *out, kl_failure *failure);
bool kl_inside(const kl_site *site, int folder, kl_inside_fn *work, const void *ctx, kl_buf *out,
               kl_failure *failure);
// Copies the layer of a machine that has a disk into a folder of the site.
bool kl_layer_copy(const kl_site *site, const char *machine, const char *to, kl_failure *failure);
// Moves a layer's folder within the site.
bool kl_layer_move(const kl_site *site, const char *from, const char *to, kl_failure *failure);
// Removes a tree of the site; fine when it is not there.
bool kl_layer_remove(const kl_site *site, const char *path, kl_failure *failure);

// The overlay that is a machine's root, opened by the helper, mounted by who is in it.
enum { KL_LAYERS_MAX = 100 };
typedef struct kl_layers {
    char options[4096]; // the kernel takes a page
    char root[320];     // where it is mounted
    int folder, own;    // root's: machines/NAME, and as a tree with the machine's ids
    int trees[KL_LAYERS_MAX], count;
} kl_layers;
// `first`: the machine's root on the host (root's sites only). Takes `own`, of kl_layers_own; -1:
// opens it.
bool kl_layers_open(kl_layers *out, const kl_site *site, const char *machine, const char *layers,
                    unsigned first, int own, kl_failure *failure);
void kl_layers_close(kl_layers *self);
// In a process that is the machine's root: makes a mount namespace, mounts, and goes there. Returns
// what failed, or NULL.
const char *kl_layers_mount(const kl_layers *self);
// The folder that holds a machine's upper/ and work/: of its disk, or machines/NAME; -1: failed.
int kl_layers_own(const kl_site *site, const char *machine, kl_failure *failure);
// A folder below machines/NAME or images/NAME, with its ids mapped to those from `first` on.
int kl_layers_tree(const kl_site *site, const char *folder, const char *below, unsigned first,
                   kl_failure *failure);

// Makes upper/ and work/ in the folder `own` (of kl_layers_own), with what a machine is told.
bool kl_seed_write(const kl_site *site, int own, const kl_fields *request, kl_failure *failure);

// A machine's own disk. See the file.
// Can machines of this site have one? Says what is missing.
bool kl_disk_possible(const kl_site *site, const char **why);
// The size of a disk: `wanted` bytes, or 10 GiB (NULL), half of what the host has free at most.
long long kl_disk_bytes(const kl_site *site, const char *wanted);
// Makes the disk of machines/NAME; nothing where that is not possible.
bool kl_disk_make(const kl_site *site, const char *name, const char *wanted, kl_failure *failure);
bool kl_disk_exists(const kl_site *site, const char *name);
// Opens its root; -1: the machine has no disk.
bool kl_disk_open(int *out, const kl_site *site, const char *name, kl_failure *failure);

// The network of a site.
// Gives the router rules of nftables, in one transaction.
bool kl_net_rules(const kl_site *site, const char *text, kl_failure *failure);
// Appends all that a router has from its start.
void kl_rules_table(const kl_site *site, kl_buf *out);
// Names the router's end of the cable of the machine whose address ends in `last`.
void kl_rules_cable(char *out, size_t size, int last);
// Lets machines reach those that admit them. Takes the site's lock for granted.
bool kl_peers_apply(const kl_site *site, kl_failure *failure);
bool kl_net_up(const kl_site *site, kl_failure *failure);
// `for_good`: also the routes by which what is for a machine does not leave by another way while
// there is no router.
enum { KL_NO_ROUTER_METRIC = 4096 }; // above the metric of any route that leads somewhere
bool kl_net_down(const kl_site *site, bool for_good, kl_failure *failure);
// Is there a way out, and with it a name server?
bool kl_net_has_uplink(const kl_site *site);
// Starts the way out; fine when it runs.
bool kl_net_start_uplink(const kl_site *site, kl_failure *failure);
// Gives a machine's process its cable to the router and its address.
bool kl_net_attach(const kl_site *site, pid_t pid, const char *address, kl_failure *failure);
// Points a floating address to a machine's, or to none (NULL): one transaction.
bool kl_net_assign(const kl_site *site, const char *address, const char *target,
                   kl_failure *failure);
// Appends "address target\n" for every assigned floating address.
bool kl_net_assigned(const kl_site *site, kl_buf *out, kl_failure *failure);
// Counts established TCP connections that came to the floating address and go to the target.
int kl_net_connections(const kl_site *site, const char *address, const char *target,
                       kl_failure *failure);

// A program run to its end.
typedef struct kl_command {
    char *const *argv;
    const char *input;      // NULL: none
    const char *input_file; // instead of `input`
    const kl_site *site;
    enum {
        KL_AS_IS,
        KL_AS_NET,     // in the network of the process `net`, with rights there
        KL_AS_OUTSIDE, // in the network outside of the router
        KL_AS_LAYERS   // as root of the ids of layers
    } as;
    pid_t net;
    const char *cgroup; // folder to join; NULL: stay
    const char *dir;    // where to start, reached before anything is entered; NULL: stay
} kl_command;
// `out` gets both streams and may be NULL. False when it cannot start or ends with another status
// than 0: the failure has its last words.
bool kl_command_run(const kl_command *command, kl_buf *out, kl_failure *failure);
// In a fresh child: enters a process's user namespace as its root. No process (0): becomes root of
// the user namespace that it is in.
bool kl_enter(pid_t pid);
// In a fresh child: becomes whoever has all rights in the namespaces of the site: the host's root,
// or the root of an ordinary user's router, within whose user namespace the machines' are.
bool kl_enter_site(const kl_site *site);
// The same, and enters the network of a process of the site.
bool kl_enter_net(const kl_site *site, pid_t pid);
// The same, with the network that lies outside of an ordinary user's router.
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
// The memory of a machine: `wanted` bytes, or half of the host's (NULL), 4 GiB at most.
long long kl_memory_bytes(const char *wanted);
// What bounds a machine's memory and processors.
enum { KL_LIMIT_MEMORY, KL_LIMIT_CPU, KL_LIMITS };
extern const char *const kl_limits_names[KL_LIMITS];
// By which version of control groups the site's machines are bounded; 0: by none.
int kl_limits_version(const kl_site *site, int limit);
// Sets a machine's by its meta. `joins`: where its first process writes "0" to be bounded; -1:
// nothing to do.
bool kl_limits_set(const kl_site *site, const char *name, const kl_fields *meta,
                   int joins[KL_LIMITS], kl_failure *failure);
void kl_limits_release(const kl_site *site, const char *name);
// Adds `unbounded` to a machine's row: what it may take all of.
void kl_limits_row(kl_fields *row, const kl_site *site, const char *name);
// Kills everything in it and removes it; fine when it is not there.
bool kl_cgroup_destroy(const char *path, kl_failure *failure);

// Makes the shim, which has just started, the root of a machine's user namespaces. See the file.
typedef struct kl_nest {
    const kl_site *site;
    unsigned creator; // who makes them: a host id (of the router's namespace) of its own
    int processes;    // that the machine may have
    int report, go;   // a byte '?' asks for ids, a byte comes when they are there
} kl_nest;
bool kl_nest_enter(const kl_nest *self);
// Its other half, in the helper. `first`: as of kl_layers_open.
bool kl_nest_map(const kl_site *site, pid_t pid, unsigned first, kl_failure *failure);

// Boots a machine whose folder is ready; returns when its PID 1 runs. Takes `own`, as
// kl_layers_open.
bool kl_shim_boot(kl_site *site, const char *name, const char *layers, const kl_fields *meta,
                  int own, kl_failure *failure);

// In what becomes a machine's PID 1: refuses system calls that reach for the host.
bool kl_shim_filter(void);
// Cleans a stopped machine's merged root of its identity; changes its upper layer only.
bool kl_scrub(const kl_site *site, const char *machine, const char *layers, kl_failure *failure);

// A machine's PID 1, in our numbers; 0: unknown.
pid_t kl_machine_init(const kl_site *site, const char *name);
// The PID 1 of any machine that runs; 0: none does.
pid_t kl_machine_survivor(const kl_site *site);
// The PID 1 of a machine if it runs, else 0.
pid_t kl_machine_running(const kl_site *site, const char *name);
// Gives the running machines of a site whose router was lost their cables to the new one.
bool kl_machine_reattach(const kl_site *site, kl_failure *failure);
// The same for one; fine when it does not run.
bool kl_machine_reattach_one(const kl_site *site, const char *name, kl_failure *failure);

// What of a site's network is whole; without a router, nothing else is looked at.
typedef struct kl_site_state {
    bool router, cable, addresses, way_out;
    kl_buf uncabled; // "a, b": machines that run without their cable; the caller's to free
} kl_site_state;
void kl_site_look(const kl_site *site, kl_site_state *out);
// Brings a network up, and makes what is broken of one that is there again; appends what that was.
bool kl_site_repair(kl_site *site, kl_buf *repaired, kl_failure *failure);

// "images/a/fs:images/b/fs", the layers of an image from the top; false: no such image.
bool kl_image_layers(const kl_site *site, const char *image, kl_buf *out, kl_failure *failure);

// The helper `portal PID START`: opens sockets in the network outside of that router for whoever
// has the other end of standard input; ends with it or with the router. See io/route.h.
int kl_portal_main(int argc, char **argv);

// The verbs. Each reads its request and answers rows.
bool kl_range_release(kl_site *site, const kl_fields *request, kl_failure *failure);
bool kl_machine_create(kl_site *site, const kl_fields *request, kl_failure *failure);
bool kl_machine_list(kl_site *site, const kl_fields *request, kl_failure *failure);
bool kl_machine_start(kl_site *site, const kl_fields *request, kl_failure *failure);
bool kl_machine_power_off(kl_site *site, const kl_fields *request, kl_failure *failure);
bool kl_machine_admit(kl_site *site, const kl_fields *request, kl_failure *failure);
bool kl_machine_destroy(kl_site *site, const kl_fields *request, kl_failure *failure);
bool kl_site_answer_state(kl_site *site, const kl_fields *request, kl_failure *failure);
bool kl_image_unpack(kl_site *site, const kl_fields *request, kl_failure *failure);
bool kl_image_freeze(kl_site *site, const kl_fields *request, kl_failure *failure);
bool kl_image_list(kl_site *site, const kl_fields *request, kl_failure *failure);
bool kl_image_remove(kl_site *site, const kl_fields *request, kl_failure *failure);
bool kl_machine_check(kl_site *site, const kl_fields *request, kl_failure *failure);

#endif
