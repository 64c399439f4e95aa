/* Shares of the relay's descriptors, and the limits that a token carries. */
#include "cm.h"

#include "base/limits.h"
#include "relay/shares.h"

enum { TOTAL = 1000, MS = 1000 };

static unsigned fill(struct shares *s, struct account *a) {
  unsigned n = 0;
  while (share_take_visitor(s, a, 0) == NOTICE_NONE) n++;
  return n;
}

static void an_owner_alone_leaves_something_for_the_next(void **state) {
  struct shares s = {.total = TOTAL};
  struct account first = {0}, second = {0}, third = {0};
  (void)state;
  unsigned usable = TOTAL - TOTAL / SHARE_RESERVE_PART;
  assert_int_equal(fill(&s, &first), usable * SHARE_OF_FREE / (SHARE_OF_FREE + 1) / 2);
  assert_true(fill(&s, &second) > usable / 16);
  assert_true(fill(&s, &third) > 0);
  assert_true(s.used <= usable);
}

static void whoever_has_more_than_his_share_waits_until_he_has_less(void **state) {
  struct shares s = {.total = TOTAL};
  struct account hog = {0}, other = {0}, next = {0};
  (void)state;
  unsigned had = fill(&s, &hog);
  (void)fill(&s, &other);
  (void)fill(&s, &next);
  share_give_visitor(&s, &hog);
  share_give_visitor(&s, &hog);
  assert_int_equal(share_take_visitor(&s, &hog, 0), NOTICE_SHARE);    /* what he gives up is the others' first */
  share_give_visitor(&s, &next);
  assert_int_equal(share_take_visitor(&s, &next, 0), NOTICE_NONE);
  for (unsigned i = 2; i < had; i++) share_give_visitor(&s, &hog);
  assert_int_equal(share_take_visitor(&s, &hog, 0), NOTICE_NONE);
}

static void visitors_leave_a_reserve_to_links_and_data_connections(void **state) {
  struct shares s = {.total = TOTAL};
  struct account many[64] = {{0}}, fresh = {0};
  (void)state;
  for (size_t i = 0; i < ARRAY_LEN(many); i++) (void)fill(&s, &many[i]);
  assert_int_equal(share_take_visitor(&s, &fresh, 0), NOTICE_SHARE);
  assert_true(share_take(&s, &fresh, 1));
  assert_true(share_take(&s, &many[0], 1) || many[0].descriptors > SHARE_OF_FREE * (TOTAL - s.used));
}

static void nothing_is_counted_of_what_is_refused(void **state) {
  struct shares s = {.total = 0};
  struct account a = {0};
  (void)state;
  assert_int_equal(share_take_visitor(&s, &a, 0), NOTICE_SHARE);
  assert_false(share_take(&s, &a, 1));
  assert_int_equal(s.used, 0);
  assert_int_equal(a.descriptors, 0);
  assert_int_equal(a.visitors, 0);
}

static void a_token_may_have_so_many_streams(void **state) {
  struct shares s = {.total = TOTAL};
  struct account a = {.limits = {.max_streams = 5}};
  (void)state;
  assert_int_equal(fill(&s, &a), 5);
  assert_int_equal(share_take_visitor(&s, &a, 0), NOTICE_STREAMS);
  share_give_visitor(&s, &a);
  assert_int_equal(share_take_visitor(&s, &a, 0), NOTICE_NONE);
}

/* As many as it says in the first second, then evenly; what was not used comes back for a second and no longer. */
static void a_token_may_have_so_many_visitors_in_a_second(void **state) {
  struct shares s = {.total = 1000 * TOTAL};
  struct account a = {.limits = {.max_visitors_per_s = 10}};
  (void)state;
  assert_int_equal(fill(&s, &a), 10);
  assert_int_equal(share_take_visitor(&s, &a, 99 * MS), NOTICE_VISITORS);
  assert_int_equal(share_take_visitor(&s, &a, 100 * MS), NOTICE_NONE);
  assert_int_equal(share_take_visitor(&s, &a, 100 * MS), NOTICE_VISITORS);
  unsigned n = 0;
  while (share_take_visitor(&s, &a, (uint64_t)3600 * 1000 * MS) == NOTICE_NONE) n++;
  assert_int_equal(n, 10);
}

static void one_visitor_a_second_is_one_and_a_thousand_are_a_thousand(void **state) {
  struct shares s = {.total = 1000 * TOTAL};
  struct account slow = {.limits = {.max_visitors_per_s = 1}}, fast = {.limits = {.max_visitors_per_s = 1000000}};
  (void)state;
  assert_int_equal(fill(&s, &slow), 1);
  assert_int_equal(share_take_visitor(&s, &slow, 999 * MS), NOTICE_VISITORS);
  assert_int_equal(share_take_visitor(&s, &slow, 1000 * MS), NOTICE_NONE);
  for (int i = 0; i < 1000; i++) assert_int_equal(share_take_visitor(&s, &fast, 0), NOTICE_NONE);
}

/* What was narrowed from one token counts for that, too, whose descriptors they are; and for no sister. */
static void a_narrowed_tokens_visitors_count_for_the_whole_chain(void **state) {
  struct shares s = {.total = TOTAL};
  struct account root = {.limits = {.max_streams = 6}}, child = {.parent = &root, .limits = {.max_streams = 4}};
  struct account grandchild = {.parent = &child}, sister = {.parent = &root, .limits = {.max_streams = 5}};
  (void)state;
  assert_int_equal(fill(&s, &grandchild), 4);
  assert_int_equal(fill(&s, &child), 0);
  assert_int_equal(fill(&s, &sister), 2);
  assert_int_equal(fill(&s, &root), 0);
  assert_int_equal(root.descriptors, 6 * 2);
  assert_int_equal(child.descriptors + grandchild.descriptors + sister.descriptors, 0);
  assert_int_equal(root.visitors, 6);
  assert_int_equal(child.visitors, 4);
  assert_int_equal(sister.visitors, 2);
  share_give_visitor(&s, &sister);
  assert_int_equal(fill(&s, &grandchild), 0);
  assert_int_equal(fill(&s, &sister), 1);
  for (int i = 0; i < 4; i++) share_give_visitor(&s, &grandchild);
  for (int i = 0; i < 2; i++) share_give_visitor(&s, &sister);
  assert_int_equal(s.used + root.descriptors + root.visitors + child.visitors + grandchild.visitors + sister.visitors,
                   0);
}

static void a_share_is_a_familys_however_many_tokens_it_narrows(void **state) {
  struct shares s = {.total = TOTAL}, alone = {.total = TOTAL};
  struct account root = {0}, children[8] = {{0}}, single = {0}, next = {0};
  unsigned n = 0;
  (void)state;
  for (size_t i = 0; i < ARRAY_LEN(children); i++) {
    children[i].parent = &root;
    n += fill(&s, &children[i]);
  }
  assert_int_equal(n, fill(&alone, &single));
  assert_true(fill(&s, &next) > 0);
  assert_false(share_take(&s, &children[0], TOTAL));
}

/* A token that asks for more than its own takes nothing from its sisters, and who is refused for a sister's sake loses
   nothing. */
static void visitors_in_a_second_are_used_up_by_those_who_come_in_only(void **state) {
  struct shares s = {.total = 1000 * TOTAL};
  struct account root = {.limits = {.max_visitors_per_s = 10}},
                 greedy = {.parent = &root, .limits = {.max_visitors_per_s = 4}};
  struct account sister = {.parent = &root, .limits = {.max_visitors_per_s = 8}};
  (void)state;
  assert_int_equal(fill(&s, &greedy), 4);
  for (int i = 0; i < 100; i++) assert_int_equal(share_take_visitor(&s, &greedy, 0), NOTICE_VISITORS);
  assert_int_equal(fill(&s, &sister), 6);
  for (int i = 0; i < 100; i++) assert_int_equal(share_take_visitor(&s, &sister, 0), NOTICE_VISITORS);
  assert_int_equal(sister.visitors_until_us, 6 * 125 * MS);
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
      cmocka_unit_test(a_narrowed_tokens_visitors_count_for_the_whole_chain),
      cmocka_unit_test(a_share_is_a_familys_however_many_tokens_it_narrows),
      cmocka_unit_test(visitors_in_a_second_are_used_up_by_those_who_come_in_only),
      cmocka_unit_test(the_parts_of_a_division_are_no_more_than_the_whole)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
