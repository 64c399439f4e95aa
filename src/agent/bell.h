/* How the host's threads call the client's own, which may have a descriptor table of its own (agent/own_table.h): a
   pair of sockets, one end in each. It also tells the client's thread when the host has closed his end, as whoever
   closes all descriptors does. */
#ifndef AGENT_BELL_H
#define AGENT_BELL_H

#include "agent/own_table.h"
#include "base/err.h"

struct bell {
  int ring_fd, hear_fd;            /* the host's end and ours */
  struct descriptor_mark ring_mark;
};

int bell_init(struct bell *b, struct err *e) MUST_USE;
void bell_ring(const struct bell *b);       /* from a host's thread; in vain when its end is no longer what it was */
/* From the client's thread, when hear_fd is readable: false when the host's end is closed. */
bool bell_heard(const struct bell *b);

#endif
