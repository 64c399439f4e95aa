/* A TLS handshake as a client, up to the point where our Finished is written but not sent: whoever goes on decides with
   what it leaves, or that it never does. */
#ifndef AGENT_GREETING_H
#define AGENT_GREETING_H

#include "agent/client.h"

struct greeting;
/* tls: the handshake is done, and tls is the callee's; NULL: *e says why not. It has ended then. Never called before
   greeting_start has returned. */
typedef void greeting_fn(void *user, struct tls_conn *tls, const struct err *e);
/* Takes tls, also on failure; the wire stays the caller's, who leaves it alone meanwhile. NULL: *e. */
struct greeting *greeting_start(struct adit_client *c, struct wire wire, struct tls_conn *tls, greeting_fn *fn,
                                void *user, struct err *e) MUST_USE;
void greeting_stop(struct greeting *g);   /* fn will not be called; NULL is fine */

#endif
