/* Calls that pause amid what they do. */
#include "cm.h"

#include <string.h>

#include "base/fibre.h"
#include "base/limits.h"

static struct fibres *all;

static int set_up(void **state) {
  (void)state;
  all = fibres_new();
  return all == NULL ? -1 : 0;
}

static int tear_down(void **state) {
  (void)state;
  fibres_free(all);
  return 0;
}

struct counter { int to, at, woken; bool cancelled; };

/* The pause is some calls deep, and what is on the stack stays. */
static int count_below(struct counter *c, int depth) {
  volatile char kept[128];
  for (size_t i = 0; i < sizeof kept; i++) kept[i] = (char)(depth + 1);
  if (depth > 0) return kept[7] == depth + 1 ? count_below(c, depth - 1) + kept[9] - depth : -100;
  while (c->at < c->to) {
    c->at++;
    if (!fibre_pause()) {
      c->cancelled = true;
      return 1;
    }
  }
  return 1;
}

static void count(void *arg) {
  assert_non_null(fibre_current());
  assert_int_equal(count_below(arg, 5), 6);
}

static void wake(void *arg) { ((struct counter *)arg)->woken++; }

static void one_that_does_not_pause_is_a_call(void **state) {
  struct counter c = {.to = 0};
  struct fibre *f;
  (void)state;
  assert_int_equal(fibre_start(all, count, wake, &c, &f), 0);
  assert_null(f);
  assert_null(fibre_current());
}

static void many_pause_and_go_on_in_any_order(void **state) {
  enum { MANY = FIBRES_KEPT_MAX + 5 };
  struct counter counters[MANY] = {{.to = 0}};
  struct fibre *fibres[MANY];
  (void)state;
  for (int round = 0; round < 3; round++) {
    for (int i = 0; i < MANY; i++) {
      counters[i] = (struct counter){.to = 1 + i % 3};
      assert_int_equal(fibre_start(all, count, wake, &counters[i], &fibres[i]), 0);
      assert_non_null(fibres[i]);
      assert_null(fibre_current());
    }
    for (int left = MANY, i = 0; left > 0; i = (i + 7) % MANY) {
      if (fibres[i] == NULL) continue;
      fibres[i] = fibre_resume(fibres[i]);
      if (fibres[i] == NULL) left--;
    }
    for (int i = 0; i < MANY; i++) assert_int_equal(counters[i].at, counters[i].to);
  }
}

static void one_that_is_cancelled_learns_of_it_where_it_paused(void **state) {
  struct counter c = {.to = 3};
  struct fibre *f;
  (void)state;
  assert_int_equal(fibre_start(all, count, wake, &c, &f), 0);
  f = fibre_resume(f);
  assert_non_null(f);
  fibre_cancel(f);
  assert_true(c.cancelled);
  assert_int_equal(c.at, 2);
}

static void whoever_has_started_it_is_told_when_it_may_go_on(void **state) {
  struct counter c = {.to = 1};
  struct fibre *f;
  (void)state;
  assert_int_equal(fibre_start(all, count, wake, &c, &f), 0);
  fibre_wake(f);
  assert_int_equal(c.woken, 1);
  assert_null(fibre_resume(f));
}

#ifndef SANITIZED                  /* a sanitizer keeps such variables elsewhere */
static uintptr_t secret;

static void hold_secret(void *arg) {
  volatile uint8_t here[64];
  for (size_t i = 0; i < sizeof here; i++) here[i] = 0x5a;
  secret = (uintptr_t)here;
  if (arg != NULL) assert_true(fibre_pause());
}

static void what_stood_on_its_stack_is_wiped(void **state) {
  struct fibre *f;
  unsigned found = 0;
  (void)state;
  assert_int_equal(fibre_start(all, hold_secret, wake, all, &f), 0);
  const volatile uint8_t *at = (const volatile uint8_t *)secret;
  for (size_t i = 0; i < 64; i++) found += at[i] == 0x5a;
  assert_int_equal(found, 64);     /* it is looked at where it is */
  assert_null(fibre_resume(f));
  for (size_t i = 0; i < 64; i++) assert_int_equal(at[i], 0);
}
#endif

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(one_that_does_not_pause_is_a_call, set_up, tear_down),
      cmocka_unit_test_setup_teardown(many_pause_and_go_on_in_any_order, set_up, tear_down),
      cmocka_unit_test_setup_teardown(one_that_is_cancelled_learns_of_it_where_it_paused, set_up, tear_down),
      cmocka_unit_test_setup_teardown(whoever_has_started_it_is_told_when_it_may_go_on, set_up, tear_down),
#ifndef SANITIZED
      cmocka_unit_test_setup_teardown(what_stood_on_its_stack_is_wiped, set_up, tear_down),
#endif
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
