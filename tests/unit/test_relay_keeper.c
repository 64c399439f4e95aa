/* Who has a raw port, and whose token is revoked, when those who ask run in different threads and their messages
   arrive in any order. */
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <sqlite3.h>

#include "cm.h"
#include "loop/loop.h"
#include "relay/keeper.h"
#include "relay/registry.h"
#include "relay/worker.h"

enum { FROM = 21000, TO = 21001, WIDE_TO = FROM + 299 };
static const char label_a[] = "aaaaaaaaaaaaaaaaaaaaaaaa", label_b[] = "bbbbbbbbbbbbbbbbbbbbbbbb";

/* Every commit of this process is counted, and waits or fails if told so. */
static struct { atomic_uint n; atomic_bool held, fails; sem_t reached, go; } commits;

static int on_commit(void *unused) {
  (void)unused;
  commits.n++;
  if (commits.held) {
    sem_post(&commits.reached);
    sem_wait(&commits.go);
  }
  return commits.fails;            /* not 0: it is taken back */
}

static int on_open(sqlite3 *db) {
  (void)sqlite3_commit_hook(db, on_commit, NULL);
  return SQLITE_OK;
}

struct fixture {
  char dir[64];
  struct relay relay;
  struct relay_options options;
  struct worker worker;            /* only its loop, which the test turns itself */
};

static void begin(struct fixture *f) {
  struct err e = {0};
  if (state_open(f->dir, &f->relay.state, &e) != 0 ||
      certs_open(f->relay.state, NULL, "r.test", NULL, NULL, time(NULL), &f->relay.certs, &e) != 0 ||
      keeper_new(&f->relay, &f->relay.keeper, &e) != 0 || keeper_run(f->relay.keeper, &e) != 0)
    fail_msg("%s", e.text);
}

static void end(struct fixture *f) {
  keeper_stop(f->relay.keeper);
  keeper_free(f->relay.keeper);
  certs_close(f->relay.certs);
  state_close(f->relay.state);
}

static int set_up_range(void **state, uint16_t to) {
  struct fixture *f = calloc(1, sizeof *f);
  if (f == NULL) return -1;
  strcpy(f->dir, "/tmp/adit-test-XXXXXX");
  f->options.domain = "r.test";
  f->options.tcp_port_from = FROM;
  f->options.tcp_port_to = to;
  f->relay.options = &f->options;
  f->worker.relay = &f->relay;
  f->worker.loop = loop_new(NULL);
  pthread_mutex_init(&f->relay.ticket_lock, NULL);
  if (mkdtemp(f->dir) == NULL || f->worker.loop == NULL || registry_new(&f->relay, &f->relay.registry) != 0) return -1;
  begin(f);
  *state = f;
  return 0;
}

static int set_up(void **state) { return set_up_range(state, TO); }
static int set_up_wide(void **state) { return set_up_range(state, WIDE_TO); }

static int tear_down(void **state) {
  struct fixture *f = *state;
  char command[128];
  end(f);
  registry_free(f->relay.registry);
  loop_free(f->worker.loop);
  pthread_mutex_destroy(&f->relay.ticket_lock);
  snprintf(command, sizeof command, "rm -rf '%s'", f->dir);
  int rc = system(command);
  free(f);
  return rc;
}

struct request {
  struct port_request q;
  unsigned done;                   /* which of the answers it was */
};
static unsigned answers;

static void on_done(struct port_request *q) { CONTAINER_OF(q, struct request, q)->done = ++answers; }

static void ask(struct fixture *f, struct request *r, uint8_t owner, const char *label, uint64_t serial,
                uint16_t port) {
  *r = (struct request){.q = {.owner = {owner}, .serial = serial, .port = port, .max_tunnels = 1000, .done = on_done}};
  strcpy(r->q.label, label);
  keeper_take_port(f->relay.keeper, &f->worker, &r->q);
}

static int answer_to(struct fixture *f, const struct request *r) {
  while (r->done == 0) (void)loop_turn(f->worker.loop, -1);
  return r->q.result;
}

/* The result of taking the port (0: a new one, which is put there). */
static int take(struct fixture *f, uint8_t owner, const char *label, uint64_t serial, uint16_t *port) {
  struct request r;
  ask(f, &r, owner, label, serial, *port);
  int rc = answer_to(f, &r);
  *port = r.q.port;
  return rc;
}

static void release(struct fixture *f, uint16_t port, uint64_t serial) {
  keeper_release_port(f->relay.keeper, port, serial, PORT_KEPT);
}

static void a_label_takes_its_port_over_from_its_earlier_tunnel(void **state) {
  struct fixture *f = *state;
  uint16_t port = 0;
  assert_int_equal(take(f, 1, label_a, 1, &port), 0);
  assert_int_equal(take(f, 1, label_a, 2, &port), 0);
  assert_int_equal(take(f, 1, label_b, 3, &port), ERR_CONFLICT);
  assert_int_equal(take(f, 2, label_a, 4, &port), ERR_CONFLICT);
}

static void a_request_that_was_overtaken_takes_nothing_back(void **state) {
  struct fixture *f = *state;
  uint16_t port = 0, other = 0;
  assert_int_equal(take(f, 1, label_a, 2, &port), 0);
  assert_int_equal(take(f, 1, label_a, 1, &port), ERR_NOT_NOW);
  release(f, port, 1);             /* void: its holder is another */
  assert_int_equal(take(f, 1, label_b, 3, &other), 0);
  assert_int_not_equal(other, port);
  assert_int_equal(take(f, 1, label_b, 4, &port), ERR_CONFLICT);
}

static void a_released_port_waits_for_its_owner_and_for_nobody_else(void **state) {
  struct fixture *f = *state;
  uint16_t port = 0, other = 0, third = 0;
  assert_int_equal(take(f, 1, label_a, 1, &port), 0);
  release(f, port, 1);
  assert_int_equal(take(f, 2, label_b, 2, &other), 0);
  assert_int_not_equal(other, port);
  assert_int_equal(take(f, 2, label_b, 3, &third), ERR_LIMIT);
  assert_int_equal(take(f, 2, label_a, 4, &port), ERR_CONFLICT);
  assert_int_equal(take(f, 1, label_a, 5, &port), 0);
}

static void after_a_restart_a_held_port_is_kept_for_its_owner(void **state) {
  struct fixture *f = *state;
  uint16_t port = 0, newcomer = 0, second = 0;
  assert_int_equal(take(f, 1, label_a, 1, &port), 0);
  end(f);                          /* without a release, as after a crash */
  begin(f);
  assert_int_equal(take(f, 2, label_b, 1, &newcomer), 0);
  assert_int_not_equal(newcomer, port);
  assert_int_equal(take(f, 2, label_b, 2, &second), ERR_LIMIT);
  assert_int_equal(take(f, 1, label_a, 3, &port), 0);
}

static void a_port_outside_the_range_is_neither_taken_nor_released(void **state) {
  struct fixture *f = *state;
  uint16_t below = FROM - 1, above = 65535, low = 1;
  assert_int_equal(take(f, 1, label_a, 1, &below), ERR_CONFLICT);
  assert_int_equal(take(f, 1, label_a, 2, &above), ERR_CONFLICT);
  for (uint64_t serial = 0; serial < 3; serial++) {
    release(f, below, serial);
    release(f, above, serial);
    release(f, low, serial);
  }
  uint16_t port = 0;
  assert_int_equal(take(f, 1, label_a, 4, &port), 0); /* and the keeper still answers */
}

/* Returns while the keeper is in a commit, that of `r`. */
static void ask_and_hold(struct fixture *f, struct request *r) {
  commits.held = true;
  ask(f, r, 1, label_a, 1, 0);
  sem_wait(&commits.reached);
  commits.n = 0;
}

static void let_go(void) {
  commits.held = false;
  sem_post(&commits.go);
}

static void what_waits_shares_a_commit_and_owners_are_served_in_turn(void **state) {
  enum { GREEDY = 2 * REQUESTS_PER_COMMIT_MAX + 9 };
  struct fixture *f = *state;
  static struct request greedy[GREEDY];
  struct request first, other;
  answers = 0;
  ask_and_hold(f, &first);
  for (unsigned i = 0; i < GREEDY; i++) ask(f, &greedy[i], 1, label_a, i + 2, 0);
  ask(f, &other, 2, label_b, GREEDY + 2, 0);
  let_go();
  for (unsigned i = 0; i < GREEDY; i++) assert_int_equal(answer_to(f, &greedy[i]), 0);
  assert_int_equal(answer_to(f, &other), 0);
  assert_int_equal(first.done, 1);
  assert_int_equal(greedy[0].done, 2);
  assert_int_equal(other.done, 3);
  assert_int_equal(commits.n, 3);
}

static void what_is_withdrawn_costs_nothing(void **state) {
  enum { MANY = 50 };
  struct fixture *f = *state;
  struct request first, many[MANY], last;
  ask_and_hold(f, &first);
  assert_false(keeper_withdraw_port(f->relay.keeper, &first.q));
  for (unsigned i = 0; i < MANY; i++) ask(f, &many[i], 1, label_a, i + 2, 0);
  for (unsigned i = 0; i < MANY; i++) assert_true(keeper_withdraw_port(f->relay.keeper, &many[i].q));
  assert_false(keeper_withdraw_port(f->relay.keeper, &many[0].q));
  ask(f, &last, 1, label_a, MANY + 2, 0);
  let_go();
  assert_int_equal(answer_to(f, &last), 0);
  assert_int_equal(commits.n, 1);
  for (unsigned i = 0; i < MANY; i++) assert_int_equal(many[i].done, 0);
}

static void what_is_given_back_by_many_shares_a_commit(void **state) {
  enum { MANY = 40 };
  struct fixture *f = *state;
  struct request first, last;
  uint16_t ports[MANY];
  for (unsigned i = 0; i < MANY; i++) {
    ports[i] = 0;
    assert_int_equal(take(f, 3, label_b, 100 + i, &ports[i]), 0);
  }
  ask_and_hold(f, &first);
  for (unsigned i = 0; i < MANY; i++) release(f, ports[i], 100 + i);
  ask(f, &last, 3, label_b, 200, ports[0]);
  let_go();
  assert_int_equal(answer_to(f, &last), 0);
  assert_int_equal(commits.n, 1);
}

static void a_lease_that_cannot_be_written_is_not_promised(void **state) {
  struct fixture *f = *state;
  uint16_t held = 0, lost = 0;
  assert_int_equal(take(f, 1, label_a, 1, &held), 0);
  commits.fails = true;
  assert_int_equal(take(f, 2, label_b, 2, &lost), ERR_IO);
  assert_int_equal(take(f, 1, label_a, 3, &held), 0);  /* taken over: what stands on the disk holds for it, too */
  commits.fails = false;
  assert_int_equal(take(f, 2, label_b, 4, &lost), 0);
  end(f);
  begin(f);
  assert_int_equal(take(f, 3, label_b, 1, &held), ERR_CONFLICT);
  assert_int_equal(take(f, 3, label_b, 2, &lost), ERR_CONFLICT);
  assert_int_equal(take(f, 2, label_b, 3, &lost), 0);
}

static void a_lease_in_a_folder_that_has_gone_is_not_promised(void **state) {
  struct fixture *f = *state;
  char aside[80];
  uint16_t held = 0, lost = 0;
  assert_int_equal(take(f, 1, label_a, 1, &held), 0);
  snprintf(aside, sizeof aside, "%s.aside", f->dir);
  assert_int_equal(rename(f->dir, aside), 0);
  assert_int_equal(take(f, 2, label_b, 2, &lost), ERR_IO);
  assert_int_equal(take(f, 1, label_a, 3, &held), ERR_IO);
  assert_int_equal(rename(aside, f->dir), 0);
  assert_int_equal(take(f, 1, label_a, 4, &held), 0);
  assert_int_equal(take(f, 2, label_b, 5, &lost), 0);
}

static void at_the_end_what_was_given_back_is_one_commit(void **state) {
  enum { MANY = 2 * REQUESTS_PER_COMMIT_MAX };
  struct fixture *f = *state;
  struct request many[MANY];
  for (unsigned i = 0; i < MANY; i++) ask(f, &many[i], 1, label_a, i + 1, 0);
  for (unsigned i = 0; i < MANY; i++) assert_int_equal(answer_to(f, &many[i]), 0);
  keeper_stop(f->relay.keeper);
  commits.n = 0;
  for (unsigned i = 0; i < MANY; i++) release(f, many[i].q.port, i + 1);
  keeper_settle(f->relay.keeper);
  assert_int_equal(commits.n, 1);
  keeper_free(f->relay.keeper);
  certs_close(f->relay.certs);
  state_close(f->relay.state);
  begin(f);
}

struct revoking {
  struct revoke_request q;
  bool done;
};

static void on_revoked(struct revoke_request *q) { CONTAINER_OF(q, struct revoking, q)->done = true; }

static void ask_to_revoke(struct fixture *f, struct revoking *r, uint8_t id) {
  *r = (struct revoking){.q = {.what = {.root = {1}, .revoker = {1}, .id = {id}}, .done = on_revoked}};
  keeper_revoke(f->relay.keeper, &f->worker, &r->q);
}

static int revoke(struct fixture *f, uint8_t id) {
  struct revoking r;
  ask_to_revoke(f, &r, id);
  while (!r.done) (void)loop_turn(f->worker.loop, -1);
  return r.q.result;
}

/* Whether a chain with a certificate of this id, narrowed from the revoker's, is taken. */
static bool is_taken(struct fixture *f, uint8_t id) {
  const struct certificate chain[] = {{.id = {1}, .name = "root", .max_tunnels = 1}, {.id = {id}, .max_tunnels = 1}};
  struct owner *o = NULL;
  int rc = registry_owner(f->relay.registry, chain, 2, time(NULL), &o);
  assert_true(rc == 0 || rc == ERR_AUTH);
  registry_owner_unref(f->relay.registry, o);
  return rc == 0;
}

static void a_revocation_is_on_the_disk_when_it_is_answered(void **state) {
  struct fixture *f = *state;
  assert_true(is_taken(f, 2));
  assert_int_equal(revoke(f, 2), 0);
  assert_false(is_taken(f, 2));
  end(f);
  registry_free(f->relay.registry);
  assert_int_equal(registry_new(&f->relay, &f->relay.registry), 0);
  begin(f);
  assert_false(is_taken(f, 2));
  assert_true(is_taken(f, 3));
}

static void a_revocation_that_cannot_be_written_is_none(void **state) {
  struct fixture *f = *state;
  assert_int_equal(revoke(f, 2), 0);
  commits.fails = true;
  assert_int_equal(revoke(f, 2), ERR_IO);
  assert_int_equal(revoke(f, 3), ERR_IO);
  commits.fails = false;
  assert_false(is_taken(f, 2));    /* by the one before */
  assert_true(is_taken(f, 3));
  assert_int_equal(revoke(f, 3), 0);
  assert_false(is_taken(f, 3));
}

static void revocations_share_a_commit_and_one_that_waits_can_be_withdrawn(void **state) {
  enum { MANY = REQUESTS_PER_COMMIT_MAX };
  struct fixture *f = *state;
  struct request first;
  static struct revoking many[MANY];
  ask_and_hold(f, &first);
  for (uint8_t i = 0; i < MANY; i++) ask_to_revoke(f, &many[i], (uint8_t)(2 + i));
  assert_true(keeper_withdraw_revoke(f->relay.keeper, &many[0].q));
  let_go();
  for (unsigned i = 1; i < MANY; i++)
    while (!many[i].done) (void)loop_turn(f->worker.loop, -1);
  assert_int_equal(commits.n, 1);
  assert_false(keeper_withdraw_revoke(f->relay.keeper, &many[1].q));
  assert_false(many[0].done);
  assert_true(is_taken(f, 2));
  assert_false(is_taken(f, 3));
}

static void a_keeper_that_rests_or_has_left_revokes_nothing(void **state) {
  struct fixture *f = *state;
  struct revoking r;
  keeper_rest(f->relay.keeper);
  ask_to_revoke(f, &r, 2);
  (void)loop_turn(f->worker.loop, 20);
  assert_false(r.done);
  keeper_go_on(f->relay.keeper);
  while (!r.done) (void)loop_turn(f->worker.loop, -1);
  assert_int_equal(r.q.result, 0);
  keeper_leave(f->relay.keeper);
  assert_int_equal(revoke(f, 3), ERR_CLOSED);
  assert_true(is_taken(f, 3));
}

#define W(f) cmocka_unit_test_setup_teardown(f, set_up_wide, tear_down)
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
int main(void) {
  const struct CMUnitTest tests[] = {
    T(a_label_takes_its_port_over_from_its_earlier_tunnel), T(a_request_that_was_overtaken_takes_nothing_back),
    T(a_released_port_waits_for_its_owner_and_for_nobody_else), T(after_a_restart_a_held_port_is_kept_for_its_owner),
    T(a_port_outside_the_range_is_neither_taken_nor_released),
    W(what_waits_shares_a_commit_and_owners_are_served_in_turn), W(what_is_withdrawn_costs_nothing),
    W(what_is_given_back_by_many_shares_a_commit), T(a_lease_that_cannot_be_written_is_not_promised),
    T(a_lease_in_a_folder_that_has_gone_is_not_promised),
    W(at_the_end_what_was_given_back_is_one_commit), T(a_revocation_is_on_the_disk_when_it_is_answered),
    T(a_revocation_that_cannot_be_written_is_none),
    T(revocations_share_a_commit_and_one_that_waits_can_be_withdrawn),
    T(a_keeper_that_rests_or_has_left_revokes_nothing)};
  sem_init(&commits.reached, 0, 0);
  sem_init(&commits.go, 0, 0);
  sqlite3_auto_extension((void (*)(void))on_open);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
