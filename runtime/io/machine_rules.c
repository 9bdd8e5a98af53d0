// What the router lets through. Machines have no network in common: each has a cable to the router,
// which answers for all addresses of their network (proxy ARP) and passes on what these rules
// accept. So no machine sees another's packets, takes its address or sends from it.
#include "io/machine.h"

#include <stdio.h>

// The cable of the machine with that address, at the router. Names end in the address, so a new
// machine's cable is never taken for that of a machine that has just gone.
void kl_rules_cable(char *out, size_t size, int last)
{
    snprintf(out, size, "m%d", last);
}

static void add_sets(int b, kl_buf *out)
{
    char cable[16];
    kl_buf_puts(out, "table ip kiln {\n"
                     "  map fip { type ipv4_addr : ipv4_addr; }\n"
                     "  map groups { type ipv4_addr : mark; }\n"
                     "  set admits { type mark . ipv4_addr; }\n"
                     "  set own { type ifname . ipv4_addr; elements = {");
    for (int last = 2; last < 255; last++) {
        kl_rules_cable(cable, sizeof cable, last);
        kl_buf_printf(out, "%s \"%s\" . 10.199.%d.%d", last > 2 ? "," : "", cable, b + 2, last);
    }
    kl_buf_puts(out, " } }\n");
}

// A packet from a machine has the machine's own address. pasta's gateway address is the host's own
// loopback: nothing of machines. What belongs to no connection is dropped: pasta sends segments
// without flags, and the router would answer them with a reset that ends the machine's connection.
static void add_guards(int b, kl_buf *out)
{
    kl_buf_printf(out,
                  "  chain guard { type filter hook prerouting priority raw;\n"
                  "    iifname \"m*\" iifname . ip saddr != @own drop;\n"
                  "    iifname \"m*\" ip daddr { 10.199.%d.1, 127.0.0.0/8 } drop; }\n"
                  "  chain strays { type filter hook prerouting priority filter;\n"
                  "    ct state invalid drop; }\n",
                  b + 1);
}

// From machine to machine: by a floating address, or where the other one admits its group. To the
// outside: not to other sites of this host (10.199.0.0/16), but to the name server of the way out.
static void add_forward(int b, kl_buf *out)
{
    kl_buf_printf(out,
                  "  chain pass { type filter hook forward priority filter; policy drop;\n"
                  "    ct state established,related accept;\n"
                  "    iifname \"uplink\" oifname \"m*\" accept;\n"
                  "    iifname \"m*\" oifname \"m*\" ct status dnat accept;\n"
                  "    iifname \"m*\" oifname \"m*\" meta mark set ip saddr map @groups;\n"
                  "    iifname \"m*\" oifname \"m*\" meta mark . ip daddr @admits accept;\n"
                  "    iifname \"m*\" oifname \"uplink\" ip daddr 10.199.%d.1 accept;\n"
                  "    iifname \"m*\" oifname \"up0\" ip daddr 10.199.%d.53 accept;\n"
                  "    iifname \"m*\" oifname \"up0\" ip daddr != 10.199.0.0/16 accept;\n"
                  "    reject with icmp type admin-prohibited; }\n"
                  "  chain self { type filter hook input priority filter;\n"
                  "    iifname \"m*\" ct state established,related accept;\n"
                  "    iifname \"m*\" icmp type echo-request accept;\n"
                  "    iifname \"m*\" reject with icmp type admin-prohibited; }\n",
                  b, b + 1);
}

// A machine reaches a floating address that is its own, or another's, as the router: the answer
// comes back this way.
void kl_rules_table(const kl_site *site, kl_buf *out)
{
    int b = site->block;
    add_sets(b, out);
    add_guards(b, out);
    add_forward(b, out);
    kl_buf_printf(out,
                  "  chain pre { type nat hook prerouting priority dstnat;\n"
                  "    dnat to ip daddr map @fip; }\n"
                  "  chain post { type nat hook postrouting priority srcnat;\n"
                  "    oifname \"m*\" ip saddr 10.199.%d.0/24 ct status dnat snat to 10.199.%d.1;\n"
                  "    oifname \"up0\" masquerade; }\n"
                  "}\n",
                  b + 2, b + 2);
}
