/* What is said now and then. */
#include "cm.h"

#include <pthread.h>

#include "base/seldom.h"

static void it_is_said_at_once_and_then_once_in_a_while(void **state) {
  (void)state;
  struct seldom s = {0};
  uint64_t left_out = 99;
  assert_true(seldom_due(&s, 5000, 1000, &left_out));
  assert_int_equal(left_out, 0);
  for (int i = 0; i < 7; i++) assert_false(seldom_due(&s, 5999, 1000, &left_out));
  assert_true(seldom_due(&s, 6000, 1000, &left_out));
  assert_int_equal(left_out, 7);
  assert_true(seldom_due(&s, 60000, 1000, &left_out));
  assert_int_equal(left_out, 0);
}

static void it_is_said_at_once_when_the_clock_has_just_begun(void **state) {
  (void)state;
  struct seldom s = {0};
  uint64_t left_out;
  assert_true(seldom_due(&s, 0, 1000, &left_out));
  assert_false(seldom_due(&s, 999, 1000, &left_out));
}

enum { THREADS = 4, TIMES = 20000 };
static struct seldom shared;

static void *ask(void *said) {
  for (uint64_t now_ms = 0; now_ms < TIMES; now_ms++) {
    uint64_t left_out;
    if (seldom_due(&shared, now_ms, 10, &left_out)) *(uint64_t *)said += 1 + left_out;
  }
  return NULL;
}

static void of_several_threads_one_speaks_and_nothing_is_lost_from_the_count(void **state) {
  (void)state;
  pthread_t threads[THREADS];
  uint64_t said[THREADS] = {0}, sum = 0, left_out;
  for (size_t i = 0; i < THREADS; i++) assert_int_equal(pthread_create(&threads[i], NULL, ask, &said[i]), 0);
  for (size_t i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  for (size_t i = 0; i < THREADS; i++) sum += said[i];
  assert_true(seldom_due(&shared, 2 * TIMES, 10, &left_out));
  assert_int_equal(sum + left_out, THREADS * TIMES);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(it_is_said_at_once_and_then_once_in_a_while),
      cmocka_unit_test(it_is_said_at_once_when_the_clock_has_just_begun),
      cmocka_unit_test(of_several_threads_one_speaks_and_nothing_is_lost_from_the_count)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
