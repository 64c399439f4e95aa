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

static struct owner *comes(unsigned number, const struct certificate *child) {
  struct certificate chain[2] = {{.max_tunnels = 1}};
  struct owner *o = NULL;
  memcpy(chain[0].id, &number, sizeof number);
  snprintf(chain[0].name, sizeof chain[0].name, "token-%u", number);
  if (child != NULL) chain[1] = *child;
  assert_int_equal(registry_owner(g, chain, child != NULL ? 2 : 1, NOW, &o), 0);
  return o;
}

/* Of the one of that number, and how many there are. */
static size_t told(unsigned number, struct usage *out) {
  struct usage batch[REGISTRY_STEPS_MAX];
  struct registry_walk w;
  size_t n, all = 0;
  memset(out, 0, sizeof *out);
  registry_walk_begin(g, &w);
  while ((n = registry_walk_usages(g, &w, batch)) > 0) {
    all += n;
    for (size_t i = 0; i < n; i++)
      if (memcmp(batch[i].id, &number, sizeof number) == 0) *out = batch[i];
  }
  registry_walk_end(g, &w);
  return all;
}

static void what_has_passed_is_told_while_the_owner_is_here_and_after(void **state) {
  (void)state;
  struct usage u;
  struct owner *o = comes(1, NULL);
  o->usage->bytes_to_visitors += 5;
  assert_int_equal(told(1, &u), 1);
  assert_string_equal(u.name, "token-1");
  registry_owner_unref(g, o);
  assert_int_equal(told(1, &u), 1);
  assert_int_equal(u.bytes_to_visitors, 5);
  o = comes(1, NULL);
  o->usage->bytes_to_visitors += 2;
  assert_int_equal(told(1, &u), 1);
  assert_int_equal(u.bytes_to_visitors, 7);
  registry_owner_unref(g, o);
}

static void what_passes_for_a_narrowed_token_is_its_roots(void **state) {
  (void)state;
  const struct certificate child = {.id = {99, 1}, .name = "job", .max_tunnels = 1};
  struct usage u;
  struct owner *o = comes(1, &child), *root = comes(1, NULL);
  assert_ptr_equal(o->usage, root->usage);
  registry_owner_unref(g, root);
  o->usage->streams_total = 3;
  registry_owner_unref(g, o);
  assert_int_equal(told(1, &u), 1);
  assert_int_equal(u.streams_total, 3);
  assert_string_equal(u.name, "token-1");
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
      T(what_passes_for_a_narrowed_token_is_its_roots),
                                     T(of_those_who_are_gone_the_last_are_remembered_and_all_who_are_here)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
