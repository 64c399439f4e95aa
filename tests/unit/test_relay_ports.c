/* Raw ports: who gets which, and when one is free again. */
#include "cm.h"

#include "relay/ports.h"

enum { FROM = 20000, TO = 20009, RANGE = TO - FROM + 1, NOW = 1000000 };
static const uint8_t alice[TOKEN_ID_BYTES] = {1}, bob[TOKEN_ID_BYTES] = {2};
static const char label_a[] = "aaaaaaaaaaaaaaaaaaaaaaaa", label_b[] = "bbbbbbbbbbbbbbbbbbbbbbbb";

/* xorshift: any sequence will do. */
static void fake_random(void *user, void *p, size_t n) {
  uint32_t *state = user;
  uint8_t *out = p;
  for (size_t i = 0; i < n; i++) {
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    out[i] = (uint8_t)(*state >> 11);
  }
}
static uint32_t random_state = 2463534242u;

static struct ports *make(void) {
  struct ports *p = ports_new(FROM, TO, fake_random, &random_state);
  assert_non_null(p);
  return p;
}

/* How many somebody would get at that time. */
static size_t free_at(struct ports *p, int64_t now_s) {
  static const uint8_t carol[TOKEN_ID_BYTES] = {3};
  uint16_t port[RANGE];
  size_t n = 0;
  while (n < RANGE && ports_take(p, carol, label_a, now_s, &port[n]) == 0) n++;
  for (size_t i = 0; i < n; i++) ports_forget(p, port[i]);
  return n;
}

static void every_port_of_the_range_is_taken_once_then_it_is_full(void **unused) {
  (void)unused;
  struct ports *p = make();
  bool seen[RANGE] = {false};
  uint16_t port = 0;
  for (int i = 0; i < RANGE; i++) {
    assert_int_equal(ports_take(p, alice, label_a, NOW, &port), 0);
    assert_in_range(port, FROM, TO);
    assert_false(seen[port - FROM]);
    seen[port - FROM] = true;
  }
  assert_int_equal(ports_take(p, alice, label_a, NOW, &port), ERR_LIMIT);
  ports_free(p);
}

static void the_order_is_not_that_of_the_numbers(void **unused) {
  (void)unused;
  struct ports *p = ports_new(20000, 29999, fake_random, &random_state);
  assert_non_null(p);
  uint16_t before = 0, port;
  int ascending = 0;
  for (int i = 0; i < 1000; i++) {
    assert_int_equal(ports_take(p, alice, label_a, NOW, &port), 0);
    ascending += port > before;
    before = port;
  }
  assert_in_range(ascending, 400, 600);
  ports_free(p);
}

static void a_range_of_one_port_and_the_largest_one_work(void **unused) {
  (void)unused;
  uint16_t port = 0;
  struct ports *p = ports_new(65535, 65535, fake_random, &random_state);
  assert_non_null(p);
  assert_int_equal(ports_take(p, alice, label_a, NOW, &port), 0);
  assert_int_equal(port, 65535);
  assert_int_equal(ports_take(p, alice, label_a, NOW, &port), ERR_LIMIT);
  ports_free(p);
  p = ports_new(RAW_PORT_MIN, 65535, fake_random, &random_state);
  assert_non_null(p);
  for (int i = RAW_PORT_MIN; i <= 65535; i++)
    assert_int_equal(ports_take(p, alice, label_a, NOW, &port), 0);
  assert_int_equal(ports_take(p, alice, label_a, NOW, &port), ERR_LIMIT);
  ports_free(p);
}

static void a_released_port_goes_to_nobody_before_its_quarantine_ends(void **unused) {
  (void)unused;
  struct ports *p = make();
  uint16_t port, last = 0;
  for (int i = 0; i < RANGE; i++)
    assert_int_equal(ports_take(p, alice, label_a, NOW, &last), 0);
  ports_release(p, last, NOW);
  assert_int_equal(ports_take(p, bob, label_b, NOW + PORT_QUARANTINE_S - 1, &port), ERR_LIMIT);
  assert_int_equal(ports_take(p, bob, label_b, NOW + PORT_QUARANTINE_S, &port), 0);
  assert_int_equal(port, last);
  ports_free(p);
}

static void a_released_port_goes_back_to_its_owner_and_label_only(void **unused) {
  (void)unused;
  struct ports *p = make();
  uint16_t port;
  assert_int_equal(ports_take(p, alice, label_a, NOW, &port), 0);
  ports_release(p, port, NOW);
  assert_int_equal(ports_take_back(p, port, bob, label_a, NOW + 1), ERR_CONFLICT);
  assert_int_equal(ports_take_back(p, port, alice, label_b, NOW + 1), ERR_CONFLICT);
  assert_int_equal(ports_take_back(p, port, alice, label_a, NOW + 1), 0);
  assert_int_equal(ports_take_back(p, port, alice, label_a, NOW + 1), ERR_CONFLICT);
  ports_free(p);
}

/* Opens and closes, again and again: all that it ever keeps from others is its own few. */
static void who_opens_and_closes_is_given_its_own_ports_again(void **unused) {
  (void)unused;
  enum { OWN = 3 };
  struct ports *p = make();
  uint16_t port, first = 0, last = 0, other;
  for (int i = 0; i < 1000; i++) {
    int rc = ports_take_own(p, alice, label_a, OWN, NOW + i, &port);
    assert_int_equal(rc, i <= OWN ? ERR_NOT_NOW : 0);
    if (rc != 0) assert_int_equal(ports_take(p, alice, label_a, NOW + i, &port), 0);
    if (i == 0) first = port;
    if (i == OWN + 1) assert_int_equal(port, first);
    assert_int_equal(ports_take_own(p, bob, label_b, OWN, NOW + i, &other), ERR_NOT_NOW);
    ports_release(p, port, NOW + i);
    assert_true(free_at(p, NOW + i) >= RANGE - OWN - 1);
    last = port;
  }
  assert_int_equal(free_at(p, NOW + 999), RANGE - OWN - 1);
  assert_int_equal(ports_take_back(p, last, alice, label_a, NOW + 1000), 0);
  assert_int_equal(ports_take_own(p, alice, label_a, OWN, NOW + 1000, &port), ERR_NOT_NOW);
  assert_int_equal(ports_take_own(p, alice, label_a, OWN - 1, NOW + 1000, &port), 0);
  /* What has left quarantine by itself is nobody's. */
  assert_int_equal(ports_take_own(p, alice, label_a, 0, NOW + 1000 + PORT_QUARANTINE_S, &port), ERR_NOT_NOW);
  assert_int_equal(free_at(p, NOW + 1000 + PORT_QUARANTINE_S), RANGE - 2);
  ports_free(p);
}

static void ports_that_a_restart_left_count_for_their_owner(void **unused) {
  (void)unused;
  struct ports *p = make();
  uint16_t port;
  ports_restore(p, FROM, alice, label_a, 0);
  ports_restore(p, FROM + 1, alice, label_a, NOW + 10);
  ports_restore(p, FROM + 2, bob, label_b, 0);
  assert_int_equal(ports_take_own(p, alice, label_b, 2, NOW, &port), ERR_NOT_NOW);
  assert_int_equal(ports_take_own(p, alice, label_b, 1, NOW, &port), 0);
  assert_int_equal(port, FROM + 1);
  assert_int_equal(ports_take_own(p, alice, label_b, 0, NOW, &port), 0);
  assert_int_equal(port, FROM);
  ports_free(p);
}

static void a_free_port_may_be_taken_back_by_anyone(void **unused) {
  (void)unused;
  struct ports *p = make();
  assert_int_equal(ports_take_back(p, FROM + 3, bob, label_b, NOW), 0);
  assert_int_equal(free_at(p, NOW), RANGE - 1);
  ports_release(p, FROM + 3, NOW);
  assert_int_equal(ports_take_back(p, FROM + 3, alice, label_a, NOW + PORT_QUARANTINE_S), 0);
  ports_free(p);
}

static void a_port_outside_the_range_is_refused(void **unused) {
  (void)unused;
  struct ports *p = make();
  assert_int_equal(ports_take_back(p, FROM - 1, alice, label_a, NOW), ERR_USAGE);
  assert_int_equal(ports_take_back(p, TO + 1, alice, label_a, NOW), ERR_USAGE);
  ports_restore(p, TO + 1, alice, label_a, 0);
  ports_release(p, TO + 1, NOW);
  ports_exclude(p, TO + 1, NOW);
  ports_forget(p, TO + 1);
  assert_int_equal(free_at(p, NOW), RANGE);
  ports_free(p);
}

static void a_lease_held_before_a_restart_waits_for_its_owner(void **unused) {
  (void)unused;
  struct ports *p = make();
  uint16_t port;
  ports_restore(p, FROM, alice, label_a, 0);
  for (int i = 1; i < RANGE; i++)
    assert_int_equal(ports_take(p, bob, label_b, NOW, &port), 0);
  assert_int_equal(ports_take(p, bob, label_b, NOW, &port), ERR_LIMIT);
  assert_int_equal(ports_take_back(p, FROM, bob, label_b, NOW), ERR_CONFLICT);
  assert_int_equal(ports_take_back(p, FROM, alice, label_a, NOW + 3), 0);
  ports_free(p);
}

static void a_lease_held_before_a_restart_becomes_free_when_its_owner_stays_away(void **unused) {
  (void)unused;
  struct ports *p = make();
  uint16_t port;
  ports_restore(p, FROM, alice, label_a, 0);
  for (int i = 1; i < RANGE; i++)
    assert_int_equal(ports_take(p, bob, label_b, NOW, &port), 0);
  assert_int_equal(ports_take(p, bob, label_b, NOW + PORT_QUARANTINE_S - 1, &port), ERR_LIMIT);
  assert_int_equal(ports_take(p, bob, label_b, NOW + PORT_QUARANTINE_S, &port), 0);
  assert_int_equal(port, FROM);
  ports_free(p);
}

static void restored_quarantines_end_each_at_its_time_in_whatever_order_they_came(void **unused) {
  (void)unused;
  struct ports *p = make();
  for (uint16_t i = 0; i < RANGE; i++)
    ports_restore(p, (uint16_t)(FROM + i), alice, label_a, NOW + (i * 7) % RANGE + 1);
  uint16_t port;
  for (int i = 0; i < RANGE; i++) {
    assert_int_equal(ports_take(p, bob, label_b, NOW + i, &port), ERR_LIMIT);
    assert_int_equal(ports_take(p, bob, label_b, NOW + i + 1, &port), 0);
    assert_int_equal((port - FROM) * 7 % RANGE, i);
  }
  ports_free(p);
}

static void a_restored_quarantine_that_is_over_leaves_the_port_free(void **unused) {
  (void)unused;
  struct ports *p = make();
  ports_restore(p, FROM, alice, label_a, NOW - 1);
  assert_int_equal(ports_take_back(p, FROM, bob, label_b, NOW), 0);
  ports_free(p);
}

static void a_clock_that_steps_back_keeps_the_order_of_quarantines(void **unused) {
  (void)unused;
  struct ports *p = make();
  uint16_t port;
  for (int i = 0; i < RANGE; i++)
    assert_int_equal(ports_take(p, alice, label_a, NOW, &port), 0);
  ports_release(p, FROM, NOW + 100);
  ports_release(p, FROM + 1, NOW);             /* the clock was set back */
  assert_int_equal(ports_take(p, bob, label_b, NOW + PORT_QUARANTINE_S, &port), 0);
  assert_int_equal(port, FROM + 1);
  assert_int_equal(ports_take(p, bob, label_b, NOW + PORT_QUARANTINE_S, &port), ERR_LIMIT);
  assert_int_equal(ports_take(p, bob, label_b, NOW + 100 + PORT_QUARANTINE_S, &port), 0);
  assert_int_equal(port, FROM);
  ports_free(p);
}

static void an_excluded_port_is_offered_again_after_a_while_only(void **unused) {
  (void)unused;
  struct ports *p = make();
  uint16_t port;
  ports_exclude(p, FROM, NOW);
  assert_int_equal(ports_take(p, alice, label_a, NOW, &port), 0);
  assert_int_not_equal(port, FROM);
  ports_exclude(p, port, NOW + 1);             /* held: its bind failed */
  ports_exclude(p, port, NOW + 1);
  ports_release(p, port, NOW);
  for (int i = 2; i < RANGE; i++)
    assert_int_equal(ports_take(p, alice, label_a, NOW, &port), 0);
  assert_int_equal(ports_take(p, alice, label_a, NOW + PORT_EXCLUDED_S - 1, &port), ERR_LIMIT);
  assert_int_equal(ports_take_back(p, FROM, alice, label_a, NOW), ERR_CONFLICT);
  ports_restore(p, FROM, alice, label_a, 1);
  assert_int_equal(ports_take(p, alice, label_a, NOW, &port), ERR_LIMIT);
  assert_int_equal(ports_take_back(p, FROM, alice, label_a, NOW + PORT_EXCLUDED_S), 0);
  assert_int_equal(ports_take(p, alice, label_a, NOW + PORT_EXCLUDED_S, &port), ERR_LIMIT);
  assert_int_equal(ports_take(p, alice, label_a, NOW + PORT_EXCLUDED_S + 1, &port), 0);
  ports_free(p);
}

static void a_port_that_nobody_was_told_of_is_free_at_once(void **unused) {
  (void)unused;
  struct ports *p = make();
  assert_int_equal(ports_take_back(p, FROM, alice, label_a, NOW), 0);
  ports_forget(p, FROM);
  assert_int_equal(ports_take_back(p, FROM, bob, label_b, NOW), 0);
  ports_release(p, FROM, NOW);
  ports_forget(p, FROM);                       /* not held: void */
  assert_int_equal(ports_take_back(p, FROM, alice, label_a, NOW), ERR_CONFLICT);
  ports_free(p);
}

static void releasing_twice_is_as_good_as_once(void **unused) {
  (void)unused;
  struct ports *p = make();
  uint16_t port;
  assert_int_equal(ports_take(p, alice, label_a, NOW, &port), 0);
  ports_release(p, port, NOW);
  ports_release(p, port, NOW + 10);
  assert_int_equal(ports_take_back(p, port, bob, label_b, NOW + PORT_QUARANTINE_S), 0);
  ports_free(p);
}

static void no_quarantine_on_disk_is_longer_than_any_that_is_given(void **state) {
  (void)state;
  assert_int_equal(ports_quarantine_left(NOW, NOW), 0);
  assert_int_equal(ports_quarantine_left(NOW - 1, NOW), 0);
  assert_int_equal(ports_quarantine_left(NOW + 1, NOW), 1);
  assert_int_equal(ports_quarantine_left(NOW + PORT_QUARANTINE_S, NOW), PORT_QUARANTINE_S);
  assert_int_equal(ports_quarantine_left(NOW + 20 * 365 * 24 * (int64_t)3600, NOW), PORT_QUARANTINE_S);
}

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(no_quarantine_on_disk_is_longer_than_any_that_is_given),
    cmocka_unit_test(every_port_of_the_range_is_taken_once_then_it_is_full),
    cmocka_unit_test(the_order_is_not_that_of_the_numbers),
    cmocka_unit_test(a_range_of_one_port_and_the_largest_one_work),
    cmocka_unit_test(a_released_port_goes_to_nobody_before_its_quarantine_ends),
    cmocka_unit_test(a_released_port_goes_back_to_its_owner_and_label_only),
    cmocka_unit_test(who_opens_and_closes_is_given_its_own_ports_again),
    cmocka_unit_test(ports_that_a_restart_left_count_for_their_owner),
    cmocka_unit_test(a_free_port_may_be_taken_back_by_anyone),
    cmocka_unit_test(a_port_outside_the_range_is_refused),
    cmocka_unit_test(a_lease_held_before_a_restart_waits_for_its_owner),
    cmocka_unit_test(a_lease_held_before_a_restart_becomes_free_when_its_owner_stays_away),
    cmocka_unit_test(restored_quarantines_end_each_at_its_time_in_whatever_order_they_came),
    cmocka_unit_test(a_restored_quarantine_that_is_over_leaves_the_port_free),
    cmocka_unit_test(a_clock_that_steps_back_keeps_the_order_of_quarantines),
    cmocka_unit_test(an_excluded_port_is_offered_again_after_a_while_only),
    cmocka_unit_test(a_port_that_nobody_was_told_of_is_free_at_once),
    cmocka_unit_test(releasing_twice_is_as_good_as_once),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
