/* Who waits for something that is given one at a time: a line for each owner, and the lines are served in turn, so that
   the length of one is nobody else's wait. Not thread-safe. */
#ifndef RELAY_LINES_H
#define RELAY_LINES_H

#include "base/list.h"
#include "wire/token.h"

struct lines;
struct in_line {                   /* embedded in whoever waits; all fields private */
  struct list node;
  struct line *line;               /* NULL: he does not wait */
};

struct lines *lines_new(void) MUST_USE;          /* NULL when out of memory */
void lines_free(struct lines *s);                /* those who wait are their owners' */
/* At the end of his owner's line. Never fails: what a new line takes may be missing, then he shares one with all
   such. */
void lines_join(struct lines *s, const uint8_t owner[TOKEN_ID_BYTES], struct in_line *who);
bool lines_leave(struct lines *s, struct in_line *who);   /* whether he still waited */
bool lines_wait(const struct lines *s);          /* whether anybody does */
struct in_line *lines_next(struct lines *s);     /* whose turn it is, no longer in line; NULL: nobody waits */

#endif
