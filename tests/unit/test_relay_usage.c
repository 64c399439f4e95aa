/* What has passed for a token: kept while its owner is away, for so many of them. */
#include "cm.h"

#include <stdio.h>
#include <string.h>

#include "relay/registry.h"

enum { NOW = 1700000000 };

static struct registry *g;

static int set_up(void **state) {
  (void)state;
  return registry_new(NULL, &g);
}

static int tear_down(void **state) {
  (void)state;
  registry_free(g);
  return 0;
}

/* With a token of that number, or one narrowed from it, through so many of these. */
static struct owner *comes_through(unsigned number, const struct certificate *below, size_t n) {
  struct certificate chain[CHAIN_MAX] = {{.max_tunnels = 1}};
  struct owner *o = NULL;
  memcpy(chain[0].id, &number, sizeof number);
  snprintf(chain[0].name, sizeof chain[0].name, "token-%u", number);
  for (size_t i = 0; i < n; i++) chain[i + 1] = below[i];
  assert_int_equal(registry_owner(g, chain, n + 1, NOW, &o), 0);
  return o;
}

static struct owner *comes(unsigned number, const struct certificate *child) {
  return comes_through(number, child, child != NULL ? 1 : 0);
}

/* Of the one of that number, and how many there are. */
static size_t told_of(bool narrowed, unsigned number, struct usage *out) {
  struct usage batch[REGISTRY_STEPS_MAX];
  struct registry_walk w;
  size_t n, all = 0;
  memset(out, 0, sizeof *out);
  registry_walk_begin(g, &w);
  while ((n = registry_walk_usages(g, narrowed ? &w.narrowed : &w.tokens, batch)) > 0) {
    all += n;
    for (size_t i = 0; i < n; i++)
      if (memcmp(batch[i].id, &number, sizeof number) == 0) *out = batch[i];
  }
  registry_walk_end(g, &w);
  return all;
}

static size_t told(unsigned number, struct usage *out) { return told_of(false, number, out); }

static void what_has_passed_is_told_while_the_owner_is_here_and_after(void **state) {
  (void)state;
  struct usage u;
  struct owner *o = comes(1, NULL);
  o->usage->to_visitors.bytes += 5;
  assert_int_equal(told(1, &u), 1);
  assert_string_equal(u.name, "token-1");
  registry_owner_unref(g, o);
  assert_int_equal(told(1, &u), 1);
  assert_int_equal(u.to_visitors.bytes, 5);
  o = comes(1, NULL);
  o->usage->to_visitors.bytes += 2;
  assert_int_equal(told(1, &u), 1);
  assert_int_equal(u.to_visitors.bytes, 7);
  registry_owner_unref(g, o);
}

enum { CHILDREN = 1 << 20 };       /* from there on are their numbers */

static struct owner *narrowed_comes(unsigned number, unsigned root) {
  struct certificate child = {.name = "job", .max_tunnels = 1};
  number += CHILDREN;
  memcpy(child.id, &number, sizeof number);
  return comes(root, &child);
}

static void visits(struct owner *o, uint64_t bytes) {
  usage_stream_begins(o->usage);
  for (struct tally *t = &o->usage->to_visitors; t != NULL; t = t->part_of) t->bytes += bytes;
  usage_stream_ends(o->usage);
}

static void what_passes_for_a_narrowed_token_is_its_own_and_its_roots(void **state) {
  (void)state;
  struct usage u;
  struct owner *o = narrowed_comes(1, 1), *other = narrowed_comes(2, 1), *root = comes(1, NULL);
  visits(o, 10);
  visits(other, 200);
  visits(root, 3000);
  registry_owner_unref(g, root);
  registry_owner_unref(g, o);
  registry_owner_unref(g, other);
  assert_int_equal(told(1, &u), 1);
  assert_string_equal(u.name, "token-1");
  assert_int_equal(u.streams_total, 3);
  assert_int_equal(u.streams_now, 0);
  assert_int_equal(u.to_visitors.bytes, 3210);
  assert_int_equal(told_of(true, CHILDREN + 1, &u), 2);
  assert_string_equal(u.name, "token-1/job");
  assert_int_equal(u.streams_total, 1);
  assert_int_equal(u.to_visitors.bytes, 10);
  assert_memory_equal(u.root_id, (const uint8_t[TOKEN_ID_BYTES]){1}, TOKEN_ID_BYTES);
  visits(o = narrowed_comes(1, 1), 5);           /* it goes on where it was */
  (void)told_of(true, CHILDREN + 1, &u);
  assert_int_equal(u.to_visitors.bytes, 15);
  (void)told(1, &u);
  assert_int_equal(u.to_visitors.bytes, 3215);
  registry_owner_unref(g, o);
}

static void of_narrowed_tokens_the_last_of_each_root_and_of_all_are_remembered(void **state) {
  (void)state;
  struct usage u;
  unsigned roots = NARROWED_KEPT_MAX / NARROWED_KEPT_PER_TOKEN_MAX + 1, number = 0;
  struct owner *here = narrowed_comes(number++, 0);
  for (unsigned i = 0; i <= NARROWED_KEPT_PER_TOKEN_MAX; i++) registry_owner_unref(g, narrowed_comes(number++, 1));
  assert_int_equal(told_of(true, CHILDREN + 1, &u), NARROWED_KEPT_PER_TOKEN_MAX + 1);
  assert_string_equal(u.name, "");
  (void)told_of(true, CHILDREN + 2, &u);
  assert_string_equal(u.name, "token-1/job");
  for (unsigned root = 2; root <= roots; root++)
    for (unsigned i = 0; i < NARROWED_KEPT_PER_TOKEN_MAX; i++) registry_owner_unref(g, narrowed_comes(number++, root));
  assert_int_equal(told_of(true, CHILDREN + 2, &u), NARROWED_KEPT_MAX + 1);
  assert_string_equal(u.name, "");
  (void)told_of(true, CHILDREN, &u);
  assert_string_equal(u.name, "token-0/job");
  registry_owner_unref(g, here);
}

static void who_narrows_a_narrowed_token_often_has_no_others_forgotten(void **state) {
  (void)state;
  struct usage u;
  unsigned number = CHILDREN + 1;
  struct certificate below[2] = {{.name = "container", .max_tunnels = 1}, {.name = "child", .max_tunnels = 1}};
  registry_owner_unref(g, narrowed_comes(0, 1));
  memcpy(below[0].id, &number, sizeof number);
  for (unsigned i = 0; i <= NARROWED_KEPT_PER_TOKEN_MAX; i++) {
    number++;
    memcpy(below[1].id, &number, sizeof number);
    registry_owner_unref(g, comes_through(1, below, 2));
  }
  assert_int_equal(told_of(true, CHILDREN, &u), 2 + NARROWED_KEPT_PER_NARROWED_MAX);
  assert_string_equal(u.name, "token-1/job");
  (void)told_of(true, number, &u);
  assert_string_equal(u.name, "token-1/container/child");
  registry_owner_unref(g, comes_through(1, below, 2));   /* it goes on where it was */
  assert_int_equal(told_of(true, number, &u), 2 + NARROWED_KEPT_PER_NARROWED_MAX);
}

static void with_a_root_that_is_forgotten_go_those_narrowed_from_it(void **state) {
  (void)state;
  struct usage u;
  for (unsigned i = 0; i < REGISTRY_STEPS_MAX; i++) registry_owner_unref(g, narrowed_comes(i, 0));
  for (unsigned i = 1; i <= USAGES_KEPT_MAX; i++) registry_owner_unref(g, comes(i, NULL));
  assert_int_equal(told_of(true, CHILDREN, &u), REGISTRY_STEPS_MAX / 2);   /* few at a time */
  registry_owner_unref(g, comes(USAGES_KEPT_MAX + 1, NULL));
  registry_owner_unref(g, comes(USAGES_KEPT_MAX + 2, NULL));
  assert_int_equal(told_of(true, CHILDREN, &u), 0);
  assert_int_equal(told(0, &u), USAGES_KEPT_MAX);
}

static void of_those_who_are_gone_the_last_are_remembered_and_all_who_are_here(void **state) {
  (void)state;
  struct usage u;
  struct owner *here = comes(0, NULL);
  for (unsigned i = 1; i <= USAGES_KEPT_MAX; i++) registry_owner_unref(g, comes(i, NULL));
  registry_owner_unref(g, comes(1, NULL));       /* was here again: now the second is the first to go */
  registry_owner_unref(g, comes(USAGES_KEPT_MAX + 1, NULL));
  assert_int_equal(told(1, &u), USAGES_KEPT_MAX + 1);
  assert_string_equal(u.name, "token-1");
  (void)told(2, &u);
  assert_string_equal(u.name, "");
  (void)told(0, &u);
  assert_string_equal(u.name, "token-0");
  registry_owner_unref(g, here);
  assert_int_equal(told(0, &u), USAGES_KEPT_MAX);
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
int main(void) {
  const struct CMUnitTest tests[] = {T(what_has_passed_is_told_while_the_owner_is_here_and_after),
                                     T(what_passes_for_a_narrowed_token_is_its_own_and_its_roots),
                                     T(of_narrowed_tokens_the_last_of_each_root_and_of_all_are_remembered),
                                     T(who_narrows_a_narrowed_token_often_has_no_others_forgotten),
                                     T(with_a_root_that_is_forgotten_go_those_narrowed_from_it),
                                     T(of_those_who_are_gone_the_last_are_remembered_and_all_who_are_here)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
