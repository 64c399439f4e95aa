/* Warm data connections: dialled ahead of need, each waiting for the OPEN that turns it into a stream. They live and
   die with their link. */
#ifndef AGENT_WARM_H
#define AGENT_WARM_H

#include "agent/link.h"

void warm_dial(struct link *l, size_t n);        /* n more, as far as WARM_MAX allows */
void warm_wanted(struct link *l, size_t n);      /* the relay asks for n more */
void warm_proven(struct link *l);               /* the relay has seen the first */
void warm_lost(struct link *l, uint32_t visitors); /* the relay has lost some on the way to us */
void warm_watch(struct link *l);                 /* tells the user when none gets through */
void warm_stop(struct link *l);                  /* the link has ended */

#endif
