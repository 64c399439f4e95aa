/* One compare-and-swap decides between threads that come at once, so that only one of them speaks. */
#include "base/seldom.h"

bool seldom_due(struct seldom *s, uint64_t now_ms, uint64_t every_ms, uint64_t *left_out) {
  uint64_t not_before_ms = __atomic_load_n(&s->not_before_ms, __ATOMIC_RELAXED);
  if (now_ms >= not_before_ms && __atomic_compare_exchange_n(&s->not_before_ms, &not_before_ms, now_ms + every_ms,
                                                             false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    *left_out = __atomic_exchange_n(&s->left_out, 0, __ATOMIC_RELAXED);
    return true;
  }
  (void)__atomic_fetch_add(&s->left_out, 1, __ATOMIC_RELAXED);
  return false;
}
