/* Which narrowed tokens are revoked by whom, and who may fill how much of the table. */
#include <string.h>

#include "cm.h"
#include "relay/revocations.h"

enum { NOW = 1700000000 };
static struct revocations *s;

static int set_up(void **state) {
  (void)state;
  s = revocations_new();
  return s != NULL ? 0 : -1;
}

static int tear_down(void **state) {
  (void)state;
  revocations_free(s);
  return 0;
}

/* By a root, or a token narrowed from it, of a certificate of that number. */
static struct revocation made(uint8_t root, uint8_t revoker, uint32_t number) {
  struct revocation r = {.root = {root}, .revoker = {revoker}, .id = {0xff}, .expires_s = NOW + 10};
  memcpy(r.id + 1, &number, sizeof number);
  return r;
}

static bool put(struct revocation r) {
  if (!revocations_have_room(s, &r)) return false;
  assert_int_equal(revocations_put(s, &r), 0);
  return true;
}

static bool has(const struct revocation *r) { return revocations_find(s, r->revoker, r->id) != NULL; }

static void it_holds_for_the_revokers_own_alone(void **state) {
  (void)state;
  struct revocation r = made(1, 1, 7), other = made(2, 2, 7);
  assert_true(put(r));
  assert_true(has(&r));
  assert_false(has(&other));
  revocations_remove(s, &other);
  assert_true(has(&r));
  revocations_remove(s, &r);
  assert_false(has(&r));
  assert_int_equal(revocations_count(s), 0);
}

static void a_second_one_takes_the_place_of_the_first(void **state) {
  (void)state;
  struct revocation r = made(1, 1, 7);
  assert_true(put(r));
  r.expires_s = 0;
  assert_true(put(r));
  assert_int_equal(revocations_count(s), 1);
  assert_int_equal(revocations_find(s, r.revoker, r.id)->expires_s, 0);
}

static unsigned fill(uint8_t root, uint8_t revoker) {
  unsigned n = 0;
  while (put(made(root, revoker, n))) n++;
  return n;
}

static void each_root_has_its_share_and_those_narrowed_from_it_a_part_of_that(void **state) {
  (void)state;
  assert_int_equal(fill(1, 10), NARROWED_REVOKED_PER_NARROWED_MAX);
  unsigned n = NARROWED_REVOKED_PER_NARROWED_MAX;
  for (uint8_t narrowed = 11; n < NARROWED_REVOKED_BY_NARROWED_MAX; narrowed++) n += fill(1, narrowed);
  assert_int_equal(n, NARROWED_REVOKED_BY_NARROWED_MAX);
  assert_int_equal(fill(1, 30), 0);
  assert_int_equal(fill(1, 1), NARROWED_REVOKED_PER_TOKEN_MAX - NARROWED_REVOKED_BY_NARROWED_MAX);
  assert_true(put(made(1, 1, 0)));           /* which is there already */
  assert_int_equal(fill(2, 2), NARROWED_REVOKED_PER_TOKEN_MAX);
  revocations_remove(s, &(struct revocation){.root = {1}, .revoker = {1}, .id = {0xff}});
  assert_true(put(made(1, 1, 9999)));
  assert_false(put(made(1, 1, 10000)));
}

static void who_is_revoked_by_his_root_gives_back_what_he_has_filled(void **state) {
  (void)state;
  struct revocation narrowed = {.root = {1}, .revoker = {1}, .id = {10}};
  struct revocation stranger = {.root = {2}, .revoker = {2}, .id = {10}};
  struct revocation aunt = {.root = {1}, .revoker = {11}, .id = {10}};
  (void)fill(1, 10);
  revocations_remove_below(s, &stranger);
  revocations_remove_below(s, &aunt);
  assert_int_equal(revocations_count(s), NARROWED_REVOKED_PER_NARROWED_MAX);
  assert_true(put(narrowed));
  revocations_remove_below(s, &narrowed);
  assert_int_equal(revocations_count(s), 1);
  assert_true(has(&narrowed));
}

static void what_was_no_good_any_more_goes_a_few_at_a_time(void **state) {
  (void)state;
  for (uint32_t i = 0; i < 100; i++) {
    struct revocation r = made(1, 1, i);
    r.expires_s = i % 2 == 0 ? NOW + i : 0;
    assert_true(put(r));
  }
  revocations_expire(s, NOW - 1, 1000);
  assert_int_equal(revocations_count(s), 100);
  revocations_expire(s, NOW + 50, 10);
  assert_int_equal(revocations_count(s), 95);
  for (int i = 0; i < 10; i++) revocations_expire(s, NOW + 50, 10);
  assert_int_equal(revocations_count(s), 100 - 26);
  revocations_expire(s, INT64_MAX, 1000);
  assert_int_equal(revocations_count(s), 50);        /* what never expires */
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
int main(void) {
  const struct CMUnitTest tests[] = {
      T(it_holds_for_the_revokers_own_alone), T(a_second_one_takes_the_place_of_the_first),
      T(each_root_has_its_share_and_those_narrowed_from_it_a_part_of_that),
      T(who_is_revoked_by_his_root_gives_back_what_he_has_filled), T(what_was_no_good_any_more_goes_a_few_at_a_time)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
