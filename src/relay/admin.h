/* The admin port: /healthz, /metrics, /status by libevent's evhttp in a thread of its own. */
#ifndef RELAY_ADMIN_H
#define RELAY_ADMIN_H

#include "base/addr.h"
#include "relay/metrics.h"

struct admin;
/* snapshot is called from the admin's thread and fills *s; the admin frees s->tunnels. */
int admin_start(const struct addr *listen, int (*snapshot)(void *user, struct status *s), void *user,
                struct admin **out, struct err *e) MUST_USE;
uint16_t admin_port(const struct admin *a);       /* the one that it listens on, also when 0 was asked for */
void admin_stop(struct admin *a);                /* waits for its thread; NULL is fine */

#endif
