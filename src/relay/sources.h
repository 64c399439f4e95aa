/* How many unfinished handshakes each source has, for the whole relay: connections of one source come in at all
   workers. Thread-safe. */
#ifndef RELAY_SOURCES_H
#define RELAY_SOURCES_H

#include "base/addr.h"

struct sources;
struct sources *sources_new(void) MUST_USE;      /* NULL when out of memory */
void sources_free(struct sources *s);            /* NULL is fine */
/* ERR_LIMIT when the source has HANDSHAKES_PER_SOURCE_MAX already, ERR_NOMEM. Each that succeeds is followed by one
   leave. */
int sources_enter(struct sources *s, const struct source_key *key) MUST_USE;
/* Whatever the cap: in the place of another of that source, which leaves right after, or as one of few at a worker.
   ERR_NOMEM. */
int sources_enter_over_cap(struct sources *s, const struct source_key *key) MUST_USE;
void sources_leave(struct sources *s, const struct source_key *key);

#endif
