/* The chain of keys behind data connections: agent and relay agree, each number serves once, forgery costs little. */
#include "cm.h"

#include <string.h>

#include "base/err.h"
#include "wire/link_keys.h"

static const uint8_t exporter[32] = {1, 2, 3}, shared[32] = {4, 5, 6};

static void make_pair(struct link_keys **agent, struct link_keys **relay) {
  *agent = link_keys_new(exporter, shared);
  *relay = link_keys_new(exporter, shared);
  assert_non_null(*agent);
  assert_non_null(*relay);
}

static void free_pair(struct link_keys *agent, struct link_keys *relay) {
  link_keys_free(agent);
  link_keys_free(relay);
}

static void both_sides_derive_the_same_distinct_keys(void **state) {
  (void)state;
  struct link_keys *agent, *relay;
  make_pair(&agent, &relay);
  struct number_keys a, b, last = {{0}, {0}, {0}};
  for (uint64_t i = 0; i < 20; i++) {
    uint64_t number;
    assert_int_equal(link_keys_next(agent, &number, &a), 0);
    assert_int_equal(number, i);
    assert_int_equal(link_keys_peek(relay, number, 0, &b), 0);
    assert_memory_equal(&a, &b, sizeof a);
    assert_memory_not_equal(a.preface, a.open, 32);
    assert_memory_not_equal(a.open, a.accept, 32);
    assert_memory_not_equal(&a, &last, sizeof a);
    last = a;
    link_keys_claim(relay, number, 0);
  }
  free_pair(agent, relay);
}

static void other_exporter_or_share_gives_other_keys(void **state) {
  (void)state;
  uint8_t id[LINK_ID_BYTES], other_id[LINK_ID_BYTES];
  struct number_keys a, b;
  uint64_t number;
  struct link_keys *x = link_keys_new(exporter, shared), *y = link_keys_new(shared, shared),
                   *z = link_keys_new(exporter, exporter);
  assert_int_equal(link_keys_next(x, &number, &a), 0);
  assert_int_equal(link_keys_next(y, &number, &b), 0);
  assert_memory_not_equal(&a, &b, sizeof a);
  assert_int_equal(link_keys_next(z, &number, &b), 0);
  assert_memory_not_equal(&a, &b, sizeof a);
  assert_int_equal(link_id_derive(exporter, id), 0);
  assert_int_equal(link_id_derive(shared, other_id), 0);
  assert_memory_not_equal(id, other_id, sizeof id);
  link_keys_free(x);
  link_keys_free(y);
  link_keys_free(z);
  link_keys_free(NULL);
}

static void peek_consumes_nothing_and_claim_serves_once(void **state) {
  (void)state;
  struct link_keys *k = link_keys_new(exporter, shared);
  struct number_keys a, b;
  assert_int_equal(link_keys_peek(k, 3, 0, &a), 0);
  assert_int_equal(link_keys_peek(k, 3, 0, &b), 0);
  assert_memory_equal(&a, &b, sizeof a);
  link_keys_claim(k, 3, 0);
  assert_int_equal(link_keys_peek(k, 3, 0, &b), ERR_CONFLICT);
  link_keys_claim(k, 3, 0); /* again: nothing happens */
  assert_int_equal(link_keys_peek(k, 2, 0, &b), 0);
  link_keys_claim(k, 2, 0);
  assert_int_equal(link_keys_peek(k, 2, 0, &b), ERR_CONFLICT);
  assert_int_equal(link_keys_peek(k, 4, 0, &b), 0);
  link_keys_free(k);
}

static void numbers_beyond_the_window_are_refused(void **state) {
  (void)state;
  struct link_keys *k = link_keys_new(exporter, shared);
  struct number_keys a;
  assert_int_equal(link_keys_peek(k, DATA_NUMBER_WINDOW, 0, &a), ERR_LIMIT);
  assert_int_equal(link_keys_peek(k, UINT64_MAX, 0, &a), ERR_LIMIT);
  assert_int_equal(link_keys_peek(k, DATA_NUMBER_WINDOW - 1, 0, &a), 0);
  assert_int_equal(link_keys_peek(k, DATA_NUMBER_WINDOW, 0, &a), ERR_LIMIT);
  link_keys_claim(k, 0, 0);
  assert_int_equal(link_keys_peek(k, DATA_NUMBER_WINDOW, 0, &a), 0);
  link_keys_free(k);
}

static void forged_numbers_do_not_take_the_genuine_ones_away(void **state) {
  (void)state;
  struct link_keys *agent, *relay;
  make_pair(&agent, &relay);
  struct number_keys a, b;
  uint64_t number;
  for (int i = 0; i < 3; i++) assert_int_equal(link_keys_peek(relay, DATA_NUMBER_WINDOW - 1, 0, &b), 0);
  uint64_t long_after = 10 * (uint64_t)DATA_SKIPPED_KEY_LIFE_MS;
  link_keys_expire(relay, long_after);
  for (int i = 0; i < 4; i++) {
    assert_int_equal(link_keys_next(agent, &number, &a), 0);
    assert_int_equal(link_keys_peek(relay, number, long_after, &b), 0);
    assert_memory_equal(&a, &b, sizeof a);
    link_keys_claim(relay, number, long_after);
  }
  free_pair(agent, relay);
}

static void skipped_keys_serve_late_and_expire(void **state) {
  (void)state;
  struct link_keys *k = link_keys_new(exporter, shared);
  struct number_keys a;
  assert_int_equal(link_keys_peek(k, 5, 1000, &a), 0);
  link_keys_claim(k, 5, 1000);
  uint64_t last = 1000 + DATA_SKIPPED_KEY_LIFE_MS;
  assert_int_equal(link_keys_peek(k, 1, last, &a), 0);
  assert_int_equal(link_keys_peek(k, 1, last + 1, &a), ERR_CONFLICT);
  link_keys_expire(k, last);
  assert_int_equal(link_keys_peek(k, 1, last, &a), 0);
  link_keys_expire(k, last + 1);
  assert_int_equal(link_keys_peek(k, 1, last, &a), ERR_CONFLICT);
  assert_int_equal(link_keys_peek(k, 6, last + 1, &a), 0);
  link_keys_free(k);
}

static void keys_that_fall_behind_the_window_are_dropped(void **state) {
  (void)state;
  struct link_keys *k = link_keys_new(exporter, shared);
  struct number_keys a;
  assert_int_equal(link_keys_peek(k, DATA_NUMBER_WINDOW - 1, 0, &a), 0);
  link_keys_claim(k, DATA_NUMBER_WINDOW - 1, 0);
  assert_int_equal(link_keys_peek(k, 0, 0, &a), 0);
  assert_int_equal(link_keys_peek(k, DATA_NUMBER_WINDOW, 0, &a), 0);
  link_keys_claim(k, DATA_NUMBER_WINDOW, 0);
  assert_int_equal(link_keys_peek(k, 0, 0, &a), ERR_CONFLICT);
  assert_int_equal(link_keys_peek(k, 1, 0, &a), 0);
  link_keys_free(k);
}

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(both_sides_derive_the_same_distinct_keys),
    cmocka_unit_test(other_exporter_or_share_gives_other_keys),
    cmocka_unit_test(peek_consumes_nothing_and_claim_serves_once),
    cmocka_unit_test(numbers_beyond_the_window_are_refused),
    cmocka_unit_test(forged_numbers_do_not_take_the_genuine_ones_away),
    cmocka_unit_test(skipped_keys_serve_late_and_expire),
    cmocka_unit_test(keys_that_fall_behind_the_window_are_dropped),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
