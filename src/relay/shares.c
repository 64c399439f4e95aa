/* Counting first and looking then: two that come at once may both be refused the last place, and never both get it. */
#include "relay/shares.h"

#include "base/limits.h"

enum { VISITOR_DESCRIPTORS = 2, US_PER_S = 1000000 };

static unsigned part_of(uint64_t most, uint64_t whole, unsigned part, unsigned workers, unsigned descriptors_each) {
  uint64_t n = (whole / part < most ? whole / part : most) / workers / descriptors_each;
  return n < UINT32_MAX ? (unsigned)n : UINT32_MAX;
}

struct division shares_divide(uint64_t descriptors, unsigned workers) {
  uint64_t admin = size_min(ADMIN_DESCRIPTORS, descriptors / SHARE_ADMIN_PART);
  struct division d = {
      .strangers = part_of(UINT64_MAX, descriptors, SHARE_STRANGERS_PART, workers, 1),
      .pipes = part_of(2 * PIPES_MAX, descriptors, SHARE_PUMP_PART, workers, 2),
      .lingers = part_of((uint64_t)LINGERS_PER_LOOP_MAX * workers, descriptors, SHARE_PUMP_PART, workers, 1)};
  if (d.strangers < STRANGERS_PER_WORKER_MIN) d.strangers = STRANGERS_PER_WORKER_MIN;
  uint64_t others = admin + (uint64_t)workers * (d.strangers + 2 * (uint64_t)d.pipes + d.lingers);
  d.owners = descriptors > others + SHARES_MIN ? descriptors - others : SHARES_MIN;
  return d;
}

static uint64_t add(uint64_t *n, uint64_t change) { return __atomic_add_fetch(n, change, __ATOMIC_RELAXED); }
static void take_back(uint64_t *n, uint64_t change) { (void)__atomic_sub_fetch(n, change, __ATOMIC_RELAXED); }

/* Whose the descriptors are. */
static struct account *payer(struct account *a) {
  while (a->parent != NULL) a = a->parent;
  return a;
}

static bool take(struct shares *s, struct account *a, unsigned descriptors, uint64_t reserve) {
  uint64_t used = add(&s->used, descriptors), own = add(&payer(a)->descriptors, descriptors);
  if (used + reserve <= s->total && own <= SHARE_OF_FREE * (s->total - reserve - used)) return true;
  share_give(s, a, descriptors);
  return false;
}

bool share_take(struct shares *s, struct account *a, unsigned descriptors) { return take(s, a, descriptors, 0); }

void share_give(struct shares *s, struct account *a, unsigned descriptors) {
  take_back(&s->used, descriptors);
  take_back(&payer(a)->descriptors, descriptors);
}

/* At every step from the token to the operator's: all or none. */

static bool take_stream(struct account *a) {
  if (a == NULL) return true;
  uint64_t visitors = add(&a->visitors, 1);
  if ((a->limits.max_streams == 0 || visitors <= a->limits.max_streams) && take_stream(a->parent)) return true;
  take_back(&a->visitors, 1);
  return false;
}

static void give_stream(struct account *a) {
  for (; a != NULL; a = a->parent) take_back(&a->visitors, 1);
}

/* So many in a second on average, and after a quiet second as many at once (the generic cell rate algorithm). */
static bool step_is_due(struct account *a, uint64_t each_us, uint64_t now_us) {
  uint64_t next_us, until_us = __atomic_load_n(&a->visitors_until_us, __ATOMIC_RELAXED);
  do {
    next_us = (until_us > now_us ? until_us : now_us) + each_us;
    if (next_us > now_us + size_max(US_PER_S, each_us)) return false;
  } while (!__atomic_compare_exchange_n(&a->visitors_until_us, &until_us, next_us, false, __ATOMIC_RELAXED,
                                        __ATOMIC_RELAXED));
  return true;
}

static bool visitor_is_due(struct account *a, uint64_t now_us) {
  if (a == NULL) return true;
  uint32_t per_s = a->limits.max_visitors_per_s;
  uint64_t each_us = per_s == 0 ? 0 : US_PER_S / per_s + (US_PER_S % per_s != 0);
  if (per_s != 0 && !step_is_due(a, each_us, now_us)) return false;
  if (visitor_is_due(a->parent, now_us)) return true;
  take_back(&a->visitors_until_us, each_us);
  return false;
}

/* The rate is asked last: whoever is refused for another reason has not used it. */
enum notice share_take_visitor(struct shares *s, struct account *a, uint64_t now_us) {
  if (!take_stream(a)) return NOTICE_STREAMS;
  if (!take(s, a, VISITOR_DESCRIPTORS, s->total / SHARE_RESERVE_PART)) {
    give_stream(a);
    return NOTICE_SHARE;
  }
  if (visitor_is_due(a, now_us)) return NOTICE_NONE;
  share_give_visitor(s, a);
  return NOTICE_VISITORS;
}

void share_count(struct shares *s, struct account *a, unsigned descriptors) {
  (void)add(&s->used, descriptors);
  (void)add(&payer(a)->descriptors, descriptors);
}

void share_count_visitor(struct shares *s, struct account *a) {
  share_count(s, a, VISITOR_DESCRIPTORS);
  for (; a != NULL; a = a->parent) (void)add(&a->visitors, 1);
}

void share_give_visitor(struct shares *s, struct account *a) {
  give_stream(a);
  share_give(s, a, VISITOR_DESCRIPTORS);
}
