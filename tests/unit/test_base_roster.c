/* Walking a list that changes meanwhile. */
#include "cm.h"

#include <string.h>

#include "base/roster.h"

enum { PEOPLE = 10 };

struct person { struct roster_entry entry; int met; };

static struct roster roster;
static struct person people[PEOPLE];

static int set_up(void **state) {
  (void)state;
  memset(people, 0, sizeof people);
  roster_init(&roster);
  return 0;
}

static void come(int from, int to) {
  for (int i = from; i <= to; i++) roster_add(&roster, &people[i].entry);
}

/* At most so many steps; false when the walk has come to its end. */
static bool walk(struct roster_walk *w, int steps) {
  struct roster_entry *e;
  while (steps-- > 0) {
    if (!roster_walk_step(w, &e)) return false;
    if (e != NULL) CONTAINER_OF(e, struct person, entry)->met++;
  }
  return true;
}

static void assert_met(const int expected[PEOPLE]) {
  for (int i = 0; i < PEOPLE; i++) assert_int_equal(people[i].met, expected[i]);
}

static void everybody_is_met_once_in_the_order_of_coming(void **state) {
  (void)state;
  struct roster_walk w;
  come(0, 4);
  roster_walk_begin(&roster, &w);
  assert_true(walk(&w, 3));
  assert_met((const int[PEOPLE]){1, 1, 1});
  assert_true(walk(&w, 2));
  assert_false(walk(&w, 1));
  assert_false(walk(&w, 1));
  assert_met((const int[PEOPLE]){1, 1, 1, 1, 1});
  roster_walk_end(&w);
}

static void nobody_is_met_where_nobody_is(void **state) {
  (void)state;
  struct roster_walk w;
  roster_walk_begin(&roster, &w);
  assert_false(walk(&w, 1));
  roster_walk_end(&w);
  assert_true(list_empty(&roster.entries));
}

static void who_comes_and_who_goes_meanwhile_disturbs_no_walk(void **state) {
  (void)state;
  struct roster_walk w;
  come(0, 5);
  roster_walk_begin(&roster, &w);
  assert_true(walk(&w, 2));
  come(6, 7);
  roster_remove(&people[1].entry); /* met already, */
  roster_remove(&people[2].entry); /* the next, */
  roster_remove(&people[5].entry); /* and the last */
  assert_false(walk(&w, 100));
  assert_met((const int[PEOPLE]){1, 1, 0, 1, 1, 0, 0, 0});
  roster_walk_end(&w);
  roster_walk_begin(&roster, &w);
  assert_false(walk(&w, 100));
  assert_met((const int[PEOPLE]){2, 1, 0, 2, 2, 0, 1, 1});
  roster_walk_end(&w);
}

static void who_takes_a_place_is_met_unless_its_former_owner_was(void **state) {
  (void)state;
  struct roster_walk w;
  come(0, 3);
  roster_walk_begin(&roster, &w);
  assert_true(walk(&w, 2));
  roster_replace(&people[0].entry, &people[8].entry);
  roster_replace(&people[2].entry, &people[9].entry);
  assert_false(walk(&w, 100));
  assert_met((const int[PEOPLE]){1, 1, 0, 1, 0, 0, 0, 0, 0, 1});
  roster_walk_end(&w);
}

static void walks_do_not_disturb_each_other(void **state) {
  (void)state;
  struct roster_walk a, b, c;
  come(0, 3);
  roster_walk_begin(&roster, &a);
  assert_true(walk(&a, 2));
  roster_walk_begin(&roster, &b);
  come(4, 4);
  roster_walk_begin(&roster, &c);
  assert_false(walk(&a, 100));
  assert_met((const int[PEOPLE]){1, 1, 1, 1, 0});
  assert_true(walk(&b, 1));
  roster_walk_end(&a);
  assert_false(walk(&c, 100));
  assert_met((const int[PEOPLE]){3, 2, 2, 2, 1});
  assert_false(walk(&b, 100));
  assert_met((const int[PEOPLE]){3, 3, 3, 3, 1});
  roster_walk_end(&c);
  roster_walk_end(&b);
}

#define T(f) cmocka_unit_test_setup(f, set_up)
int main(void) {
  const struct CMUnitTest tests[] = {
      T(everybody_is_met_once_in_the_order_of_coming), T(nobody_is_met_where_nobody_is),
      T(who_comes_and_who_goes_meanwhile_disturbs_no_walk), T(who_takes_a_place_is_met_unless_its_former_owner_was),
      T(walks_do_not_disturb_each_other)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
