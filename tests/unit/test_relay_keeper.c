/* Who has a raw port when its takers and givers run in different threads and their messages arrive in any order. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cm.h"
#include "loop/loop.h"
#include "relay/keeper.h"
#include "relay/registry.h"
#include "relay/worker.h"

enum { FROM = 21000, TO = 21001 };
static const char label_a[] = "aaaaaaaaaaaaaaaaaaaaaaaa", label_b[] = "bbbbbbbbbbbbbbbbbbbbbbbb";

struct fixture {
  char dir[64];
  struct relay relay;
  struct relay_options options;
  struct worker worker;            /* only its loop, which the test turns itself */
};

static void begin(struct fixture *f) {
  struct err e = {0};
  if (state_open(f->dir, &f->relay.state, &e) != 0 || certs_open(f->relay.state, "r.test", NULL, NULL, &f->relay.certs, &e) != 0 ||
      keeper_start(&f->relay, &f->relay.keeper, &e) != 0)
    fail_msg("%s", e.text);
}

static void end(struct fixture *f) {
  keeper_stop(f->relay.keeper);
  keeper_free(f->relay.keeper);
  certs_close(f->relay.certs);
  state_close(f->relay.state);
}

static int set_up(void **state) {
  struct fixture *f = calloc(1, sizeof *f);
  if (f == NULL) return -1;
  strcpy(f->dir, "/tmp/adit-test-XXXXXX");
  f->options.domain = "r.test";
  f->options.tcp_port_from = FROM;
  f->options.tcp_port_to = TO;
  f->relay.options = &f->options;
  f->worker.relay = &f->relay;
  f->worker.loop = loop_new(NULL);
  pthread_mutex_init(&f->relay.ticket_lock, NULL);
  if (mkdtemp(f->dir) == NULL || f->worker.loop == NULL || registry_new(&f->relay, &f->relay.registry) != 0) return -1;
  begin(f);
  *state = f;
  return 0;
}

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
  bool done;
};

static void on_done(struct port_request *q) { CONTAINER_OF(q, struct request, q)->done = true; }

/* The result of taking the port (0: a new one, which is put there). */
static int take(struct fixture *f, uint8_t owner, const char *label, uint64_t serial, uint16_t *port) {
  struct request r = {.q = {.owner = {owner}, .serial = serial, .port = *port, .done = on_done}};
  strcpy(r.q.label, label);
  keeper_take_port(f->relay.keeper, &f->worker, &r.q);
  while (!r.done) (void)loop_turn(f->worker.loop, -1);
  *port = r.q.port;
  return r.q.result;
}

static void release(struct fixture *f, uint16_t port, uint64_t serial) { keeper_release_port(f->relay.keeper, port, serial, PORT_KEPT); }

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

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
int main(void) {
  const struct CMUnitTest tests[] = {
    T(a_label_takes_its_port_over_from_its_earlier_tunnel), T(a_request_that_was_overtaken_takes_nothing_back),
    T(a_released_port_waits_for_its_owner_and_for_nobody_else), T(after_a_restart_a_held_port_is_kept_for_its_owner),
    T(a_port_outside_the_range_is_neither_taken_nor_released)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
