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

/* To another program and back. Those that stand, one after the other: ERR_CLOSED, there is none. */
enum { WARM_EXPORT_MAX_BYTES = 1 << 18, WARM_FACTS_BYTES = 128 + ERR_TEXT_MAX };
bool warm_are_coming(const struct link *l);      /* some do not stand yet */
int warm_pack(struct link *l, struct buf *state, int *fd) MUST_USE;
/* On failure nothing was taken. */
int warm_unpack(struct link *l, const uint8_t *state, size_t n, int fd) MUST_USE;
/* What a link knows of them; those that do not stand are dialled again. */
void warm_facts_write(struct link *l, struct writer *w);
void warm_facts_read(struct link *l, struct reader *r);
int warm_go_on(struct link *l) MUST_USE;        /* what is waited for, once all facts are there */

#endif
