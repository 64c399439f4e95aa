/* A byte rate that several share, by a clock that the test turns. */
#include <pthread.h>
#include <string.h>

#include "base/limits.h"
#include "cm.h"
#include "pump/rate.h"

enum { MB_PER_S = 1000000, BURST_BYTES = MB_PER_S * RATE_BURST_MS / 1000, STEP_BYTES = MB_PER_S * RATE_STEP_MS / 1000 };
static const uint64_t start_ms = 123456789;

static void a_burst_may_be_read_at_once_and_then_the_rate_holds(void **state) {
  (void)state;
  struct rate r = rate_within(MB_PER_S, NULL);
  for (int i = 0; i < BURST_BYTES / STEP_BYTES; i++) assert_int_equal(rate_reserve(&r, start_ms, STEP_BYTES), start_ms);
  for (uint64_t i = 1; i <= 1000; i++)
    assert_int_equal(rate_reserve(&r, start_ms, STEP_BYTES), start_ms + i * RATE_STEP_MS);
}

static void what_is_not_used_is_kept_for_a_burst_and_no_longer(void **state) {
  (void)state;
  struct rate r = rate_within(MB_PER_S, NULL);
  for (uint64_t now = start_ms; now < start_ms + 3; now++) {
    uint64_t later = start_ms + (now - start_ms) * 3600 * 1000;
    for (int i = 0; i < BURST_BYTES / STEP_BYTES; i++) assert_int_equal(rate_reserve(&r, later, STEP_BYTES), later);
    assert_true(rate_reserve(&r, later, 1) > later);
  }
}

static void a_wait_is_no_longer_than_the_bytes_need(void **state) {
  (void)state;
  struct rate slow = rate_within(1, NULL);
  for (int i = 0; i < RATE_BURST_MIN_BYTES / RATE_STEP_MIN_BYTES; i++)
    assert_int_equal(rate_reserve(&slow, start_ms, RATE_STEP_MIN_BYTES), start_ms);
  uint64_t at_ms = rate_reserve(&slow, start_ms, 1);
  assert_true(at_ms > start_ms && at_ms <= start_ms + 1000);
  assert_int_equal(rate_reserve(&slow, start_ms, 5), at_ms + 5000);
}

static void what_a_rate_within_another_moves_counts_for_both(void **state) {
  (void)state;
  struct rate outer = rate_within(MB_PER_S, NULL), tight = rate_within(MB_PER_S / 2, &outer),
              loose = rate_within(100 * MB_PER_S, &outer);
  size_t step = rate_step_bytes(&tight);
  assert_int_equal(step, STEP_BYTES / 2);
  assert_int_equal(rate_step_bytes(&loose), STEP_BYTES);   /* no more at a time than the tightest gives */
  for (int i = 0; i < BURST_BYTES / STEP_BYTES; i++) assert_int_equal(rate_reserve(&tight, start_ms, step), start_ms);
  /* its own row is full, the outer one not */
  assert_int_equal(rate_reserve(&tight, start_ms, step), start_ms + RATE_STEP_MS);
  for (int i = 1; i < BURST_BYTES / STEP_BYTES; i += 2)
    assert_int_equal(rate_reserve(&loose, start_ms, STEP_BYTES), start_ms);
  uint64_t at_ms = rate_reserve(&loose, start_ms, STEP_BYTES);   /* now the outer one, too */
  assert_true(at_ms > start_ms);
  rate_give_back(&loose, STEP_BYTES);
  assert_int_equal(rate_reserve(&loose, start_ms, STEP_BYTES), at_ms);
}

static uint32_t any(uint32_t *seed) { return (*seed = *seed * 1664525 + 1013904223) >> 8; }

/* Whatever is reserved and given back, and when: from any moment on no more is read than a burst and what the rate
   brings. */
static void no_more_is_read_than_burst_and_rate(void **state) {
  (void)state;
  enum { READERS = 20, TURNS = 20000 };
  struct rate r = rate_within(MB_PER_S, NULL);
  struct { size_t n; uint64_t at_ms; } waiting[READERS] = {0};
  uint64_t now = start_ms, read = 0, least_ahead = UINT64_MAX;
  uint32_t seed = 1;
  for (int turn = 0; turn < TURNS; turn++) {
    now += any(&seed) % 5 == 0 ? any(&seed) % 40 : 0;
    size_t i = any(&seed) % READERS;
    if (waiting[i].n == 0) {
      waiting[i].n = 1 + any(&seed) % STEP_BYTES;
      waiting[i].at_ms = rate_reserve(&r, now, waiting[i].n);
    } else if (any(&seed) % 10 == 0) {
      rate_give_back(&r, waiting[i].n);
      waiting[i].n = 0;
    }
    for (size_t k = 0; k < READERS; k++) {
      if (waiting[k].n == 0 || waiting[k].at_ms > now) continue;
      read += waiting[k].n;
      waiting[k].n = 0;
    }
    /* Read so far against what the rate has brought: it never rises by more than a burst above where it ever was. */
    uint64_t ahead = read + (uint64_t)1 * MB_PER_S * 1000 - (now - start_ms) * MB_PER_S / 1000;
    if (ahead < least_ahead) least_ahead = ahead;
    assert_true(ahead - least_ahead <= BURST_BYTES + STEP_BYTES);
  }
  assert_true(read > (now - start_ms) * MB_PER_S / 1000 / 2);
}

static void whoever_always_wants_more_has_no_more_turns_than_others(void **state) {
  (void)state;
  enum { READERS = 50 };
  struct rate r = rate_within(MB_PER_S, NULL);
  uint64_t at_ms[READERS], turns[READERS] = {0};
  for (int i = 0; i < READERS; i++) at_ms[i] = rate_reserve(&r, start_ms, STEP_BYTES);
  for (uint64_t now = start_ms; now < start_ms + 60 * 1000; now++) {
    for (int i = 0; i < READERS; i++) {          /* the first is always looked at first, and the last last */
      while (at_ms[i] <= now) {
        turns[i]++;
        at_ms[i] = rate_reserve(&r, now, STEP_BYTES);
      }
    }
  }
  for (int i = 1; i < READERS; i++) assert_true(turns[i] + BURST_BYTES / STEP_BYTES + 1 >= turns[0]);
  assert_true(turns[READERS - 1] >= 60 * 1000 / RATE_STEP_MS / READERS);
}

static void those_who_leave_the_row_delay_nobody_who_comes_later(void **state) {
  (void)state;
  struct rate r = rate_within(MB_PER_S, NULL);
  while (rate_reserve(&r, start_ms, STEP_BYTES) == start_ms) {}
  for (int i = 0; i < 100000; i++) {
    (void)rate_reserve(&r, start_ms, STEP_BYTES);
    rate_give_back(&r, STEP_BYTES);
  }
  assert_int_equal(rate_reserve(&r, start_ms, STEP_BYTES), start_ms + 2 * RATE_STEP_MS);
}

static void a_clock_that_is_behind_anothers_only_waits(void **state) {
  (void)state;
  struct rate r = rate_within(MB_PER_S, NULL);
  while (rate_reserve(&r, start_ms, STEP_BYTES) == start_ms) {}
  assert_int_equal(rate_reserve(&r, start_ms - 40, STEP_BYTES), start_ms + 2 * RATE_STEP_MS);
  assert_int_equal(rate_reserve(&r, 0, STEP_BYTES), start_ms + 3 * RATE_STEP_MS);
}

static void steps_and_times_are_sound_at_any_rate(void **state) {
  (void)state;
  static const uint64_t rates[] = {1, 999, 1000, 54321, 10000000, 1000000000, 100000000000, UINT64_MAX};
  const uint64_t years_ms = 5ULL * 365 * 24 * 3600 * 1000;
  for (size_t i = 0; i < ARRAY_LEN(rates); i++) {
    struct rate r = rate_within(rates[i], NULL);
    size_t step = rate_step_bytes(&r);
    assert_true(step >= RATE_STEP_MIN_BYTES && step <= RATE_STEP_MAX_BYTES);
    uint64_t at_ms = years_ms, last_ms = years_ms;
    for (int n = 0; n < 100000 && at_ms == years_ms; n++) at_ms = rate_reserve(&r, years_ms, step);
    assert_true(at_ms > years_ms &&
                at_ms - years_ms <= step * 1000 / (rates[i] < 100000000000 ? rates[i] : 100000000000) + 1);
    for (int n = 0; n < 100; n++, last_ms = at_ms) {
      at_ms = rate_reserve(&r, years_ms, step);
      assert_true(at_ms >= last_ms);
    }
  }
}

enum { THREADS = 4, STEPS_EACH = 20000 };

static void *reserve_and_give_back(void *rate) {
  for (int i = 0; i < STEPS_EACH; i++) {
    (void)rate_reserve(rate, start_ms, STEP_BYTES);
    (void)rate_reserve(rate, start_ms, 100);
    rate_give_back(rate, 100);
  }
  return NULL;
}

static void threads_lose_nothing_of_each_others(void **state) {
  (void)state;
  struct rate r = rate_within(MB_PER_S, NULL);
  pthread_t threads[THREADS];
  for (int i = 0; i < THREADS; i++) assert_int_equal(pthread_create(&threads[i], NULL, reserve_and_give_back, &r), 0);
  for (int i = 0; i < THREADS; i++) assert_int_equal(pthread_join(threads[i], NULL), 0);
  uint64_t waits = (uint64_t)THREADS * STEPS_EACH + 1 - BURST_BYTES / STEP_BYTES;
  assert_int_equal(rate_reserve(&r, start_ms, STEP_BYTES), start_ms + waits * RATE_STEP_MS);
}

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(a_burst_may_be_read_at_once_and_then_the_rate_holds),
    cmocka_unit_test(what_is_not_used_is_kept_for_a_burst_and_no_longer),
    cmocka_unit_test(a_wait_is_no_longer_than_the_bytes_need),
    cmocka_unit_test(what_a_rate_within_another_moves_counts_for_both),
    cmocka_unit_test(no_more_is_read_than_burst_and_rate),
    cmocka_unit_test(whoever_always_wants_more_has_no_more_turns_than_others),
    cmocka_unit_test(those_who_leave_the_row_delay_nobody_who_comes_later),
    cmocka_unit_test(a_clock_that_is_behind_anothers_only_waits),
    cmocka_unit_test(steps_and_times_are_sound_at_any_rate),
    cmocka_unit_test(threads_lose_nothing_of_each_others),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
