// Sockets for addresses that only another network namespace reaches.
//
// The machines of an ordinary user live in a network of their own, which the host does not see.
// Whoever connects (dial.c, curl) makes its socket here instead of by socket(2): one for such an
// address is made in that network, and works from here like any other; connections then need no
// relay. For all other addresses, and for root's machines, it is socket(2).
//
// The routes are the process's own, as its network namespace is.
#ifndef KL_IO_ROUTE_H
#define KL_IO_ROUTE_H

#include <sys/socket.h>

// From now on addresses of the site of machines in that folder are reached, once it has a network.
// The folder need not be there yet. May be called again.
void kl_route_add(const char *site_dir);

// As socket(2), for a connection to that address.
int kl_route_socket(const struct sockaddr *address, int type, int protocol);

// What is asked of `kiln __machine portal`; its answer is an errno with the socket beside it.
typedef struct kl_route_request {
    int family, type, protocol;
} kl_route_request;

#endif
