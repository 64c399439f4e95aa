/* Hosts as the network knows them: what reaches what, how long it takes, and who has which port. */
#ifndef WORLD_KERNEL_NETWORK_H
#define WORLD_KERNEL_NETWORK_H

#include <netinet/in.h>

#include "kernel.h"

struct tcp;
struct connection;

enum { PORT_LISTS = 256, NETWORK_HOSTS_MAX = 64 };

struct host_net {
  struct host *host;
  unsigned number;                 /* from 0 */
  bool down;
  uint16_t next_port;              /* to try for who does not care */
  struct list ports[PORT_LISTS];   /* struct tcp.of_port, by number */
  struct list names;               /* struct unix_socket.of_names: abstract ones, and those of files */
};

void network_begin(void);          /* of a run */

bool network_is_loopback(uint32_t ip);
/* Who has that address, seen from there; NULL: nobody. */
struct host *network_find(const struct host *from, uint32_t ip);
bool network_reaches(const struct host *a, const struct host *b);
uint64_t network_delay_ns(const struct host *a, const struct host *b);       /* of one packet, by seed */

struct list *network_port_list(const struct host *h, uint16_t port);
uint16_t network_free_port(struct host *h);          /* 0: there is none */

/* Of kernel_connection.c: */
extern struct list connections;    /* struct connection.of_all */
extern unsigned connections_n;

#endif
