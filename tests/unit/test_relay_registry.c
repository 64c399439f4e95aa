/* Who is here: which of several tunnels has a label, how long owners last, and what outlives what. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cm.h"
#include "relay/registry.h"
#include "relay/worker.h"

enum { NOW = 1700000000 };

static struct registry *g;
static const struct certificate alice = {.id = {1}, .name = "alice", .max_tunnels = 2, .expires_s = NOW + 100};

static int set_up(void **state) {
  (void)state;
  return registry_new(NULL, &g);
}

static int tear_down(void **state) {
  (void)state;
  registry_free(g);
  return 0;
}

static struct tunnel *tunnel_of(struct owner *o, char letter, uint32_t incarnation) {
  struct tunnel *t = calloc(1, sizeof *t);
  assert_non_null(t);
  t->refs = 1;
  t->owner = owner_ref(o);
  memset(t->label, letter, LABEL_CHARS);
  t->incarnation = incarnation;
  return t;
}

static struct owner *owner_of(const struct certificate *c) {
  struct owner *o = NULL;
  assert_int_equal(registry_owner(g, c, NOW, &o), 0);
  return o;
}

static void put(struct tunnel *t, int expected, const struct tunnel *replaces) {
  struct tunnel *replaced = NULL;
  assert_int_equal(registry_put(g, t, &replaced), expected);
  assert_ptr_equal(replaced, replaces);
  tunnel_unref(g, replaced);
}

static void gone(struct tunnel *t) {
  registry_remove(g, t);
  tunnel_unref(g, t);
}

static struct tunnel *found(char letter) {
  char label[LABEL_CHARS + 1] = "";
  memset(label, letter, LABEL_CHARS);
  struct tunnel *t = registry_find(g, label);
  tunnel_unref(g, t);
  return t;
}

static void an_owner_has_the_limits_of_its_certificate(void **state) {
  (void)state;
  struct certificate limited = alice, other = alice;
  limited.limits = (struct token_limits){.max_streams = 1, .max_visitors_per_s = 2, .max_bytes_per_s = 3};
  struct owner *o = owner_of(&limited);
  assert_memory_equal(&o->limits, &limited.limits, sizeof limited.limits);
  registry_owner_unref(g, owner_of(&other));       /* another certificate of this id changes nothing while the owner is here */
  assert_memory_equal(&o->limits, &limited.limits, sizeof limited.limits);
  registry_owner_unref(g, o);
}

static void of_equal_incarnations_the_newer_tunnel_has_the_label(void **state) {
  (void)state;
  struct owner *o = owner_of(&alice);
  struct tunnel *first = tunnel_of(o, 'a', 1), *second = tunnel_of(o, 'a', 1);
  put(first, 0, NULL);
  put(second, 0, first);
  assert_ptr_equal(found('a'), second);
  assert_true(second->serial > first->serial);
  gone(first);                     /* the loser's end takes nothing from the winner */
  assert_ptr_equal(found('a'), second);
  assert_int_equal(o->tunnels, 1);
  gone(second);
  assert_null(found('a'));
  assert_int_equal(o->tunnels, 0);
  registry_owner_unref(g, o);
}

static void a_lower_incarnation_never_takes_a_label(void **state) {
  (void)state;
  struct owner *o = owner_of(&alice);
  struct tunnel *high = tunnel_of(o, 'a', 5), *low = tunnel_of(o, 'a', 4);
  put(high, 0, NULL);
  put(low, ERR_CONFLICT, NULL);
  assert_ptr_equal(found('a'), high);
  tunnel_unref(g, low);
  gone(high);
  registry_owner_unref(g, o);
}

static void the_limit_of_a_token_counts_labels_and_not_takeovers(void **state) {
  (void)state;
  struct owner *o = owner_of(&alice);
  struct tunnel *a = tunnel_of(o, 'a', 1), *b = tunnel_of(o, 'b', 1), *c = tunnel_of(o, 'c', 1), *again = tunnel_of(o, 'a', 2);
  put(a, 0, NULL);
  put(b, 0, NULL);
  put(c, ERR_LIMIT, NULL);
  put(again, 0, a);
  gone(a);
  put(c, ERR_LIMIT, NULL);
  gone(b);
  put(c, 0, NULL);
  gone(c);
  gone(again);
  registry_owner_unref(g, o);
}

static void an_owner_lives_as_long_as_a_stream_of_a_tunnel_that_is_gone(void **state) {
  (void)state;
  struct owner *o = owner_of(&alice);
  struct tunnel *t = tunnel_of(o, 'a', 1), *stream = tunnel_ref(t);
  put(t, 0, NULL);
  gone(t);
  registry_owner_unref(g, o);      /* link and tunnel are gone, the stream is not */
  assert_int_equal(registry_revoke(g, alice.id), 0);
  assert_true(registry_mark_ended(g, NOW));
  assert_true(stream->owner->ended);
  assert_false(registry_mark_ended(g, NOW));
  tunnel_unref(g, stream);
}

static void a_revoked_token_has_no_owner_any_more(void **state) {
  (void)state;
  struct owner *o = NULL;
  assert_int_equal(registry_revoke(g, alice.id), 0);
  assert_int_equal(registry_owner(g, &alice, NOW, &o), ERR_AUTH);
  assert_null(o);
}

static void a_token_expires_by_the_wall_clock_and_serves_again_when_that_was_wrong(void **state) {
  (void)state;
  struct owner *o = owner_of(&alice), *again = NULL;
  assert_false(registry_mark_ended(g, alice.expires_s - 1));
  assert_true(registry_mark_ended(g, alice.expires_s));
  assert_int_equal(registry_owner(g, &alice, alice.expires_s, &again), ERR_TIMEOUT);
  assert_int_equal(registry_owner(g, &alice, NOW, &again), 0);
  assert_ptr_equal(again, o);
  assert_false(again->ended);
  assert_true(registry_mark_ended(g, alice.expires_s));
  registry_owner_unref(g, again);
  registry_owner_unref(g, o);
}

static void all_owners_that_have_ended_are_marked_and_no_others(void **state) {
  (void)state;
  struct owner *owners[5];
  for (uint8_t i = 0; i < 5; i++) {
    struct certificate c = {.id = {i}, .max_tunnels = 1, .expires_s = NOW + 1 + (i == 2)};
    owners[i] = owner_of(&c);
  }
  assert_true(registry_mark_ended(g, NOW + 1));
  for (int i = 0; i < 5; i++) assert_int_equal(owner_has_ended(owners[i]), i != 2);
  assert_false(registry_mark_ended(g, NOW + 1));
  for (int i = 0; i < 5; i++) registry_owner_unref(g, owners[i]);
}

static void a_link_id_is_given_to_one_worker_only(void **state) {
  (void)state;
  static const uint8_t id[LINK_ID_BYTES] = {7};
  static struct worker workers[2];
  struct worker *one = &workers[0], *two = &workers[1];
  struct owner *o = owner_of(&alice);
  assert_int_equal(registry_link_put(g, o, id, one), 0);
  assert_int_equal(registry_link_put(g, o, id, two), ERR_CONFLICT);
  assert_ptr_equal(registry_link_find(g, id), one);
  registry_link_remove(g, o, id);
  assert_null(registry_link_find(g, id));
  registry_owner_unref(g, o);
}

static void a_token_has_as_many_links_as_tunnels_and_some_to_spare(void **state) {
  (void)state;
  static struct worker worker;
  struct owner *o = owner_of(&alice);
  uint8_t id[LINK_ID_BYTES] = {0};
  uint8_t n = (uint8_t)(alice.max_tunnels + LINKS_SPARE_PER_TOKEN);
  for (id[0] = 0; id[0] < n; id[0]++) assert_int_equal(registry_link_put(g, o, id, &worker), 0);
  assert_int_equal(registry_link_put(g, o, id, &worker), ERR_LIMIT);
  for (id[0] = 0; id[0] < 2; id[0]++) registry_link_remove(g, o, id);
  id[0] = n;
  registry_link_remove(g, o, id);            /* was never there: counts for nothing */
  assert_int_equal(registry_link_put(g, o, id, &worker), 0);
  id[0]++;
  assert_int_equal(registry_link_put(g, o, id, &worker), 0);
  id[0]++;
  assert_int_equal(registry_link_put(g, o, id, &worker), ERR_LIMIT);
  registry_owner_unref(g, o);
}

static void an_owner_has_so_many_certificates_made_in_a_period_and_takes_none_from_others(void **state) {
  (void)state;
  static const struct certificate bob = {.id = {2}, .name = "bob", .max_tunnels = 2};
  const uint64_t start_ms = 1000000;
  struct owner *a = owner_of(&alice), *b = owner_of(&bob);
  for (int i = 0; i < CERTS_EXACT_PER_OWNER_MAX; i++) assert_true(registry_owner_certifies(g, a, start_ms));
  assert_false(registry_owner_certifies(g, a, start_ms + CERTS_EXACT_PERIOD_MS - 1));
  assert_false(registry_owner_certifies(g, a, start_ms - 1));       /* another worker's clock, a turn behind */
  assert_true(registry_owner_certifies(g, b, start_ms));
  assert_true(registry_owner_certifies(g, a, start_ms + CERTS_EXACT_PERIOD_MS));
  registry_owner_unref(g, a);
  registry_owner_unref(g, b);
}

/* Those of the walk's next batch, counted by their number, which stands in bind_id. */
static size_t meet(struct registry_walk *w, unsigned met[], size_t cap) {
  struct tunnel *batch[REGISTRY_STEPS_MAX];
  size_t n = registry_walk_next(g, w, batch);
  for (size_t i = 0; i < n; i++) {
    assert_true(batch[i]->bind_id < cap);
    met[batch[i]->bind_id]++;
    tunnel_unref(g, batch[i]);
  }
  return n;
}

static struct tunnel *numbered(struct owner *o, unsigned number) {
  struct tunnel *t = tunnel_of(o, 'a', 1);
  t->bind_id = number;
  snprintf(t->label, sizeof t->label, "%0*u", LABEL_CHARS, number);
  put(t, 0, NULL);
  return t;
}

static void a_walk_meets_every_tunnel_that_stays_once_whatever_changes_meanwhile(void **state) {
  enum { STAY = 3 * REGISTRY_STEPS_MAX, ALL = 2 * STAY };
  (void)state;
  const struct certificate rich = {.id = {3}, .name = "rich", .max_tunnels = ALL};
  struct owner *o = owner_of(&rich);
  struct tunnel *tunnels[ALL] = {0};
  struct registry_walk w;
  unsigned met[ALL] = {0};
  for (unsigned i = 0; i < STAY; i++) tunnels[i] = numbered(o, i);
  registry_walk_begin(g, &w);
  for (unsigned batch = 0; meet(&w, met, ALL) > 0; batch++) {
    for (unsigned i = 0; i < 10; i++) {          /* some go, met or not; others come, and are not met by this walk */
      unsigned goes = (batch * 37 + i * 53) % STAY, comes = STAY + batch * 10 + i;
      if (goes % 4 == 0 && tunnels[goes] != NULL) {
        gone(tunnels[goes]);
        tunnels[goes] = NULL;
      }
      tunnels[comes] = numbered(o, comes);
    }
  }
  registry_walk_end(g, &w);
  for (unsigned i = 0; i < ALL; i++) {
    if (i < STAY && tunnels[i] != NULL) assert_int_equal(met[i], 1);
    else assert_true(met[i] <= (i < STAY));
    if (tunnels[i] != NULL) gone(tunnels[i]);
  }
  registry_walk_begin(g, &w);
  assert_int_equal(meet(&w, met, ALL), 0);
  registry_walk_end(g, &w);
  registry_owner_unref(g, o);
}

static void a_walk_meets_a_label_that_is_taken_over_meanwhile_once(void **state) {
  enum { ALL = 2 * REGISTRY_STEPS_MAX };
  (void)state;
  const struct certificate rich = {.id = {3}, .name = "rich", .max_tunnels = ALL};
  struct owner *o = owner_of(&rich);
  struct tunnel *tunnels[ALL];
  struct registry_walk w;
  unsigned met[ALL] = {0};
  for (unsigned i = 0; i < ALL; i++) tunnels[i] = numbered(o, i);
  registry_walk_begin(g, &w);
  assert_int_equal(meet(&w, met, ALL), REGISTRY_STEPS_MAX);
  for (unsigned i = 0; i < ALL; i += 3) {
    struct tunnel *again = tunnel_of(o, 'a', 1);
    again->bind_id = i;
    memcpy(again->label, tunnels[i]->label, sizeof again->label);
    put(again, 0, tunnels[i]);
    tunnel_unref(g, tunnels[i]);
    tunnels[i] = again;
  }
  while (meet(&w, met, ALL) > 0) {
  }
  registry_walk_end(g, &w);
  for (unsigned i = 0; i < ALL; i++) {
    assert_int_equal(met[i], 1);
    gone(tunnels[i]);
  }
  registry_owner_unref(g, o);
}

static bool admits(const struct tunnel *t, const char *visitor) {
  struct addr a;
  assert_int_equal(addr_parse(visitor, &a, NULL), 0);
  return tunnel_admits(t, &a);
}

static void who_is_denied_is_not_let_in_also_if_allowed(void **state) {
  (void)state;
  struct cidr allow[2], deny[2];
  struct tunnel t = {0};
  assert_true(admits(&t, "192.0.2.1:1"));
  assert_int_equal(cidr_parse("192.0.2.0/24", &allow[0], NULL), 0);
  assert_int_equal(cidr_parse("2001:db8::/32", &allow[1], NULL), 0);
  assert_int_equal(cidr_parse("192.0.2.7", &deny[0], NULL), 0);
  assert_int_equal(cidr_parse("2001:db8:bad::/48", &deny[1], NULL), 0);
  assert_int_equal(tunnel_set_admission(&t, allow, 2, deny, 2), 0);
  assert_true(admits(&t, "192.0.2.1:1"));
  assert_false(admits(&t, "192.0.2.7:1"));
  assert_false(admits(&t, "[::ffff:192.0.2.7]:1"));
  assert_false(admits(&t, "192.0.3.1:1"));
  assert_true(admits(&t, "[2001:db8::1]:1"));
  assert_false(admits(&t, "[2001:db8:bad::1]:1"));
  free(t.admission);
  t = (struct tunnel){0};
  assert_int_equal(tunnel_set_admission(&t, allow, 0, deny, 2), 0);
  assert_true(admits(&t, "198.51.100.1:1"));
  assert_false(admits(&t, "192.0.2.7:1"));
  free(t.admission);
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
int main(void) {
  const struct CMUnitTest tests[] = {
    T(an_owner_has_the_limits_of_its_certificate), T(a_lower_incarnation_never_takes_a_label),
    T(of_equal_incarnations_the_newer_tunnel_has_the_label), T(a_lower_incarnation_never_takes_a_label),
    T(the_limit_of_a_token_counts_labels_and_not_takeovers), T(an_owner_lives_as_long_as_a_stream_of_a_tunnel_that_is_gone),
    T(a_revoked_token_has_no_owner_any_more), T(a_token_expires_by_the_wall_clock_and_serves_again_when_that_was_wrong),
    T(all_owners_that_have_ended_are_marked_and_no_others), T(a_link_id_is_given_to_one_worker_only),
    T(a_token_has_as_many_links_as_tunnels_and_some_to_spare),
    T(an_owner_has_so_many_certificates_made_in_a_period_and_takes_none_from_others),
      T(a_walk_meets_every_tunnel_that_stays_once_whatever_changes_meanwhile),
      T(a_walk_meets_a_label_that_is_taken_over_meanwhile_once), T(who_is_denied_is_not_let_in_also_if_allowed)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
