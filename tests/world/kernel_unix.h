/* Unix sockets: streams, packets in sequence, and datagrams as far as they are sent to a name. */
#ifndef WORLD_KERNEL_UNIX_H
#define WORLD_KERNEL_UNIX_H

#include "kernel_socket.h"

struct socket *local_new(struct process *p, int type);
void local_pair(struct process *p, int type, struct socket *ends[2]);

#endif
