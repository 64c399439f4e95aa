/* Shares of the relay's descriptors, and the limits that a token carries. */
#include "cm.h"

#include "base/limits.h"
#include "relay/shares.h"

enum { TOTAL = 1000, MS = 1000 };

static const struct token_limits none;

static unsigned fill(struct shares *s, struct account *a, const struct token_limits *limits) {
  unsigned n = 0;
  while (share_take_visitor(s, a, limits, 0) == NOTICE_NONE) n++;
  return n;
}

static void an_owner_alone_leaves_something_for_the_next(void **state) {
  struct shares s = {.total = TOTAL};
  struct account first = {0}, second = {0}, third = {0};
  (void)state;
  unsigned usable = TOTAL - TOTAL / SHARE_RESERVE_PART;
  assert_int_equal(fill(&s, &first, &none), usable * SHARE_OF_FREE / (SHARE_OF_FREE + 1) / 2);
  assert_true(fill(&s, &second, &none) > usable / 16);
  assert_true(fill(&s, &third, &none) > 0);
  assert_true(s.used <= usable);
}

static void whoever_has_more_than_his_share_waits_until_he_has_less(void **state) {
  struct shares s = {.total = TOTAL};
  struct account hog = {0}, other = {0}, next = {0};
  (void)state;
  unsigned had = fill(&s, &hog, &none);
  (void)fill(&s, &other, &none);
  (void)fill(&s, &next, &none);
  share_give_visitor(&s, &hog);
  share_give_visitor(&s, &hog);
  assert_int_equal(share_take_visitor(&s, &hog, &none, 0), NOTICE_SHARE);    /* what he gives up is the others' first */
  share_give_visitor(&s, &next);
  assert_int_equal(share_take_visitor(&s, &next, &none, 0), NOTICE_NONE);
  for (unsigned i = 2; i < had; i++) share_give_visitor(&s, &hog);
  assert_int_equal(share_take_visitor(&s, &hog, &none, 0), NOTICE_NONE);
}

static void visitors_leave_a_reserve_to_links_and_data_connections(void **state) {
  struct shares s = {.total = TOTAL};
  struct account many[64] = {{0}}, fresh = {0};
  (void)state;
  for (size_t i = 0; i < ARRAY_LEN(many); i++) (void)fill(&s, &many[i], &none);
  assert_int_equal(share_take_visitor(&s, &fresh, &none, 0), NOTICE_SHARE);
  assert_true(share_take(&s, &fresh, 1));
  assert_true(share_take(&s, &many[0], 1) || many[0].descriptors > SHARE_OF_FREE * (TOTAL - s.used));
}

static void nothing_is_counted_of_what_is_refused(void **state) {
  struct shares s = {.total = 0};
  struct account a = {0};
  (void)state;
  assert_int_equal(share_take_visitor(&s, &a, &none, 0), NOTICE_SHARE);
  assert_false(share_take(&s, &a, 1));
  assert_int_equal(s.used, 0);
  assert_int_equal(a.descriptors, 0);
  assert_int_equal(a.visitors, 0);
}

static void a_token_may_have_so_many_streams(void **state) {
  struct shares s = {.total = TOTAL};
  struct account a = {0};
  const struct token_limits five = {.max_streams = 5};
  (void)state;
  assert_int_equal(fill(&s, &a, &five), 5);
  assert_int_equal(share_take_visitor(&s, &a, &five, 0), NOTICE_STREAMS);
  share_give_visitor(&s, &a);
  assert_int_equal(share_take_visitor(&s, &a, &five, 0), NOTICE_NONE);
}

/* As many as it says in the first second, then evenly; what was not used comes back for a second and no longer. */
static void a_token_may_have_so_many_visitors_in_a_second(void **state) {
  struct shares s = {.total = 1000 * TOTAL};
  struct account a = {0};
  const struct token_limits ten = {.max_visitors_per_s = 10};
  (void)state;
  assert_int_equal(fill(&s, &a, &ten), 10);
  assert_int_equal(share_take_visitor(&s, &a, &ten, 99 * MS), NOTICE_VISITORS);
  assert_int_equal(share_take_visitor(&s, &a, &ten, 100 * MS), NOTICE_NONE);
  assert_int_equal(share_take_visitor(&s, &a, &ten, 100 * MS), NOTICE_VISITORS);
  unsigned n = 0;
  while (share_take_visitor(&s, &a, &ten, (uint64_t)3600 * 1000 * MS) == NOTICE_NONE) n++;
  assert_int_equal(n, 10);
}

static void one_visitor_a_second_is_one_and_a_thousand_are_a_thousand(void **state) {
  struct shares s = {.total = 1000 * TOTAL};
  struct account slow = {0}, fast = {0};
  const struct token_limits one = {.max_visitors_per_s = 1}, most = {.max_visitors_per_s = 1000000};
  (void)state;
  assert_int_equal(fill(&s, &slow, &one), 1);
  assert_int_equal(share_take_visitor(&s, &slow, &one, 999 * MS), NOTICE_VISITORS);
  assert_int_equal(share_take_visitor(&s, &slow, &one, 1000 * MS), NOTICE_NONE);
  for (int i = 0; i < 1000; i++) assert_int_equal(share_take_visitor(&s, &fast, &most, 0), NOTICE_NONE);
}

static void the_parts_of_a_division_are_no_more_than_the_whole(void **state) {
  static const unsigned workers[] = {1, 2, 64, 256};
  (void)state;
  for (uint64_t all = 64; all <= (uint64_t)1 << 30; all *= 3) {
    for (size_t i = 0; i < ARRAY_LEN(workers); i++) {
      struct division d = shares_divide(all, workers[i]);
      uint64_t others = workers[i] * (d.strangers + 2 * (uint64_t)d.pipes + d.lingers);
      assert_true(d.owners == SHARES_MIN || d.owners + others <= all);
      assert_true(d.strangers >= STRANGERS_PER_WORKER_MIN);
      assert_true(all < 4096 || workers[i] > 2 || d.owners >= all / 3);
    }
  }
  assert_int_equal(shares_divide(0, 1).owners, SHARES_MIN);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(an_owner_alone_leaves_something_for_the_next),
      cmocka_unit_test(whoever_has_more_than_his_share_waits_until_he_has_less),
      cmocka_unit_test(visitors_leave_a_reserve_to_links_and_data_connections),
      cmocka_unit_test(nothing_is_counted_of_what_is_refused),
      cmocka_unit_test(a_token_may_have_so_many_streams),
      cmocka_unit_test(a_token_may_have_so_many_visitors_in_a_second),
      cmocka_unit_test(one_visitor_a_second_is_one_and_a_thousand_are_a_thousand),
      cmocka_unit_test(the_parts_of_a_division_are_no_more_than_the_whole)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
