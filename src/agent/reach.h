/* A connection to a relay: dialled straight, or through an HTTP proxy that connects us. */
#ifndef AGENT_REACH_H
#define AGENT_REACH_H

#include "agent/client.h"
#include "pump/wrap.h"

struct reached {
  struct wire wire;                /* a socket among the client's descriptors, and the TLS to an https:// proxy */
  struct addr to;                  /* where it was dialled: the proxy's address if there is one */
};
void reached_close(struct adit_client *c, struct reached *r);

struct reach;
/* With a wire: connected, and the callee's. Else *e says why, with the code of a dial (agent/dial.h); through a proxy
   the text names it. It has ended then. Never called before reach_start has returned. */
typedef void reach_fn(void *user, const struct reached *r, const struct err *e);
/* What must be looked up first: the relay, or its proxy. */
const struct host_port *reach_host(const struct relay_choice *choice);
/* addrs: of reach_host. NULL: out of memory. */
struct reach *reach_start(struct adit_client *c, const struct relay_choice *choice, const struct addr *addrs, size_t n,
                          reach_fn *fn, void *user) MUST_USE;
void reach_stop(struct reach *r);  /* fn will not be called; NULL is fine */
/* What is told when a proxy has not connected us in time. */
void reach_explain_silence(const struct relay_choice *choice, struct err *e);

#endif
