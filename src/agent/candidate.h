/* One relay being tried: its name looked up, connected to, and the TLS handshake up to the point where our Finished is
   written but not sent. So a candidate that loses the race has not been authenticated to. */
#ifndef AGENT_CANDIDATE_H
#define AGENT_CANDIDATE_H

#include "agent/client.h"
#include "agent/reach.h"

struct candidate;
/* *e NULL: the handshake is complete; take what is in it with candidate_take or free it. */
typedef void candidate_fn(void *user, struct candidate *k, const struct err *e);
struct candidate *candidate_start(struct adit_client *c, struct relay_choice *choice, candidate_fn *fn,
                                  void *user) MUST_USE;
void candidate_free(struct candidate *k); /* closes what it has; memory lives to the end of the turn; NULL is fine */
struct relay_choice *candidate_choice(const struct candidate *k);
void candidate_take(struct candidate *k, struct reached *reached, struct tls_conn **tls);

#endif
