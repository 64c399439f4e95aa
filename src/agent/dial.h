/* A connection to the first of several addresses that answers (RFC 8305): the next is tried when one fails or is slow.
   One of a Unix socket stands alone. */
#ifndef AGENT_DIAL_H
#define AGENT_DIAL_H

#include "agent/descriptors.h"
#include "base/addr.h"
#include "loop/loop.h"

/* The first of addrs that is of this machine and answers at once: connected, set up as a stream socket, and among the
   descriptors; *was_reset: and reset by the other end since. -1: none does, or it is not the first of all: dial_start
   tells. */
int dial_at_once(struct descriptors *descriptors, const struct addr *addrs, size_t n, bool *was_reset) MUST_USE;

struct dial;
/* fd >= 0: connected to *to, set up as a stream socket, among the descriptors, now the callee's; e->code is not 0 if
   the other end has reset it since (dial_hear_resets). Else *e says why none answered: its code is ERR_CLOSED when one
   refused, ERR_TIMEOUT, or another. The dial has ended and is freed after the turn. Never called before dial_start has
   returned. */
typedef void dial_fn(void *user, int fd, const struct addr *to, const struct err *e);
struct dial *dial_start(struct loop *l, struct descriptors *descriptors, const struct addr *addrs, size_t n,
                        uint64_t deadline_ms, dial_fn *fn, void *user) MUST_USE;
/* Whoever accepts and resets at once was reached, and may have said something; else the next address is tried. */
void dial_hear_resets(struct dial *d);
void dial_stop(struct dial *d);    /* fn will not be called; NULL is fine */

#endif
