/* A stream of one relay that goes on in another: its bytes, its end, what it counts for. And bytes that are none. */
#include "relay_pair.h"

#include "relay/stream.h"
#include "relay/visitor.h"

enum { NUMBER = 3, SERIAL_BEFORE = 4 };

struct fixture {
  struct one_relay here, there;
  struct tunnel *tunnel;           /* of the first */
  struct number_keys keys;         /* the agent's */
  int agent, visitor;              /* the far ends */
};

static const struct certificate chain[] = {
    {.id = {1}, .name = "laptop", .max_tunnels = 5, .limits = {.max_streams = 9, .max_bytes_per_s = 50000000}},
    {.id = {2},
     .name = "build",
     .max_tunnels = 2,
     .expires_s = 9,
     .no_raw = true,
     .allow = {{.family = 4, .bits = 8, .bytes = {10}}},
     .allow_n = 1,
     .limits = {.max_visitors_per_s = 7}}};

static struct tunnel *tunnel_of(struct one_relay *r, struct owner *o) {
  struct tunnel *t = calloc(1, sizeof *t), *replaced;
  assert_non_null(t);
  t->refs = 1;
  t->owner = owner_ref(o);
  t->flags = TUNNEL_TCP | TUNNEL_PLAIN;
  memset(t->label, 'a', LABEL_CHARS);
  for (int i = 0; i <= SERIAL_BEFORE; i++) {
    assert_int_equal(registry_put(r->relay.registry, t, &replaced), 0);
    if (i < SERIAL_BEFORE) registry_remove(r->relay.registry, t);
  }
  return t;
}

static void tunnel_gone(struct one_relay *r, struct tunnel *t) {
  registry_remove(r->relay.registry, t);
  tunnel_unref(r->relay.registry, t);
}

static int set_up(void **state) {
  struct fixture *f = calloc(1, sizeof *f);
  if (f == NULL) return -1;
  one_relay_open(&f->here, PUMP_SPLICE);
  one_relay_open(&f->there, PUMP_SPLICE);
  struct owner *o = relay_owner(&f->here, chain, 2);
  f->tunnel = tunnel_of(&f->here, o);
  registry_owner_unref(f->here.relay.registry, o);
  f->agent = f->visitor = -1;
  for (size_t i = 0; i < sizeof f->keys.accept; i++) f->keys.accept[i] = (uint8_t)(i + NUMBER);
  *state = f;
  return 0;
}

static int tear_down(void **state) {
  struct fixture *f = *state;
  tunnel_gone(&f->here, f->tunnel);
  one_relay_close(&f->here);
  one_relay_close(&f->there);
  net_close(f->agent);
  net_close(f->visitor);
  free(f);
  return 0;
}

/* A visitor is handed off; ACCEPT is not there yet. */
static struct stream *handed_off(struct fixture *f) {
  struct stream_params p = {.worker = &f->here.worker, .tunnel = f->tunnel, .data = DATA_CONNECTION_NONE};
  uint8_t open[OPEN_MAX_BYTES];
  struct err e;
  assert_int_equal(addr_parse("10.1.2.3:4", &p.peer, &e), 0);
  p.local = p.peer;
  socket_pair(&p.data.wire.fd, &f->agent);
  socket_pair(&p.peer_fd, &f->visitor);
  p.data.keys = secret_alloc(sizeof *p.data.keys);
  assert_non_null(p.data.keys);
  *p.data.keys = f->keys;
  assert_true(visitor_enter_tunnel(&f->here.worker, tunnel_ref(f->tunnel)));
  assert_int_equal(stream_hand_off(&p), 0);
  tunnel_unref(f->here.relay.registry, f->tunnel);
  assert_true(net_recv(f->agent, open, sizeof open) > OPEN_HEADER_BYTES);
  struct stream *s = stream_any(&f->here.worker);
  assert_non_null(s);
  return s;
}

static void agent_accepts(struct fixture *f) {
  uint8_t bytes[ACCEPT_BYTES];
  assert_int_equal(accept_encode(ACCEPT_OK, &f->keys, bytes), 0);
  assert_int_equal(net_send(f->agent, bytes, sizeof bytes), sizeof bytes);
}

static void move(struct one_relay *from, struct one_relay *to) {
  struct buf state;
  int wire, peer;
  buf_init(&state, STREAM_EXPORT_MAX_BYTES);
  assert_int_equal(stream_export(stream_any(&from->worker), &state, &wire, &peer), 0);
  assert_null(stream_any(&from->worker));
  loop_turn(from->worker.loop, 0);
  assert_int_equal(stream_import(&to->worker, buf_data(&state), state.len, wire, peer), 0);
  buf_free(&state);
}

static void passes(struct one_relay *r, int from, int to, const char *text) {
  char got[64] = "";
  assert_int_equal(net_send(from, text, strlen(text)), strlen(text));
  for (int i = 0; i < 100 && strcmp(got, text) != 0; i++) {
    loop_turn(r->worker.loop, 1);
    size_t n = strlen(got);
    ssize_t more = net_recv(to, got + n, sizeof got - 1 - n);
    if (more > 0) got[n + (size_t)more] = '\0';
  }
  assert_string_equal(got, text);
}

static void ends(struct one_relay *r, int fd) {
  uint8_t byte;
  ssize_t n = NET_AGAIN;
  for (int i = 0; i < 100 && n == NET_AGAIN; i++) {
    loop_turn(r->worker.loop, 1);
    n = net_recv(fd, &byte, 1);
  }
  assert_int_equal(n, 0);
}

static void a_moved_stream_goes_on_and_ends_in_the_other_relay(void **state) {
  struct fixture *f = *state;
  (void)handed_off(f);
  agent_accepts(f);
  passes(&f->here, f->agent, f->visitor, "before");
  move(&f->here, &f->there);
  passes(&f->there, f->agent, f->visitor, "after");
  passes(&f->there, f->visitor, f->agent, "back");
  move(&f->there, &f->here);       /* and home again */
  passes(&f->here, f->visitor, f->agent, "again");
  move(&f->here, &f->there);
  assert_int_equal(shutdown(f->visitor, SHUT_WR), 0);
  ends(&f->there, f->agent);
  assert_int_equal(shutdown(f->agent, SHUT_WR), 0);
  ends(&f->there, f->visitor);
  for (int i = 0; i < 100 && stream_any(&f->there.worker) != NULL; i++) loop_turn(f->there.worker.loop, 1);
  assert_int_equal(f->there.worker.metrics.streams_closed[CLOSE_CLEAN], 1);
  assert_int_equal(f->here.worker.metrics.streams_closed[CLOSE_CLEAN], 0);
}

/* Nobody but the relay that wrote OPEN could tell a true ACCEPT from another. */
static void accept_is_awaited_and_verified_in_the_other_relay(void **state) {
  struct fixture *f = *state;
  (void)handed_off(f);
  assert_int_equal(f->here.worker.visitors_n, 1);
  move(&f->here, &f->there);
  assert_int_equal(f->here.worker.visitors_n, 0);
  assert_int_equal(f->there.worker.visitors_n, 1);
  agent_accepts(f);
  passes(&f->there, f->agent, f->visitor, "answer");
  assert_int_equal(f->there.worker.visitors_n, 0);
}

static void a_false_accept_ends_a_moved_stream(void **state) {
  struct fixture *f = *state;
  (void)handed_off(f);
  move(&f->here, &f->there);
  f->keys.accept[0] ^= 1;
  agent_accepts(f);
  for (int i = 0; i < 100 && stream_any(&f->there.worker) != NULL; i++) loop_turn(f->there.worker.loop, 1);
  assert_int_equal(f->there.worker.metrics.streams_closed[CLOSE_PROTOCOL], 1);
}

static void a_sealed_stream_moves_with_its_keys(void **state) {
  struct fixture *f = *state;
  f->tunnel->flags = TUNNEL_TCP;
  (void)handed_off(f);
  agent_accepts(f);
  move(&f->here, &f->there);
  assert_int_equal(net_send(f->visitor, "hello", 5), 5);
  uint8_t record[64];
  ssize_t n = NET_AGAIN;
  for (int i = 0; i < 100 && n == NET_AGAIN; i++) {
    loop_turn(f->there.worker.loop, 1);
    n = net_recv(f->agent, record, sizeof record);
  }
  assert_int_equal(n, 5 + RECORD_OVERHEAD_BYTES);
}

/* At every step of the owner's chain, and in the tunnel of either relay. */
static void it_counts_where_it_is(void **state) {
  struct fixture *f = *state;
  struct owner *o = f->tunnel->owner;
  (void)handed_off(f);
  agent_accepts(f);
  passes(&f->here, f->agent, f->visitor, "12345");
  assert_int_equal(o->account.visitors, 1);
  uint64_t used = f->here.relay.shares.used;
  struct owner *there = relay_owner(&f->there, chain, 1);
  struct tunnel *t = tunnel_of(&f->there, there);
  assert_int_equal(t->serial, f->tunnel->serial);
  move(&f->here, &f->there);
  assert_int_equal(o->account.visitors + o->parent->account.visitors + f->tunnel->streams_now, 0);
  assert_int_equal(f->here.relay.shares.used, 0);
  assert_int_equal(f->there.relay.shares.used, used);
  assert_int_equal(there->account.visitors, 1);
  assert_int_equal(t->streams_now, 1);
  assert_int_equal(t->streams_total, 0);
  assert_int_equal(there->usage->streams_now, 1);
  assert_int_equal(there->usage->streams_total, 0);
  passes(&f->there, f->visitor, f->agent, "123");
  assert_int_equal(there->usage->from_visitors.bytes, 3);
  stream_close_all(&f->there.worker);
  assert_int_equal(there->account.visitors + t->streams_now + there->usage->streams_now, 0);
  tunnel_gone(&f->there, t);
  registry_owner_unref(f->there.relay.registry, there);
}

static void the_owner_is_who_he_was(void **state) {
  struct fixture *f = *state;
  (void)handed_off(f);
  move(&f->here, &f->there);
  struct owner *was = f->tunnel->owner, *is = relay_owner(&f->there, chain, 2);
  assert_memory_equal(is->id, was->id, sizeof is->id);
  assert_string_equal(is->name, "laptop/build");
  assert_string_equal(is->parent->name, "laptop");
  assert_int_equal(is->max_tunnels, 2);
  assert_int_equal(is->expires_s, 9);
  assert_true(is->no_raw && !is->parent->no_raw);
  assert_memory_equal(is->allow, was->allow, sizeof is->allow);
  assert_memory_equal(&is->account.limits, &was->account.limits, sizeof is->account.limits);
  assert_memory_equal(&is->parent->account.limits, &was->parent->account.limits, sizeof is->account.limits);
  assert_true(is->account.visitors_until_us > 0);        /* what he has used up, he has */
  assert_int_equal(is->account.visitors_until_us, was->account.visitors_until_us);
  assert_true(is->rate == &is->parent->own_rate);
  registry_owner_unref(f->there.relay.registry, is);
}

/* Whatever is taken for a stream lives and ends like one; whatever is not takes nothing. */
static void try(struct fixture *f, const uint8_t *state, size_t n, bool must_fail) {
  int wire, peer, agent, visitor;
  socket_pair(&wire, &agent);
  socket_pair(&peer, &visitor);
  int rc = stream_import(&f->there.worker, state, n, wire, peer);
  assert_false(rc == 0 && must_fail);
  if (rc == 0) {
    loop_turn(f->there.worker.loop, 0);
    stream_close_all(&f->there.worker);
    loop_turn(f->there.worker.loop, 0);
  } else {
    assert_true(rc == ERR_SYNTAX || rc == ERR_NOMEM);
    net_close(wire);
    net_close(peer);
  }
  assert_null(stream_any(&f->there.worker));
  assert_int_equal(f->there.relay.shares.used, 0);
  assert_int_equal(f->there.worker.visitors_n, 0);
  net_close(agent);
  net_close(visitor);
}

static void no_part_and_no_damage_of_its_bytes_harms(void **state) {
  struct fixture *f = *state;
  struct buf bytes;
  int wire, peer;
  f->tunnel->flags = TUNNEL_TCP;
  (void)handed_off(f);
  buf_init(&bytes, STREAM_EXPORT_MAX_BYTES);
  assert_int_equal(stream_export(stream_any(&f->here.worker), &bytes, &wire, &peer), 0);
  uint8_t *p = buf_data(&bytes);
  for (size_t n = 0; n < bytes.len; n++) try(f, p, n, true);
  for (size_t i = 0; i < bytes.len; i++) {
    for (int bit = 0; bit < 8; bit += 7) {
      p[i] ^= (uint8_t)(1 << bit);
      try(f, p, bytes.len, false);
      p[i] ^= (uint8_t)(1 << bit);
    }
  }
  assert_int_equal(stream_import(&f->there.worker, p, bytes.len, wire, peer), 0);
  buf_free(&bytes);
}

/* It is not torn out of a relay that cannot say what it is: here, what it holds for a visitor who does not read. */
static void an_export_that_does_not_fit_changes_nothing(void **state) {
  static uint8_t bytes[16384];
  struct fixture *f = *state;
  struct stream *s = handed_off(f);
  struct buf small;
  size_t sent = 0, got = 0;
  int wire, peer;
  agent_accepts(f);
  for (int idle = 0; idle < 3; loop_turn(f->here.worker.loop, 1)) {
    ssize_t n = net_send(f->agent, bytes, sizeof bytes);
    if (n > 0) sent += (size_t)n;
    idle = n > 0 ? 0 : idle + 1;
  }
  buf_init(&small, 3000);
  assert_int_equal(buf_append(&small, "before", 6), 0);
  assert_int_equal(stream_export(s, &small, &wire, &peer), ERR_LIMIT);
  assert_int_equal(small.len, 6);
  buf_free(&small);
  for (int i = 0; i < 1000 && got < sent; i++, loop_turn(f->here.worker.loop, 1)) {
    ssize_t n = net_recv(f->visitor, bytes, sizeof bytes);
    if (n > 0) got += (size_t)n;
  }
  assert_int_equal(got, sent);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(a_moved_stream_goes_on_and_ends_in_the_other_relay, set_up, tear_down),
      cmocka_unit_test_setup_teardown(accept_is_awaited_and_verified_in_the_other_relay, set_up, tear_down),
      cmocka_unit_test_setup_teardown(a_false_accept_ends_a_moved_stream, set_up, tear_down),
      cmocka_unit_test_setup_teardown(a_sealed_stream_moves_with_its_keys, set_up, tear_down),
      cmocka_unit_test_setup_teardown(it_counts_where_it_is, set_up, tear_down),
      cmocka_unit_test_setup_teardown(the_owner_is_who_he_was, set_up, tear_down),
      cmocka_unit_test_setup_teardown(no_part_and_no_damage_of_its_bytes_harms, set_up, tear_down),
      cmocka_unit_test_setup_teardown(an_export_that_does_not_fit_changes_nothing, set_up, tear_down),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
