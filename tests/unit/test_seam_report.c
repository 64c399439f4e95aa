/* For how long the locks are held that every visitor takes: counted in steps, by standing between the relay and its
   lists. */
#include "cm.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "relay/registry.h"
#include "relay/report.h"
#include "relay/worker.h"

int __real_pthread_mutex_lock(pthread_mutex_t *m);
int __real_pthread_mutex_unlock(pthread_mutex_t *m);
bool __real_roster_walk_step(struct roster_walk *w, struct roster_entry **e);
bool __real_map_next(const struct map *m, size_t *at, const void **key, void **value);
void *__real_map_remove(struct map *m, const void *key);
void __real_tls_server_unref(struct tls_server *s);
int __wrap_pthread_mutex_lock(pthread_mutex_t *m);
int __wrap_pthread_mutex_unlock(pthread_mutex_t *m);
bool __wrap_roster_walk_step(struct roster_walk *w, struct roster_entry **e);
bool __wrap_map_next(const struct map *m, size_t *at, const void **key, void **value);
void *__wrap_map_remove(struct map *m, const void *key);
void __wrap_tls_server_unref(struct tls_server *s);

static pthread_mutex_t *last;      /* the mutex that was locked last */
static bool held;
static size_t locks, steps, steps_max;   /* of this hold, and of the longest */

int __wrap_pthread_mutex_lock(pthread_mutex_t *m) {
  int rc = __real_pthread_mutex_lock(m);
  last = m;
  held = true;
  locks++;
  steps = 0;
  return rc;
}

int __wrap_pthread_mutex_unlock(pthread_mutex_t *m) {
  held = false;
  return __real_pthread_mutex_unlock(m);
}

static void step(void) {
  if (held && ++steps > steps_max) steps_max = steps;
}

bool __wrap_roster_walk_step(struct roster_walk *w, struct roster_entry **e) {
  step();
  return __real_roster_walk_step(w, e);
}

bool __wrap_map_next(const struct map *m, size_t *at, const void **key, void **value) {
  step();
  return __real_map_next(m, at, key, value);
}

void *__wrap_map_remove(struct map *m, const void *key) {
  step();
  return __real_map_remove(m, key);
}

void __wrap_tls_server_unref(struct tls_server *s) {
  step();
  __real_tls_server_unref(s);
}

enum { NOW = 1700000000, TUNNELS = 20 * REGISTRY_STEPS_MAX };

static struct relay relay;
static struct relay_options options = {.domain = "r.test"};
static struct worker worker;
static struct owner *owners[TUNNELS];
static struct tunnel *tunnels[TUNNELS];
static char dir[64];

static int set_up(void **state) {
  struct err e = {0};
  (void)state;
  memset(&relay, 0, sizeof relay);
  strcpy(dir, "/tmp/adit-test-XXXXXX");
  relay.options = &options;
  relay.workers = &worker;
  relay.workers_n = 1;
  if (mkdtemp(dir) == NULL || registry_new(&relay, &relay.registry) != 0 || state_open(dir, &relay.state, &e) != 0 ||
      certs_open(relay.state, NULL, options.domain, NULL, NULL, NOW, &relay.certs, &e) != 0 ||
      worker_open(&worker, &relay, &e) != 0)
    return -1;
  for (unsigned i = 0; i < TUNNELS; i++) {
    struct certificate c[2] = {{.max_tunnels = 1, .expires_s = NOW + 1}, {.max_tunnels = 1, .expires_s = NOW + 1}};
    memcpy(c[0].id, &i, sizeof i);
    memcpy(c[1].id, &i, sizeof i);
    c[1].id[TOKEN_ID_BYTES - 1] = 1;             /* narrowed from it */
    struct tunnel *replaced, *t = tunnels[i] = calloc(1, sizeof *t);
    if (t == NULL || registry_owner(relay.registry, c, 2, NOW, &owners[i]) != 0) return -1;
    t->refs = 1;
    t->owner = owner_ref(owners[i]);
    snprintf(t->label, sizeof t->label, "%0*u", LABEL_CHARS, i);
    snprintf(t->host, sizeof t->host, "%s.r.test", t->label);
    if (registry_put(relay.registry, t, &replaced) != 0) return -1;
  }
  locks = steps_max = 0;
  return 0;
}

static int tear_down(void **state) {
  char command[128];
  (void)state;
  for (unsigned i = 0; i < TUNNELS; i++) {
    registry_remove(relay.registry, tunnels[i]);
    tunnel_unref(relay.registry, tunnels[i]);
    registry_owner_unref(relay.registry, owners[i]);
  }
  worker_free(&worker);
  certs_close(relay.certs);
  state_close(relay.state);
  registry_free(relay.registry);
  snprintf(command, sizeof command, "rm -rf '%s'", dir);
  return system(command);
}

/* Which mutex the look-up of a visitor takes. */
static pthread_mutex_t *lock_of_look_ups(void) {
  tunnel_unref(relay.registry, registry_find(relay.registry, tunnels[0]->label));
  return last;
}

static void health_takes_no_lock_and_the_numbers_not_that_of_look_ups(void **state) {
  (void)state;
  const struct admin_source s = report_source(&relay);
  struct status status;
  const pthread_mutex_t *look_ups = lock_of_look_ups();
  locks = 0;
  assert_false(s.draining(s.user));
  assert_int_equal(locks, 0);
  METRIC_ADD(&worker.metrics, tunnels_now, TUNNELS);
  s.numbers(s.user, &status);
  assert_int_equal(locks, 1);                    /* the certificate's */
  assert_ptr_not_equal(last, look_ups);
  assert_int_equal(steps_max, 0);
  assert_int_equal(status.sum.tunnels_now, TUNNELS);
  __atomic_store_n(&relay.draining, true, __ATOMIC_RELAXED);
  assert_true(s.draining(s.user));
}

static void all_tunnels_and_tokens_are_listed_by_holds_of_a_few_steps(void **state) {
  (void)state;
  const struct admin_source s = report_source(&relay);
  struct status_tunnel batch[STATUS_BATCH_MAX];
  size_t n, met = 0;
  void *walk = s.walk_begin(s.user);
  assert_non_null(walk);
  while ((n = s.walk_next(s.user, walk, batch)) > 0) {
    for (size_t i = 0; i < n; i++) assert_string_equal(batch[i].host, tunnels[met++]->host);
  }
  assert_int_equal(met, TUNNELS);
  struct status_token tokens[STATUS_BATCH_MAX];
  for (met = 0; (n = s.walk_tokens(s.user, walk, tokens)) > 0; met += n) {
    for (size_t i = 0; i < n; i++) assert_int_equal(strlen(tokens[i].id), 2 * TOKEN_ID_BYTES);
  }
  assert_int_equal(met, TUNNELS);
  for (met = 0; (n = s.walk_narrowed(s.user, walk, tokens)) > 0; met += n) {
    for (size_t i = 0; i < n; i++) assert_int_equal(strlen(tokens[i].root), 2 * TOKEN_ID_BYTES);
  }
  s.walk_end(s.user, walk);
  assert_int_equal(met, TUNNELS);
  assert_int_equal(steps_max, REGISTRY_STEPS_MAX);
  assert_ptr_equal(last, lock_of_look_ups());
}

static void owners_are_looked_through_by_holds_of_a_few_steps(void **state) {
  (void)state;
  assert_false(registry_mark_ended(relay.registry, NOW));
  assert_int_equal(steps_max, REGISTRY_STEPS_MAX);
  assert_true(registry_mark_ended(relay.registry, NOW + 1));
  for (unsigned i = 0; i < TUNNELS; i++) assert_true(owner_has_ended(owners[i]));
  assert_int_equal(steps_max, REGISTRY_STEPS_MAX);
}

static void a_new_certificate_is_put_in_place_in_a_hold_of_no_steps(void **state) {
  (void)state;
  struct tls_server *server;
  struct err e = {0};
  for (char name[] = "a.r.test"; name[0] <= 'z'; name[0]++) {
    assert_int_equal(certs_exact(relay.certs, name, NOW, &server, &e), 0);
    tls_server_unref(server);
  }
  steps_max = 0;
  assert_int_equal(certs_reload(relay.certs, NOW, &e), 0);
  assert_int_equal(steps_max, 0);
  assert_null(certs_exact_made(relay.certs, "a.r.test", NOW));
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
int main(void) {
  const struct CMUnitTest tests[] = {T(health_takes_no_lock_and_the_numbers_not_that_of_look_ups),
                                     T(all_tunnels_and_tokens_are_listed_by_holds_of_a_few_steps),
                                     T(owners_are_looked_through_by_holds_of_a_few_steps),
                                     T(a_new_certificate_is_put_in_place_in_a_hold_of_no_steps)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
