/* Who is served next. */
#include "cm.h"

#include "base/base.h"
#include "relay/lines.h"

static const uint8_t alice[TOKEN_ID_BYTES] = {1}, bob[TOKEN_ID_BYTES] = {2}, carol[TOKEN_ID_BYTES] = {3};

static void owners_are_served_in_turn_and_each_in_order(void **unused) {
  (void)unused;
  struct lines *s = lines_new();
  struct in_line a[3], b[2], c;
  assert_false(lines_wait(s));
  assert_null(lines_next(s));
  for (int i = 0; i < 3; i++) lines_join(s, alice, &a[i]);
  for (int i = 0; i < 2; i++) lines_join(s, bob, &b[i]);
  assert_true(lines_wait(s));
  assert_ptr_equal(lines_next(s), &a[0]);
  lines_join(s, carol, &c);
  assert_ptr_equal(lines_next(s), &b[0]);
  assert_ptr_equal(lines_next(s), &a[1]);
  assert_ptr_equal(lines_next(s), &c);
  assert_ptr_equal(lines_next(s), &b[1]);
  lines_join(s, bob, &b[0]);                   /* he comes again, and so behind her */
  assert_ptr_equal(lines_next(s), &a[2]);
  assert_ptr_equal(lines_next(s), &b[0]);
  assert_null(lines_next(s));
  lines_free(s);
}

static void whoever_leaves_is_not_served(void **unused) {
  (void)unused;
  struct lines *s = lines_new();
  struct in_line a[3], b, never = {.line = NULL};
  for (int i = 0; i < 3; i++) lines_join(s, alice, &a[i]);
  lines_join(s, bob, &b);
  assert_false(lines_leave(s, &never));
  assert_true(lines_leave(s, &a[0]));
  assert_false(lines_leave(s, &a[0]));
  assert_true(lines_leave(s, &b));
  assert_ptr_equal(lines_next(s), &a[1]);
  assert_false(lines_leave(s, &a[1]));
  assert_true(lines_leave(s, &a[2]));
  assert_false(lines_wait(s));
  lines_join(s, alice, &a[0]);
  lines_free(s);                               /* with somebody still in line */
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(owners_are_served_in_turn_and_each_in_order),
                                     cmocka_unit_test(whoever_leaves_is_not_served)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
