/* How many records without data a peer may send. */
#include "cm.h"

#include "base/limits.h"
#include "tls/idle_records.h"

static void as_many_as_the_limit_pass_in_a_second_and_as_many_in_the_next(void **state) {
  (void)state;
  struct idle_records r = {0};
  for (uint64_t now_ms = 5000; now_ms <= 7000; now_ms += 1000) {
    for (int i = 0; i < IDLE_RECORDS_PER_S_MAX; i++) assert_false(idle_records_flood(&r, now_ms + (uint64_t)i % 1000));
  }
}

static void one_more_is_a_flood(void **state) {
  (void)state;
  struct idle_records r = {0};
  for (int i = 0; i < IDLE_RECORDS_PER_S_MAX; i++) assert_false(idle_records_flood(&r, 5000));
  assert_true(idle_records_flood(&r, 5999));
  assert_false(idle_records_flood(&r, 6000));
}

static void data_earns_some(void **state) {
  (void)state;
  struct idle_records r = {0};
  for (int i = 0; i < IDLE_RECORDS_PER_S_MAX; i++) assert_false(idle_records_flood(&r, 5000));
  r.data += 2 * DATA_RECORDS_PER_IDLE;
  assert_false(idle_records_flood(&r, 5000));
  assert_false(idle_records_flood(&r, 5000));
  assert_true(idle_records_flood(&r, 5000));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(as_many_as_the_limit_pass_in_a_second_and_as_many_in_the_next),
      cmocka_unit_test(one_more_is_a_flood),
      cmocka_unit_test(data_earns_some),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
