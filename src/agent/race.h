/* A fresh agent tries all its relays at once and keeps the first that completes its handshake, which is the nearest. */
#ifndef AGENT_RACE_H
#define AGENT_RACE_H

#include "agent/client.h"
#include "agent/reach.h"

/* The race has ended and is gone when one of these is called, never before race_start has returned. */
struct race_handlers {
  /* Takes what was reached, and tls. */
  void (*won)(struct adit_client *c, struct relay_choice *choice, const struct reached *reached, struct tls_conn *tls);
  void (*lost)(struct adit_client *c, const struct err *e);
};
/* Tries every choice that is eligible and untried. NULL: there is none, or no memory. */
struct race *race_start(struct adit_client *c, const struct race_handlers *handlers) MUST_USE;
void race_stop(struct race *r);    /* NULL is fine */

#endif
