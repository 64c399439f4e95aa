/* The heap of timers. Slot numbers in the timers are places plus one, so that a zeroed timer is one that is not set. */
#include "loop/timers.h"

#include <stdlib.h>

enum { HEAP_FIRST = 64 };

static void put(struct timers *ts, size_t at, struct loop_timer *t) {
  ts->heap[at] = t;
  t->slot = at + 1;
}

static void sift_up(struct timers *ts, size_t at, struct loop_timer *t) {
  for (; at > 0 && ts->heap[(at - 1) / 2]->at_ms > t->at_ms; at = (at - 1) / 2) put(ts, at, ts->heap[(at - 1) / 2]);
  put(ts, at, t);
}

static void sift_down(struct timers *ts, size_t at, struct loop_timer *t) {
  for (size_t child; (child = 2 * at + 1) < ts->count; at = child) {
    if (child + 1 < ts->count && ts->heap[child + 1]->at_ms < ts->heap[child]->at_ms) child++;
    if (ts->heap[child]->at_ms >= t->at_ms) break;
    put(ts, at, ts->heap[child]);
  }
  put(ts, at, t);
}

int timers_add(struct timers *ts, struct loop_timer *t) {
  if (ts->count == ts->cap) {
    size_t cap = size_max(ts->cap * 2, HEAP_FIRST);
    struct loop_timer **heap = realloc(ts->heap, cap * sizeof(struct loop_timer *));
    if (heap == NULL) return ERR_NOMEM;
    ts->heap = heap;
    ts->cap = cap;
  }
  sift_up(ts, ts->count++, t);
  return 0;
}

void timers_remove(struct timers *ts, struct loop_timer *t) {
  size_t at = t->slot - 1;
  ASSERT(at < ts->count && ts->heap[at] == t);
  struct loop_timer *last = ts->heap[--ts->count];
  t->slot = 0;
  if (last == t) return;
  if (at > 0 && ts->heap[(at - 1) / 2]->at_ms > last->at_ms) sift_up(ts, at, last);
  else sift_down(ts, at, last);
}

struct loop_timer *timers_first(const struct timers *ts) { return ts->count == 0 ? NULL : ts->heap[0]; }

void timers_free(struct timers *ts) {
  free(ts->heap);
  *ts = (struct timers){0};
}
