/* The door of the public port: a connection whose first bytes tell what it is (a TLS ClientHello, a data connection's
   preface), behind a PROXY header where the peer is a load balancer that we trust. */
#ifndef RELAY_DOOR_H
#define RELAY_DOOR_H

#include "relay/worker.h"

void door_open(struct worker *w, int fd, const struct addr *peer);  /* takes fd */
/* The same for the port of plain HTTP, where every request is told to come by https. */
void door_open_redirect(struct worker *w, int fd, const struct addr *peer);
void door_close_all(struct worker *w);

#endif
