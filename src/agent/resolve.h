/* Addresses of a host: at once when it is numeric or localhost, else by getaddrinfo in a thread of its own, because
   that blocks. */
#ifndef AGENT_RESOLVE_H
#define AGENT_RESOLVE_H

#include "base/addr.h"
#include "base/limits.h"
#include "loop/loop.h"

/* How many addresses; 0 when the host must be looked up. */
size_t resolve_now(const struct host_port *hp, struct addr out[RESOLVED_MAX]);

struct resolve;                    /* a lookup under way */
/* n == 0: *e says why. The lookup has ended when this is called. */
typedef void resolve_fn(void *user, const struct addr *addrs, size_t n, const struct err *e);
/* NULL: no thread. */
struct resolve *resolve_start(struct loop *l, const struct host_port *hp, resolve_fn *fn, void *user) MUST_USE;
void resolve_cancel(struct resolve *r);   /* fn will not be called; NULL is fine; never waits for the thread */

#endif
