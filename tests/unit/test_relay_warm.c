/* The pool of warm data connections: how many there are to be, and who gets which. The link is made by hand; what it
   says to its agent stays in its buffer. */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cm.h"
#include "base/secret.h"
#include "relay/link.h"
#include "relay/warm.h"
#include "wire/data.h"

enum { FAR_MAX = WARM_MAX + 8 };

struct fixture {
  struct relay relay;
  struct worker worker;
  struct owner *owner;
  struct link link;
  struct tunnel tunnel;
  struct link_keys *agent_keys;    /* the other end's */
  int far[FAR_MAX];                /* the agent's ends */
  size_t far_n;
};

static const uint8_t exporter[TLS_EXPORTER_BYTES] = {1}, shared[X25519_BYTES] = {2};

static uint64_t no_time(struct engine *e) { return e->heard_ms; }

static int set_up(void **state) {
  struct fixture *f = calloc(1, sizeof *f);
  const struct certificate c = {.id = {1}, .name = "alice", .max_tunnels = 1};
  static const struct engine_role role = {.is_relay = true, .now_ms = no_time};
  struct err e;
  if (f == NULL || registry_new(&f->relay, &f->relay.registry) != 0) return -1;
  f->relay.shares.total = 10000;
  f->worker.relay = &f->relay;
  f->worker.loop = loop_new(&e);
  f->worker.links_by_id = map_new(LINK_ID_BYTES);
  struct link *l = &f->link;
  l->worker = &f->worker;
  l->refs = 1;
  if (engine_start(&l->engine, &role, &(struct tls_takeover){.suite = 0x1301}) != 0) return -1;
  engine_open(&l->engine);
  l->in_turn = true;               /* nothing is sent */
  l->engine.id[0] = 7;
  l->engine.keys = link_keys_new(exporter, shared);
  f->agent_keys = link_keys_new(exporter, shared);
  warm_init(l);
  memcpy(f->tunnel.link_id, l->engine.id, sizeof l->engine.id);
  f->tunnel.worker = &f->worker;
  if (registry_owner(f->relay.registry, &c, 1, 0, &f->owner) != 0 ||
      registry_link_put(f->relay.registry, f->owner, l->engine.id, &f->worker) != 0 ||
      map_put(f->worker.links_by_id, l->engine.id, l) != 0)
    return -1;
  l->owner = f->owner;
  *state = f;
  return 0;
}

static int tear_down(void **state) {
  struct fixture *f = *state;
  warm_close(&f->link);
  engine_free(&f->link.engine);
  link_keys_free(f->agent_keys);
  while (f->far_n > 0) close(f->far[--f->far_n]);
  registry_link_remove(f->relay.registry, f->owner, f->link.engine.id);
  registry_owner_unref(f->relay.registry, f->owner);
  registry_free(f->relay.registry);
  loop_free(f->worker.loop);
  map_free(f->worker.links_by_id);
  free(f);
  return 0;
}

/* A data connection comes in. The relay's descriptor. */
static int arrive(struct fixture *f) {
  uint8_t bytes[PREFACE_BYTES];
  uint64_t number;
  struct number_keys keys;
  struct preface p;
  int fds[2];
  assert_true(f->far_n < FAR_MAX);
  assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
  f->far[f->far_n++] = fds[1];
  assert_int_equal(link_keys_next(f->agent_keys, &number, &keys), 0);
  assert_int_equal(preface_encode(f->link.engine.id, number, &keys, bytes), 0);
  assert_int_equal(preface_decode(bytes, &p), 0);
  warm_arrived(&f->worker, (struct wire){.fd = fds[0]}, &p);
  return fds[0];
}

static void on_answer(struct ask *a) { a->from = NULL; }

/* A visitor asks. True: it was answered at once. */
static bool asks(struct fixture *f, struct ask *a) {
  memset(a, 0, sizeof *a);
  warm_ask(a, &f->worker, &f->tunnel, on_answer);
  return a->from == NULL;
}

static void take_back(struct ask *a) {
  loop_io_del(&a->io);
  data_connection_close(&a->data);
}

static void the_most_recently_proven_is_used_first(void **state) {
  struct fixture *f = *state;
  struct ask a;
  int first = arrive(f), second = arrive(f);
  assert_true(asks(f, &a));
  assert_int_equal(a.data.wire.fd, second);
  take_back(&a);
  assert_true(asks(f, &a));
  assert_int_equal(a.data.wire.fd, first);
  take_back(&a);
}

static void who_finds_none_waits_and_the_first_to_come_is_the_first_served(void **state) {
  struct fixture *f = *state;
  struct ask a, b;
  assert_false(asks(f, &a));
  assert_false(asks(f, &b));
  int fd = arrive(f);
  assert_null(a.from);
  assert_int_equal(a.data.wire.fd, fd);
  assert_non_null(b.from);
  take_back(&a);
  warm_close(&f->link);            /* the link is lost, and with it the hope */
  assert_null(b.from);
  assert_int_equal(b.data.wire.fd, -1);
}

/* Before the loop has told of it: its event may stand behind the visitor's in the same turn. */
static void one_that_has_ended_or_spoken_is_given_to_nobody(void **state) {
  struct fixture *f = *state;
  struct ask a;
  int good = arrive(f);
  (void)arrive(f);
  close(f->far[--f->far_n]);
  (void)arrive(f);
  assert_int_equal(send(f->far[f->far_n - 1], "x", 1, MSG_NOSIGNAL), 1);
  assert_true(asks(f, &a));
  assert_int_equal(a.data.wire.fd, good);
  assert_int_equal(f->link.warm.idle_n, 0);
  take_back(&a);
  (void)arrive(f);
  close(f->far[--f->far_n]);
  assert_false(asks(f, &a));
  assert_true(f->link.warm.asked > 0);
  int fd = arrive(f);
  assert_null(a.from);
  assert_int_equal(a.data.wire.fd, fd);
  take_back(&a);
}

static void each_burst_that_empties_the_pool_doubles_it_up_to_a_limit(void **state) {
  struct fixture *f = *state;
  struct warm_pool *p = &f->link.warm;
  for (unsigned target = 2 * WARM_QUIET; p->target < WARM_MAX; target *= 2) {
    struct ask a;
    p->asked = 0;
    assert_false(asks(f, &a));
    assert_int_equal(p->target, target);
    assert_true(p->idle_n + p->asked >= target);       /* asked for at once */
    (void)arrive(f);
    take_back(&a);
  }
  struct ask a;
  p->asked = 0;
  assert_false(asks(f, &a));
  assert_int_equal(p->target, WARM_MAX);
  assert_true(p->asked <= WARM_MAX);
  (void)arrive(f);
  take_back(&a);
}

static void a_burst_finds_as_many_as_waited_in_the_last_one(void **state) {
  struct fixture *f = *state;
  enum { BURST = 8 };
  struct ask a[BURST];
  size_t at_once[2] = {0, 0};
  for (int i = 0; i < WARM_QUIET; i++) (void)arrive(f);
  for (int burst = 0; burst < 2; burst++) {
    for (int i = 0; i < BURST; i++) at_once[burst] += asks(f, &a[i]) ? 1 : 0;
    while (f->link.warm.asked > 0) (void)arrive(f);
    for (int i = 0; i < BURST; i++) {
      assert_null(a[i].from);
      take_back(&a[i]);
    }
  }
  assert_int_equal(at_once[0], WARM_QUIET);
  assert_int_equal(at_once[1], BURST);
  assert_int_equal(f->link.warm.target, BURST);  /* and no more than that */
}

static void a_pool_that_is_not_emptied_does_not_grow(void **state) {
  struct fixture *f = *state;
  struct ask a;
  for (int i = 0; i < 4; i++) (void)arrive(f);
  for (int i = 0; i < 2; i++) {
    assert_true(asks(f, &a));
    take_back(&a);
  }
  assert_int_equal(f->link.warm.target, WARM_QUIET);
}

static void after_a_burst_it_decays_and_the_longest_unproven_go(void **state) {
  struct fixture *f = *state;
  struct warm_pool *p = &f->link.warm;
  int first = arrive(f), last = first;
  for (int i = 1; i < 16; i++) last = arrive(f);
  p->target = 16;
  p->grown_ms = loop_now_ms(f->worker.loop);
  warm_tick(&f->link);
  assert_int_equal(p->target, 16);                     /* not yet */
  for (unsigned target = 8; target >= WARM_QUIET; target /= 2) {
    p->grown_ms = loop_now_ms(f->worker.loop) - WARM_DECAY_MS - 1;
    warm_tick(&f->link);
    assert_int_equal(p->target, target);
    assert_int_equal(p->idle_n, target + WARM_QUIET);
  }
  p->grown_ms = loop_now_ms(f->worker.loop) - WARM_DECAY_MS - 1;
  warm_tick(&f->link);
  assert_int_equal(p->target, WARM_QUIET);
  struct ask a;
  assert_true(asks(f, &a));
  assert_int_equal(a.data.wire.fd, last);
  take_back(&a);
}

static void no_more_than_the_limit_are_kept(void **state) {
  struct fixture *f = *state;
  f->link.warm.target = WARM_MAX;
  for (int i = 0; i <= WARM_MAX; i++) (void)arrive(f);
  assert_int_equal(f->link.warm.idle_n, WARM_MAX);
  assert_int_equal(f->worker.metrics.data_connections_refused_total, 1);
}

static void a_handshake_that_begins_has_one_fetched(void **state) {
  struct fixture *f = *state;
  struct warm_pool *p = &f->link.warm;
  (void)arrive(f);
  (void)arrive(f);
  for (unsigned i = 1; i <= 3; i++) {
    warm_hint(&f->worker, &f->tunnel);
    assert_int_equal(p->asked, i);
  }
}

static void a_tunnel_without_its_link_is_answered_at_once(void **state) {
  struct fixture *f = *state;
  struct ask a;
  f->tunnel.link_id[0]++;
  assert_true(asks(f, &a));
  assert_int_equal(a.data.wire.fd, -1);
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
/* Its agent has no descriptors for them: what was asked for is asked for anew when somebody needs it, and of a crowd
   that could not be served no more is aimed for than there are. */
static void what_cannot_be_dialled_is_no_supply(void **state) {
  struct fixture *f = *state;
  struct ask crowd[8], next;
  struct warm_pool *p = &f->link.warm;
  for (size_t i = 0; i < ARRAY_LEN(crowd); i++) assert_false(asks(f, &crowd[i]));
  assert_true(p->asked >= ARRAY_LEN(crowd) && p->target > WARM_QUIET);
  warm_short(&f->link, p->asked);
  assert_int_equal(p->asked, 0);
  assert_int_equal(p->target, WARM_QUIET);
  assert_false(asks(f, &next));
  assert_true(p->asked > ARRAY_LEN(crowd));      /* for them, too, who still wait */
  warm_short(&f->link, UINT16_MAX);
  assert_int_equal(p->asked, 0);
  warm_close(&f->link);
}

int main(void) {
  const struct CMUnitTest tests[] = {
    T(the_most_recently_proven_is_used_first), T(one_that_has_ended_or_spoken_is_given_to_nobody),
    T(who_finds_none_waits_and_the_first_to_come_is_the_first_served),
    T(each_burst_that_empties_the_pool_doubles_it_up_to_a_limit),
    T(a_burst_finds_as_many_as_waited_in_the_last_one), T(a_pool_that_is_not_emptied_does_not_grow),
    T(after_a_burst_it_decays_and_the_longest_unproven_go), T(no_more_than_the_limit_are_kept),
    T(a_handshake_that_begins_has_one_fetched), T(a_tunnel_without_its_link_is_answered_at_once),
    T(what_cannot_be_dialled_is_no_supply)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
