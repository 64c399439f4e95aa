/* A fresh agent tries all its relays at once and keeps the first that completes its handshake, which is the nearest. */
#ifndef AGENT_RACE_H
#define AGENT_RACE_H

#include "agent/client.h"

/* Tries every choice that is eligible and untried. Reports by client_race_won or client_race_lost, never before it
   returns. NULL: there is none, or no memory. */
struct race *race_start(struct adit_client *c) MUST_USE;
void race_stop(struct race *r);    /* NULL is fine */

#endif
