/* A list that is walked a few steps at a time while entries come and go: so whoever shares it under a lock can walk all
   of it without ever holding the lock for long. A walk meets every entry that is there from its beginning to its end,
   and each once. Not thread-safe by itself; entries are embedded in what they stand for. */
#ifndef BASE_ROSTER_H
#define BASE_ROSTER_H

#include "base/list.h"

struct roster { struct list entries; };
struct roster_entry { struct list node; bool is_mark; };       /* private */

void roster_init(struct roster *r);
void roster_add(struct roster *r, struct roster_entry *e);     /* walks that have begun do not meet it */
/* In the place of another: a walk that has met that one does not meet this one. */
void roster_replace(struct roster_entry *old, struct roster_entry *e);
void roster_remove(struct roster_entry *e);

struct roster_walk { struct roster_entry at, end; };           /* private */
void roster_walk_begin(struct roster *r, struct roster_walk *w);
/* One step, of fixed cost. False at the end. *e is NULL when the step has met nobody: another walk passes there. */
bool roster_walk_step(struct roster_walk *w, struct roster_entry **e);
void roster_walk_end(struct roster_walk *w);                   /* at any time, once */

#endif
