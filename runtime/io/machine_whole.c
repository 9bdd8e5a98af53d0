// Whether the network of a site is whole: each part is looked at. What is broken is made again,
// with the least that connections which live would notice.
#include "io/machine.h"

#include "io/files.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { DNS_MS = 2000 }; // the server is a program on this host, which asks the host's own

static bool shows(const kl_site *site, int as, pid_t net, char *const argv[], const char *expected)
{
    kl_command command = {.argv = argv, .site = site, .as = as, .net = net};
    kl_buf out = {0};
    kl_failure ignored;
    bool ok =
        kl_command_run(&command, &out, &ignored) && strstr(kl_buf_text(&out), expected) != NULL;
    kl_buf_free(&out);
    return ok;
}

// The cable from the outside to the router, and both routes over it.
static bool cable_is_whole(const kl_site *site)
{
    char expected[32], address[32];
    snprintf(expected, sizeof expected, "dev kl-%s", site->tag);
    for (int net = 2; net <= 3; net++) {
        snprintf(address, sizeof address, "10.199.%d.1", site->block + net);
        char *const argv[] = {"ip", "route", "get", address, NULL};
        if (!shows(site, KL_AS_OUTSIDE, 0, argv, expected))
            return false;
    }
    return true;
}

// The map of floating addresses is there, and says what was saved.
static bool addresses_are_whole(const kl_site *site)
{
    kl_buf map = {0}, saved = {0};
    kl_failure failure = {0};
    bool ok = kl_net_assigned(site, &map, &failure);
    if (ok && kl_files_read(&saved, "floating", 1 << 16, &failure)) {
        char address[64], target[64], line[140];
        int used = 0;
        for (const char *at = kl_buf_text(&saved);
             ok && sscanf(at, "%63[0-9.] %63[0-9.]\n%n", address, target, &used) == 2; at += used) {
            snprintf(line, sizeof line, "%s %s\n", address, target);
            ok = strstr(kl_buf_text(&map), line) != NULL;
        }
    }
    kl_buf_free(&map);
    kl_buf_free(&saved);
    return ok;
}

// In a child inside the router: asks the machines' name server for the root's servers (RFC 1035).
static bool ask_name_server(const kl_site *site)
{
    static const char question[] = "kl\1\0\0\1\0\0\0\0\0\0\0\0\2\0\1";
    char answer[512], address[32];
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(53)};
    snprintf(address, sizeof address, "10.199.%d.53", site->block + 1);
    inet_pton(AF_INET, address, &to.sin_addr);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    return fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof to) == 0 &&
           send(fd, question, sizeof question - 1, 0) == (ssize_t)sizeof question - 1 &&
           poll(&wait, 1, DNS_MS) == 1 && recv(fd, answer, sizeof answer, 0) >= 12 &&
           memcmp(answer, "kl", 2) == 0;
}

static bool name_server_answers(const kl_site *site)
{
    int status = 0;
    pid_t pid = fork();
    if (pid == 0)
        _exit(kl_enter_net(site, site->router) && ask_name_server(site) ? 0 : 1);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return pid > 0 && status == 0;
}

static bool machine_is_cabled(const kl_site *site, pid_t pid)
{
    char *const argv[] = {"ip", "link", "show", "eth0", NULL};
    return shows(site, KL_AS_NET, pid, argv, "LOWER_UP");
}

// Calls `each` for every machine that runs; ends when it returns false.
static bool each_machine(const kl_site *site, bool (*each)(const kl_site *, const char *, void *),
                         void *ctx)
{
    bool ok = true;
    DIR *dir = opendir("machines");
    for (struct dirent *entry; ok && dir != NULL && (entry = readdir(dir)) != NULL;)
        ok = each(site, entry->d_name, ctx);
    if (dir != NULL)
        closedir(dir);
    return ok;
}

static bool add_uncabled(const kl_site *site, const char *name, void *names)
{
    pid_t pid = kl_machine_running(site, name);
    if (pid != 0 && !machine_is_cabled(site, pid))
        kl_buf_printf(names, "%s%s", ((kl_buf *)names)->length > 0 ? ", " : "", name);
    return true;
}

void kl_site_look(const kl_site *site, kl_site_state *out)
{
    *out = (kl_site_state){.router = site->router != 0 && access("network.whole", F_OK) == 0};
    if (!out->router)
        return;
    out->cable = cable_is_whole(site);
    out->addresses = addresses_are_whole(site);
    out->way_out = !kl_command_exists("pasta") || kl_net_has_uplink(site);
    each_machine(site, add_uncabled, &out->uncabled);
}

static void answer(const char *name, bool ok, const char *message, const char *remedy)
{
    kl_fields row = {0};
    kl_fields_add(&row, "name", name);
    kl_fields_add(&row, "ok", ok ? "yes" : "no");
    kl_fields_add(&row, "message", message);
    kl_fields_add(&row, "remedy", ok ? "" : remedy);
    kl_answer_row(&row);
    kl_fields_free(&row);
}

// A site may have no network yet, or no more.
static bool has_network(const kl_site *site)
{
    return site->router != 0 || kl_machine_survivor(site) != 0;
}

static void answer_parts(const kl_site *site, const kl_site_state *state)
{
    answer("cable", state->cable,
           state->cable ? "leads from this host to the router"
                        : "the way from this host to its machines is broken",
           "kiln up");
    answer("addresses", state->addresses,
           state->addresses ? "the floating addresses lead where they should"
                            : "the map of floating addresses is gone or not as it was set",
           "kiln up");
    answer("way out", state->way_out,
           state->way_out ? "machines reach the network of this host"
                          : "was ended: machines have no network but their own",
           "kiln up");
    bool names = !state->way_out || !kl_command_exists("pasta") || name_server_answers(site);
    answer("name server", names, names ? "answers machines" : "does not answer machines",
           "look at /etc/resolv.conf of this host: machines ask the server that it names");
    answer("machines", state->uncabled.length == 0,
           state->uncabled.length == 0 ? "each that runs has its cable"
                                       : kl_buf_text(&state->uncabled),
           "kiln up");
}

bool kl_site_answer_state(kl_site *site, const kl_fields *request, kl_failure *failure)
{
    (void)request;
    (void)failure;
    kl_site_state state;
    if (!has_network(site))
        return true;
    kl_site_look(site, &state);
    answer("router", state.router, state.router ? "runs" : "was ended, its machines are cut off",
           "kiln up");
    if (state.router)
        answer_parts(site, &state);
    kl_buf_free(&state.uncabled);
    return true;
}

static bool recable(const kl_site *site, const char *name, void *failure)
{
    pid_t pid = kl_machine_running(site, name);
    return pid == 0 || machine_is_cabled(site, pid) || kl_machine_reattach_one(site, name, failure);
}

bool kl_site_repair(kl_site *site, kl_buf *repaired, kl_failure *failure)
{
    kl_site_state state;
    if (!kl_site_lock(site, failure))
        return false;
    if (!has_network(site)) {
        kl_site_unlock(site);
        return true;
    }
    kl_site_look(site, &state);
    bool rebuild = !state.router || !state.cable || !state.addresses, ok = true;
    if (rebuild) {
        kl_buf_puts(repaired, !state.router ? "router" : !state.cable ? "cable" : "addresses");
        unlink("network.whole"); // kl_site_up makes it again, whole
    } else if (!state.way_out) {
        ok = kl_net_start_uplink(site, failure);
        kl_buf_puts(repaired, "way out");
    }
    if (ok && !rebuild && state.uncabled.length > 0) {
        ok = each_machine(site, recable, failure);
        kl_buf_printf(repaired, "%scables of %s", repaired->length > 0 ? ", " : "",
                      kl_buf_text(&state.uncabled));
    }
    kl_buf_free(&state.uncabled);
    kl_site_unlock(site);
    return ok && kl_site_up(site, failure);
}
