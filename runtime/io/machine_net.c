// The network of a site. One router namespace has everything: a cable to each machine, the map of
// floating addresses, the way out. Outside of it, on the host or in the namespace of an ordinary
// user, there is one cable and two routes; the host's firewall, forwarding and bridges stay as they
// are.
#include "io/machine.h"

#include "io/files.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static bool batch(const kl_site *site, pid_t net, const char *lines, kl_failure *failure)
{
    char *const argv[] = {"ip", "-batch", "-", NULL};
    kl_command command = {.argv = argv, .input = lines, .site = site, .as = KL_AS_NET, .net = net};
    return kl_command_run(&command, NULL, failure);
}

// On the other side of the router: the host, or an ordinary user's namespace.
static bool batch_outside(const kl_site *site, const char *lines, kl_failure *failure)
{
    char *const argv[] = {"ip", "-batch", "-", NULL};
    kl_command command = {.argv = argv, .input = lines, .site = site, .as = KL_AS_OUTSIDE};
    return kl_command_run(&command, NULL, failure);
}

bool kl_net_rules(const kl_site *site, const char *text, kl_failure *failure)
{
    char *const argv[] = {"nft", "-f", "-", NULL};
    kl_command command = {
        .argv = argv, .input = text, .site = site, .as = KL_AS_NET, .net = site->router};
    return kl_command_run(&command, NULL, failure);
}

// The sysctl files of a network namespace are seen by who is in it. New cables have the defaults.
// (A missing one is fine where the kernel has no such feature to switch off.)
static bool set_sysctls(const kl_site *site, kl_failure *failure)
{
    static const struct {
        const char *path, *value;
        bool must;
    } settings[] = {
        {"/proc/sys/net/ipv4/ip_forward", "1", true},
        {"/proc/sys/net/ipv4/conf/default/proxy_arp", "1", true},
        {"/proc/sys/net/ipv4/conf/default/rp_filter", "1", true},
        {"/proc/sys/net/ipv4/conf/default/send_redirects", "0", true},
        {"/proc/sys/net/ipv4/conf/all/send_redirects", "0", true},
        {"/proc/sys/net/ipv6/conf/default/disable_ipv6", "1", false},
    };
    int status = 0;
    pid_t pid = fork();
    if (pid == 0) {
        if (!kl_enter_net(site, site->router))
            _exit(1);
        for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++) {
            int fd = open(settings[i].path, O_WRONLY);
            if ((fd < 0 || write(fd, settings[i].value, 1) != 1) && settings[i].must)
                _exit(1);
        }
        _exit(0);
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (status != 0)
        kl_failure_set(failure, "unsupported", 0, "the router cannot forward packets");
    return status == 0;
}

// The way out for package installation: a user-space NAT on a tap device of the router, so that
// nothing of the host changes. Without the program machines reach each other and the host only.
bool kl_net_start_uplink(const kl_site *site, kl_failure *failure)
{
    char netns[64], userns[64], address[32], gateway[32], resolver[32], cgroup[PATH_MAX];
    snprintf(netns, sizeof netns, "/proc/%d/ns/net", (int)site->router);
    snprintf(userns, sizeof userns, "/proc/%d/ns/user", (int)site->router);
    snprintf(address, sizeof address, "10.199.%d.2", site->block + 1);
    snprintf(gateway, sizeof gateway, "10.199.%d.1", site->block + 1);
    snprintf(resolver, sizeof resolver, "10.199.%d.53", site->block + 1);
    char *const argv[] = {"pasta",
                          "--quiet",
                          "--config-net",
                          "-4",
                          "--no-netns-quit",
                          "--netns",
                          "/proc/self/fd/0",
                          "-I",
                          "up0",
                          "-a",
                          address,
                          "-n",
                          "24",
                          "-g",
                          gateway,
                          "--dns-forward",
                          resolver,
                          "-t",
                          "none",
                          "-u",
                          "none",
                          "-T",
                          "none",
                          "-U",
                          "none",
                          site->ordinary ? "--userns" : "--netns-only",
                          site->ordinary ? userns : "--runas",
                          site->ordinary ? NULL : "0",
                          NULL};
    if (!kl_cgroup_path(cgroup, sizeof cgroup, site, "router"))
        return true;
    // It gives its privileges up before it opens the router's network namespace by path, so it gets
    // it open, as its standard input. Of root's site it runs as the host's root, because
    // /dev/net/tun may be root's alone, and shuts itself in (its own empty root, seccomp).
    kl_command command = {.argv = argv, .input_file = netns, .cgroup = cgroup};
    return kl_command_run(&command, NULL, failure);
}

bool kl_net_has_uplink(const kl_site *site)
{
    int status = 0;
    pid_t pid = fork();
    if (pid == 0)
        _exit(kl_enter_net(site, site->router) && if_nametoindex("up0") != 0 ? 0 : 1);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return pid > 0 && status == 0;
}

// Points the floating addresses to where they pointed before the router ended.
static bool restore_map(const kl_site *site, kl_failure *failure)
{
    char path[PATH_MAX], address[64], target[64];
    kl_buf map = {0}, text = {0};
    kl_failure none = {0};
    int used = 0;
    kl_site_path(site, path, sizeof path, "floating");
    if (!kl_files_read(&map, path, 1 << 16, &none)) {
        kl_buf_free(&map);
        return true; // nothing was assigned yet
    }
    for (const char *at = kl_buf_text(&map);
         sscanf(at, "%63[0-9.] %63[0-9.]\n%n", address, target, &used) == 2; at += used)
        kl_buf_printf(&text, "add element ip kiln fip { %s : %s }\n", address, target);
    bool ok = text.length == 0 || kl_net_rules(site, kl_buf_text(&text), failure);
    kl_buf_free(&map);
    kl_buf_free(&text);
    return ok;
}

static bool save_map(const kl_site *site, kl_failure *failure)
{
    char path[PATH_MAX];
    kl_buf map = {0};
    kl_site_path(site, path, sizeof path, "floating");
    bool ok = kl_net_assigned(site, &map, failure) &&
              kl_files_write(path, kl_buf_text(&map), map.length, 0600, KL_FILES_REPLACE, failure);
    kl_buf_free(&map);
    return ok;
}

bool kl_net_up(const kl_site *site, kl_failure *failure)
{
    int b = site->block;
    kl_buf host = {0}, inside = {0}, table = {0};
    kl_buf_printf(&host,
                  "link add kl-%s type veth peer name uplink netns %d\n"
                  "addr add 10.199.%d.1/30 dev kl-%s\n"
                  "link set kl-%s up\n"
                  "route add 10.199.%d.0/24 via 10.199.%d.2\n"
                  "route add 10.199.%d.0/24 via 10.199.%d.2\n"
                  // Without the router, what goes to a machine does not leave by another way.
                  "route replace unreachable 10.199.%d.0/24 metric %d\n"
                  "route replace unreachable 10.199.%d.0/24 metric %d\n",
                  site->tag, (int)site->router, b, site->tag, site->tag, b + 2, b, b + 3, b, b + 2,
                  KL_NO_ROUTER_METRIC, b + 3, KL_NO_ROUTER_METRIC);
    // A floating address of nobody is refused at once instead of hanging.
    kl_buf_printf(&inside,
                  "link set lo up\n"
                  "addr add 10.199.%d.1/32 dev lo\n"
                  "addr add 10.199.%d.2/30 dev uplink\n"
                  "link set uplink up\n"
                  "route add unreachable 10.199.%d.0/24\n",
                  b + 2, b, b + 3);
    kl_rules_table(site, &table);
    bool ok = batch_outside(site, kl_buf_text(&host), failure) &&
              batch(site, site->router, kl_buf_text(&inside), failure) &&
              set_sysctls(site, failure) && kl_net_rules(site, kl_buf_text(&table), failure) &&
              restore_map(site, failure);
    // Without a way out machines still reach each other and the host: `check` tells.
    kl_failure ignored;
    if (ok && kl_command_exists("pasta"))
        kl_net_start_uplink(site, &ignored);
    kl_buf_free(&host);
    kl_buf_free(&inside);
    kl_buf_free(&table);
    return ok;
}

bool kl_net_down(const kl_site *site, bool for_good, kl_failure *failure)
{
    char line[64];
    kl_failure ignored;
    if (site->ordinary)
        return true; // all of it goes with the router's namespaces
    for (int net = 2; for_good && site->block != 0 && net <= 3; net++) {
        snprintf(line, sizeof line, "route del unreachable 10.199.%d.0/24 metric %d\n",
                 site->block + net, KL_NO_ROUTER_METRIC);
        batch_outside(site, line, &ignored);
    }
    snprintf(line, sizeof line, "link del kl-%s\n", site->tag);
    return batch_outside(site, line, failure);
}

bool kl_net_attach(const kl_site *site, pid_t pid, const char *address, kl_failure *failure)
{
    char lines[512], removal[32], cable[16], hardware[24];
    kl_failure ignored = {0};
    int last = atoi(strrchr(address, '.') + 1);
    kl_rules_cable(cable, sizeof cable, last);
    snprintf(hardware, sizeof hardware, "02:6b:69:6d:%02x:%02x", (unsigned)site->block & 255,
             (unsigned)last & 255);
    snprintf(lines, sizeof lines,
             "link add %s type veth peer name eth0 address %s netns %d\n"
             "ntable change name arp_cache dev %s proxy_delay 0\n"
             "link set %s up\n"
             "neigh replace %s lladdr %s dev %s nud permanent\n"
             "route replace %s/32 dev %s src 10.199.%d.1\n",
             cable, hardware, (int)pid, cable, cable, address, hardware, cable, address, cable,
             site->block + 2);
    if (!batch(site, site->router, lines, failure)) {
        // The cable of a machine that has just gone, with this address, may still be there.
        snprintf(removal, sizeof removal, "link del %s\n", cable);
        batch(site, site->router, removal, &ignored);
        if (!batch(site, site->router, lines, failure))
            return false;
    }
    snprintf(lines, sizeof lines,
             "link set lo up\n"
             "addr add %s/24 dev eth0\n"
             "link set eth0 up\n"
             "route add default via 10.199.%d.1\n",
             address, site->block + 2);
    return batch(site, pid, lines, failure);
}

static bool is_address(const char *text)
{
    unsigned a, b, c, d;
    char end;
    return text != NULL && sscanf(text, "%3u.%3u.%3u.%3u%c", &a, &b, &c, &d, &end) == 4 &&
           strspn(text, "0123456789.") == strlen(text);
}

bool kl_net_assigned(const kl_site *site, kl_buf *out, kl_failure *failure)
{
    char *const argv[] = {"nft", "list", "map", "ip", "kiln", "fip", NULL};
    kl_command command = {.argv = argv, .site = site, .as = KL_AS_NET, .net = site->router};
    kl_buf text = {0};
    bool ok = kl_command_run(&command, &text, failure);
    const char *at = strstr(kl_buf_text(&text), "elements = {");
    at = at != NULL ? at + strlen("elements = {") : "";
    char from[64], to[64];
    int used = 0;
    while (ok && sscanf(at, " %63[0-9.] : %63[0-9.]%n", from, to, &used) == 2) {
        kl_buf_printf(out, "%s %s\n", from, to);
        at += used;
        at += strspn(at, " ,\n\t");
    }
    kl_buf_free(&text);
    return ok;
}

bool kl_net_assign(const kl_site *site, const char *address, const char *target,
                   kl_failure *failure)
{
    if (!is_address(address) || (target != NULL && !is_address(target))) {
        kl_failure_set(failure, "invalid", 0, "not an IPv4 address");
        return false;
    }
    kl_buf map = {0};
    if (!kl_net_assigned(site, &map, failure)) {
        kl_buf_free(&map);
        return false;
    }
    char start[72], text[256] = "";
    snprintf(start, sizeof start, "%s ", address);
    const char *line = strstr(kl_buf_text(&map), start);
    bool assigned = line != NULL && (line == map.data || line[-1] == '\n');
    kl_buf_free(&map);
    int used = 0;
    if (assigned)
        used = snprintf(text, sizeof text, "delete element ip kiln fip { %s }\n", address);
    if (target != NULL)
        snprintf(text + used, sizeof text - (size_t)used, "add element ip kiln fip { %s : %s }\n",
                 address, target);
    return text[0] == '\0' ||
           (kl_net_rules(site, text, failure) && save_map(site, failure)); // one transaction
}

// In a child inside the namespace: the connection table has two tuples a line, what the client sent
// to and who answers; the second one's source is the machine.
static int count_connections(const char *address, const char *target)
{
    char line[512], to[80], from[80];
    int count = 0;
    FILE *in = fopen("/proc/self/net/nf_conntrack", "re");
    if (in == NULL)
        return 255;
    snprintf(to, sizeof to, " dst=%s ", address);
    snprintf(from, sizeof from, " src=%s ", target);
    while (fgets(line, sizeof line, in) != NULL) {
        if (strstr(line, "ESTABLISHED") != NULL && strstr(line, to) != NULL &&
            strstr(line, from) != NULL)
            count++;
    }
    fclose(in);
    return count < 254 ? count : 254;
}

int kl_net_connections(const kl_site *site, const char *address, const char *target,
                       kl_failure *failure)
{
    if (!is_address(address) || !is_address(target)) {
        kl_failure_set(failure, "invalid", 0, "not an IPv4 address");
        return -1;
    }
    pid_t pid = fork();
    if (pid == 0)
        _exit(kl_enter_net(site, site->router) ? count_connections(address, target) : 255);
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (pid < 0 || !WIFEXITED(status) || WEXITSTATUS(status) == 255) {
        kl_failure_set(failure, "unsupported", 0,
                       "the kernel shows no connection table (nf_conntrack)");
        return -1;
    }
    return WEXITSTATUS(status);
}
