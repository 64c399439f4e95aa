/* Numbers that are used once. */
#include "cm.h"

#include "base/window.h"

static void a_number_is_taken_once(void **state) {
  (void)state;
  struct window w = {0};
  static const uint64_t order[] = {1, 2, 0, 700, 3, 1023, 699};
  for (size_t i = 0; i < ARRAY_LEN(order); i++) assert_true(window_take(&w, order[i]));
  for (size_t i = 0; i < ARRAY_LEN(order); i++) assert_false(window_take(&w, order[i]));
  assert_true(window_take(&w, 4));
}

static void what_lies_too_far_back_counts_as_used(void **state) {
  (void)state;
  struct window w = {0};
  const uint64_t high = 5000000000;
  assert_true(window_take(&w, high));
  assert_true(window_take(&w, high + 1 - WINDOW_NUMBERS));
  assert_false(window_take(&w, high - WINDOW_NUMBERS));
  assert_false(window_take(&w, 0));
  window_give_back(&w, high - WINDOW_NUMBERS);
  assert_false(window_take(&w, high - WINDOW_NUMBERS));
  assert_true(window_take(&w, high + 1));
  assert_false(window_take(&w, high + 1 - WINDOW_NUMBERS));      /* its place is another's now */
}

static void no_number_passed_over_counts_as_used_for_its_places_former_owner(void **state) {
  (void)state;
  struct window w = {0};
  for (uint64_t n = 0; n < WINDOW_NUMBERS; n++) assert_true(window_take(&w, n));
  assert_true(window_take(&w, WINDOW_NUMBERS + 100));
  for (uint64_t n = WINDOW_NUMBERS; n < WINDOW_NUMBERS + 100; n++) assert_true(window_take(&w, n));
  for (uint64_t n = 101; n <= WINDOW_NUMBERS + 100; n++) assert_false(window_take(&w, n));
  assert_true(window_take(&w, 4 * WINDOW_NUMBERS));
  for (uint64_t n = 3 * WINDOW_NUMBERS + 1; n < 4 * WINDOW_NUMBERS; n++) assert_true(window_take(&w, n));
}

static void what_was_given_back_can_be_taken_again(void **state) {
  (void)state;
  struct window w = {0};
  assert_true(window_take(&w, 7));
  assert_true(window_take(&w, 8));
  window_give_back(&w, 7);
  window_give_back(&w, 9);         /* was never taken */
  assert_true(window_take(&w, 7));
  assert_false(window_take(&w, 7));
  assert_false(window_take(&w, 8));
  assert_true(window_take(&w, 9));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_number_is_taken_once), cmocka_unit_test(what_lies_too_far_back_counts_as_used),
      cmocka_unit_test(no_number_passed_over_counts_as_used_for_its_places_former_owner),
      cmocka_unit_test(what_was_given_back_can_be_taken_again)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
