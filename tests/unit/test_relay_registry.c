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
  assert_int_equal(registry_owner(g, c, 1, NOW, &o), 0);
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
  assert_memory_equal(&o->account.limits, &limited.limits, sizeof limited.limits);
  registry_owner_unref(g, owner_of(&other));       /* another certificate of this id changes nothing while the owner is
                                                      here */
  assert_memory_equal(&o->account.limits, &limited.limits, sizeof limited.limits);
  registry_owner_unref(g, o);
}

static void a_stream_keeps_its_owner_and_not_its_tunnel(void **state) {
  (void)state;
  struct owner *o = owner_of(&alice);
  struct tunnel *first = tunnel_of(o, 'a', 1), *second = tunnel_of(o, 'a', 1);
  struct origin early, late;
  put(first, 0, NULL);
  origin_enter(&early, first);
  assert_int_equal(first->refs, 2);                /* the test's and its place's */
  assert_int_equal(first->streams_now, 1);
  struct tunnel *t = origin_tunnel(g, &early);
  assert_ptr_equal(t, first);
  tunnel_unref(g, t);
  put(second, 0, first);
  tunnel_unref(g, first);                          /* freed */
  origin_enter(&late, second);
  assert_null(origin_tunnel(g, &early));           /* its label leads to another now, whose streams are not his */
  assert_int_equal(o->usage->streams_now, 2);
  origin_leave(g, &early);
  assert_int_equal(second->streams_now, 1);
  assert_int_equal(o->usage->streams_now, 1);
  gone(second);
  registry_owner_unref(g, o);
  assert_ptr_equal(late.owner, o);                 /* the last that holds him */
  origin_leave(g, &late);
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
  struct tunnel *a = tunnel_of(o, 'a', 1), *b = tunnel_of(o, 'b', 1), *c = tunnel_of(o, 'c', 1),
                *again = tunnel_of(o, 'a', 2);
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
  struct tunnel *t = tunnel_of(o, 'a', 1);
  struct origin stream;
  put(t, 0, NULL);
  origin_enter(&stream, t);
  gone(t);
  registry_owner_unref(g, o);      /* link and tunnel are gone, the stream is not */
  assert_int_equal(registry_revoke(g, alice.id), 0);
  assert_true(registry_mark_ended(g, NOW));
  assert_true(stream.owner->ended);
  assert_false(registry_mark_ended(g, NOW));
  origin_leave(g, &stream);
}

static void a_revoked_token_has_no_owner_any_more(void **state) {
  (void)state;
  struct owner *o = NULL;
  assert_int_equal(registry_revoke(g, alice.id), 0);
  assert_int_equal(registry_owner(g, &alice, 1, NOW, &o), ERR_AUTH);
  assert_null(o);
}

/* And those of other relays, as of one that died, are good all the same. */
static void a_program_has_an_owner_while_it_is_here(void **state) {
  (void)state;
  struct certificate one = alice, other = alice, stranger = alice;
  struct owner *o = NULL, *again = NULL;
  other.id[TOKEN_ID_BYTES - 1] ^= 1;
  stranger.id[0] ^= 1;
  assert_int_equal(registry_admit(g, one.id), 0);
  assert_int_equal(registry_owner(g, &one, 1, NOW, &o), 0);
  assert_int_equal(registry_owner(g, &other, 1, NOW, &again), ERR_AUTH);
  assert_int_equal(registry_owner(g, &stranger, 1, NOW, &again), 0);
  registry_owner_unref(g, again);
  assert_false(registry_mark_ended(g, NOW));
  registry_dismiss(g, one.id);
  assert_true(registry_mark_ended(g, NOW));
  assert_true(o->ended);
  assert_int_equal(registry_owner(g, &one, 1, NOW, &again), ERR_AUTH);
  registry_owner_unref(g, o);
}

static void a_token_expires_by_the_wall_clock_and_serves_again_when_that_was_wrong(void **state) {
  (void)state;
  struct owner *o = owner_of(&alice), *again = NULL;
  assert_false(registry_mark_ended(g, alice.expires_s - 1));
  assert_true(registry_mark_ended(g, alice.expires_s));
  assert_int_equal(registry_owner(g, &alice, 1, alice.expires_s, &again), ERR_TIMEOUT);
  assert_int_equal(registry_owner(g, &alice, 1, NOW, &again), 0);
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

/* A family: a root with two children, of which the first has one itself. */
enum { ROOT, CHILD, OTHER, GRANDCHILD, FAMILY };
static const struct certificate root = {
    .id = {10}, .name = "laptop", .max_tunnels = 3, .limits = {.max_streams = 5, .max_bytes_per_s = 5000}};
static const struct certificate child = {.id = {11},
                                         .name = "build",
                                         .max_tunnels = 2,
                                         .limits = {.max_streams = 5, .max_bytes_per_s = 5000},
                                         .no_raw = true,
                                         .allow = {{.family = 4, .bits = 8, .bytes = {10}}},
                                         .allow_n = 1};
static const struct certificate other = {
    .id = {12}, .max_tunnels = 3, .limits = {.max_streams = 2, .max_bytes_per_s = 5000}};
static const struct certificate grandchild = {.id = {13},
                                              .name = "job",
                                              .max_tunnels = 1,
                                              .expires_s = NOW + 1,
                                              .limits = {.max_streams = 5, .max_bytes_per_s = 4000}};

static struct owner *owner_by(const struct certificate *const *certificates, size_t n) {
  struct certificate chain[CHAIN_MAX];
  struct owner *o = NULL;
  for (size_t i = 0; i < n; i++) chain[i] = *certificates[i];
  assert_int_equal(registry_owner(g, chain, n, NOW, &o), 0);
  return o;
}

static void family_comes(struct owner *family[FAMILY]) {
  family[GRANDCHILD] = owner_by((const struct certificate *[]){&root, &child, &grandchild}, 3);
  family[CHILD] = owner_by((const struct certificate *[]){&root, &child}, 2);
  family[OTHER] = owner_by((const struct certificate *[]){&root, &other}, 2);
  family[ROOT] = owner_by((const struct certificate *[]){&root}, 1);
}

static void family_goes(struct owner *family[FAMILY]) {
  for (int i = 0; i < FAMILY; i++) registry_owner_unref(g, family[i]);
}

static void a_narrowed_tokens_owner_is_its_parents_child(void **state) {
  (void)state;
  struct owner *f[FAMILY];
  family_comes(f);
  assert_ptr_equal(f[GRANDCHILD]->parent, f[CHILD]);
  assert_ptr_equal(f[CHILD]->parent, f[ROOT]);
  assert_ptr_equal(f[OTHER]->parent, f[ROOT]);
  assert_null(f[ROOT]->parent);
  for (int i = 0; i < FAMILY; i++) assert_ptr_equal(f[i]->root, f[ROOT]);
  assert_string_equal(f[ROOT]->name, "laptop");
  assert_string_equal(f[OTHER]->name, "laptop");
  assert_string_equal(f[GRANDCHILD]->name, "laptop/build/job");
  assert_ptr_equal(f[GRANDCHILD]->account.parent, &f[CHILD]->account);
  assert_ptr_equal(f[GRANDCHILD]->rate, &f[GRANDCHILD]->own_rate);
  assert_ptr_equal(f[GRANDCHILD]->own_rate.outer, f[CHILD]->rate);
  assert_true(f[CHILD]->no_raw && f[CHILD]->allow_n == 1);
  registry_owner_unref(g, f[ROOT]);
  registry_owner_unref(g, f[CHILD]);             /* both stay, for the grandchild's sake */
  struct owner *again = owner_by((const struct certificate *[]){&root, &child}, 2);
  assert_ptr_equal(again, f[CHILD]);
  f[ROOT] = owner_ref(again->parent);
  family_goes(f);
}

static void tunnels_count_for_a_token_and_all_that_it_was_narrowed_from(void **state) {
  (void)state;
  struct owner *f[FAMILY];
  family_comes(f);
  struct tunnel *a = tunnel_of(f[GRANDCHILD], 'a', 1), *b = tunnel_of(f[CHILD], 'b', 1),
                *c = tunnel_of(f[OTHER], 'c', 1);
  struct tunnel *more[] = {tunnel_of(f[GRANDCHILD], 'd', 1), tunnel_of(f[CHILD], 'd', 1), tunnel_of(f[OTHER], 'd', 1),
      tunnel_of(f[ROOT], 'd', 1)};
  put(a, 0, NULL);
  put(more[0], ERR_LIMIT, NULL);
  put(b, 0, NULL);
  put(more[1], ERR_LIMIT, NULL);
  put(c, 0, NULL);
  put(more[2], ERR_LIMIT, NULL);                 /* its own limit is not reached, but the root's */
  put(more[3], ERR_LIMIT, NULL);
  assert_int_equal(f[ROOT]->tunnels, 3);
  gone(b);
  put(more[2], 0, NULL);
  gone(more[2]);
  gone(a);
  gone(c);
  for (int i = 0; i < FAMILY; i++) assert_int_equal(f[i]->tunnels, 0);
  tunnel_unref(g, more[0]);
  tunnel_unref(g, more[1]);
  tunnel_unref(g, more[3]);
  family_goes(f);
}

/* Labels are the root's: with the ticket any of its tokens takes them, and then they count for that one. */
static void a_label_may_go_from_one_of_a_roots_tokens_to_another(void **state) {
  (void)state;
  struct owner *f[FAMILY];
  family_comes(f);
  struct tunnel *first = tunnel_of(f[GRANDCHILD], 'a', 1), *second = tunnel_of(f[OTHER], 'a', 2);
  put(first, 0, NULL);
  put(second, 0, first);
  gone(first);
  assert_int_equal(f[GRANDCHILD]->tunnels + f[CHILD]->tunnels, 0);
  assert_int_equal(f[OTHER]->tunnels, 1);
  assert_int_equal(f[ROOT]->tunnels, 1);
  struct tunnel *full = tunnel_of(f[GRANDCHILD], 'b', 1), *third = tunnel_of(f[GRANDCHILD], 'a', 3);
  put(full, 0, NULL);
  put(third, ERR_LIMIT, NULL);                   /* nothing has changed by that */
  assert_ptr_equal(found('a'), second);
  assert_int_equal(f[OTHER]->tunnels, 1);
  assert_int_equal(f[ROOT]->tunnels, 2);
  tunnel_unref(g, third);
  gone(full);
  gone(second);
  family_goes(f);
}

static void whoever_revokes_a_token_ends_all_that_were_narrowed_from_it_and_no_others(void **state) {
  (void)state;
  static const struct { uint8_t id; bool ends[FAMILY]; } cases[] = {
    {11, {[CHILD] = true, [GRANDCHILD] = true}}, {12, {[OTHER] = true}}, {10, {true, true, true, true}}};
  for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
    struct owner *f[FAMILY], *again = NULL;
    uint8_t id[TOKEN_ID_BYTES] = {cases[i].id};
    registry_free(g);
    assert_int_equal(registry_new(NULL, &g), 0);
    family_comes(f);
    assert_false(registry_mark_ended(g, NOW));
    assert_int_equal(registry_revoke(g, id), 0);
    assert_true(registry_mark_ended(g, NOW));
    for (int k = 0; k < FAMILY; k++) assert_int_equal(owner_has_ended(f[k]), cases[i].ends[k]);
    struct certificate chain[] = {root, child, grandchild};
    assert_int_equal(registry_owner(g, chain, 3, NOW, &again), cases[i].id == 12 ? 0 : ERR_AUTH);
    registry_owner_unref(g, again);
    family_goes(f);
  }
}

static void a_narrowed_token_expires_before_the_one_that_it_is_from(void **state) {
  (void)state;
  struct owner *f[FAMILY], *again = NULL;
  struct certificate chain[] = {root, child, grandchild};
  family_comes(f);
  assert_true(registry_mark_ended(g, NOW + 1));
  for (int i = 0; i < FAMILY; i++) assert_int_equal(owner_has_ended(f[i]), i == GRANDCHILD);
  assert_int_equal(registry_owner(g, chain, 3, NOW + 1, &again), ERR_TIMEOUT);
  chain[0].expires_s = NOW;                      /* a parent's end is looked at by itself */
  assert_int_equal(registry_owner(g, chain, 2, NOW, &again), ERR_TIMEOUT);
  assert_null(again);
  family_goes(f);
}

static void links_count_for_a_token_and_all_that_it_was_narrowed_from(void **state) {
  (void)state;
  struct owner *f[FAMILY];
  uint8_t id[LINK_ID_BYTES] = {0};
  struct worker w;
  family_comes(f);
  for (; id[0] < grandchild.max_tunnels + LINKS_SPARE_PER_TOKEN; id[0]++)
    assert_int_equal(registry_link_put(g, f[GRANDCHILD], id, &w), 0);
  assert_int_equal(registry_link_put(g, f[GRANDCHILD], id, &w), ERR_LIMIT);
  for (; id[0] < root.max_tunnels + LINKS_SPARE_PER_TOKEN; id[0]++)
    assert_int_equal(registry_link_put(g, f[OTHER], id, &w), 0);
  assert_int_equal(registry_link_put(g, f[OTHER], id, &w), ERR_LIMIT);
  assert_int_equal(f[OTHER]->links, root.max_tunnels - grandchild.max_tunnels);
  family_goes(f);
}

static bool admits(const struct tunnel *t, const char *visitor) {
  struct addr a;
  assert_int_equal(addr_parse(visitor, &a, NULL), 0);
  return tunnel_admits(t, &a);
}

static void a_visitor_must_be_allowed_by_the_tunnel_and_by_its_token(void **state) {
  (void)state;
  struct owner *f[FAMILY];
  family_comes(f);
  struct cidr allow = {.family = 4, .bits = 16, .bytes = {10, 1}};
  struct tunnel *free_one = tunnel_of(f[ROOT], 'a', 1), *own = tunnel_of(f[ROOT], 'a', 1),
                *tokens = tunnel_of(f[CHILD], 'a', 1), *both = tunnel_of(f[CHILD], 'a', 1);
  assert_int_equal(tunnel_set_admission(own, &allow, 1, &allow, 0), 0);
  assert_int_equal(tunnel_set_admission(both, &allow, 1, &allow, 0), 0);
  assert_true(admits(free_one, "192.0.2.1:1") && !admits(own, "192.0.2.1:1") && !admits(tokens, "192.0.2.1:1") &&
              !admits(both, "192.0.2.1:1"));
  assert_true(!admits(own, "10.2.0.1:1") && admits(tokens, "10.2.0.1:1") && !admits(both, "10.2.0.1:1"));
  assert_true(admits(own, "10.1.0.1:1") && admits(tokens, "10.1.0.1:1") && admits(both, "10.1.0.1:1"));
  struct tunnel *all[] = {free_one, own, tokens, both};
  for (size_t i = 0; i < ARRAY_LEN(all); i++) tunnel_unref(g, all[i]);
  family_goes(f);
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

static void who_is_denied_is_not_let_in_also_if_allowed(void **state) {
  (void)state;
  struct cidr allow[2], deny[2];
  struct owner anybody = {0};
  struct tunnel t = {.owner = &anybody};
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
  t = (struct tunnel){.owner = &anybody};
  assert_int_equal(tunnel_set_admission(&t, allow, 0, deny, 2), 0);
  assert_true(admits(&t, "198.51.100.1:1"));
  assert_false(admits(&t, "192.0.2.7:1"));
  free(t.admission);
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
int main(void) {
  const struct CMUnitTest tests[] = {
    T(an_owner_has_the_limits_of_its_certificate), T(a_stream_keeps_its_owner_and_not_its_tunnel),
    T(of_equal_incarnations_the_newer_tunnel_has_the_label), T(a_lower_incarnation_never_takes_a_label),
    T(the_limit_of_a_token_counts_labels_and_not_takeovers),
    T(an_owner_lives_as_long_as_a_stream_of_a_tunnel_that_is_gone),
    T(a_revoked_token_has_no_owner_any_more),
    T(a_program_has_an_owner_while_it_is_here),
    T(a_token_expires_by_the_wall_clock_and_serves_again_when_that_was_wrong),
    T(a_narrowed_tokens_owner_is_its_parents_child), T(tunnels_count_for_a_token_and_all_that_it_was_narrowed_from),
    T(a_label_may_go_from_one_of_a_roots_tokens_to_another),
    T(whoever_revokes_a_token_ends_all_that_were_narrowed_from_it_and_no_others),
    T(a_narrowed_token_expires_before_the_one_that_it_is_from),
    T(links_count_for_a_token_and_all_that_it_was_narrowed_from),
    T(a_visitor_must_be_allowed_by_the_tunnel_and_by_its_token),
    T(all_owners_that_have_ended_are_marked_and_no_others), T(a_link_id_is_given_to_one_worker_only),
    T(a_token_has_as_many_links_as_tunnels_and_some_to_spare),
    T(an_owner_has_so_many_certificates_made_in_a_period_and_takes_none_from_others),
      T(a_walk_meets_every_tunnel_that_stays_once_whatever_changes_meanwhile),
      T(a_walk_meets_a_label_that_is_taken_over_meanwhile_once), T(who_is_denied_is_not_let_in_also_if_allowed)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
