/* The loop's own: a binary heap of timers, the earliest first. A timer knows its place, so that removing it costs a
   logarithm. */
#ifndef LOOP_TIMERS_H
#define LOOP_TIMERS_H

#include "loop/loop.h"

struct timers {
  struct loop_timer **heap;
  size_t count, cap;
};

int timers_add(struct timers *ts, struct loop_timer *t) MUST_USE; /* by t->at_ms; ERR_NOMEM */
void timers_remove(struct timers *ts, struct loop_timer *t);
struct loop_timer *timers_first(const struct timers *ts);         /* NULL when there is none */
void timers_free(struct timers *ts);

#endif
