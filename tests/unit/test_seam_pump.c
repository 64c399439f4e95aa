/* The pump and the record layer when what lies below them fails: each allocation in turn, and a far end that
   acknowledges nothing; and how often it is called. A test named test_seam_* is linked so that it stands between the
   layers and these calls. */
#include "pump_far.h"

#include "base/buf.h"
#include "seam_memory.h"

uint32_t __real_net_unacked_ms(int fd);
ssize_t __real_net_recv(int fd, void *p, size_t n);
ssize_t __real_net_splice(int in, int out, size_t n, bool more);
uint32_t __wrap_net_unacked_ms(int fd);
ssize_t __wrap_net_recv(int fd, void *p, size_t n);
ssize_t __wrap_net_splice(int in, int out, size_t n, bool more);

static int unacked_fd = -1;
static int watched_fd = -1;        /* reads from it are counted */
static unsigned reads;

uint32_t __wrap_net_unacked_ms(int fd) { return fd == unacked_fd ? UNACKED_MAX_MS + 1 : __real_net_unacked_ms(fd); }

ssize_t __wrap_net_recv(int fd, void *p, size_t n) {
  if (fd == watched_fd) reads++;
  return __real_net_recv(fd, p, n);
}

ssize_t __wrap_net_splice(int in, int out, size_t n, bool more) {
  if (in == watched_fd) reads++;
  return __real_net_splice(in, out, n, more);
}

static void buf_scenario(void) {
  struct buf b;
  uint8_t part[1000] = {1};
  size_t have = 0;
  buf_init(&b, 10000);
  armed = true;
  for (int i = 0; i < 10; i++) {
    int r = buf_append(&b, part, sizeof part);
    assert_true(r == 0 || r == ERR_NOMEM);
    if (r == 0) have += sizeof part;
    assert_int_equal(b.len, have);
  }
  armed = false;
  assert_int_equal(have, failed ? 9000 : 10000);
  buf_free(&b);
}

static void sealed_scenario(void) {
  struct sealed *far = make_sealed(true, 0);
  uint8_t record[256] = {0}, *plain;
  size_t consumed, n;
  struct sealed_params params = {
    .suite = tls_suite_find(0x1303), .read_secret = secret_up, .write_secret = secret_down};
  armed = true;
  struct sealed *s = sealed_new(&params);
  if (s != NULL) {
    record[RECORD_HEADER_BYTES] = 1;
    bool wrote = sealed_write(s, record, 1) == 0;
    if (wrote) {
      enum sealed_result r = sealed_read(s, record, 1 + RECORD_OVERHEAD_BYTES, &consumed, &plain, &n);
      assert_int_equal(r, SEALED_FAILED); /* our own record is not one of the peer's */
    }
    assert_true(sealed_owes(s));
    n = sealed_write_owed(s, record);
    /* behind a record that failed the peer can read none */
    assert_true(n == 0 || (wrote && n == 2 + RECORD_OVERHEAD_BYTES));
    assert_true(sealed_write_ended(s));
  }
  armed = false;
  sealed_free(s);
  sealed_free(far);
}

/* A key that cannot be changed ends the stream: nothing goes out under the old one. */
static void update_scenario(void) {
  static const uint8_t message[] = {24, 0, 0, 1, 1};
  struct sealed *s = make_sealed(false, 0);
  struct record_keys keys;
  uint8_t record[64], *plain;
  size_t consumed, n;
  assert_int_equal(record_keys_init(&keys, tls_suite_find(0x1301), secret_up, 0, true), 0);
  memcpy(record + RECORD_HEADER_BYTES, message, sizeof message);
  assert_int_equal(record_seal(&keys, RECORD_HANDSHAKE, record, sizeof message), 0);
  record_keys_free(&keys);
  armed = true;
  enum sealed_result r = sealed_read(s, record, sizeof message + RECORD_OVERHEAD_BYTES, &consumed, &plain, &n);
  assert_true(r == SEALED_NOTHING || (failed && r == SEALED_FAILED));
  uint8_t owed[SEALED_OWED_MAX];
  n = sealed_write_owed(s, owed);
  armed = false;
  if (!failed) assert_int_equal(n, sizeof message + RECORD_OVERHEAD_BYTES);
  if (n == 0) assert_int_equal(sealed_write(s, record, 1), ERR_NOT_NOW);
  sealed_free(s);
}

static enum pump_mode mode;
static bool with_seal;

/* Bytes both ways, a KeyUpdate, a clean end; or whatever an allocation that fails makes of it. */
static void pump_scenario(void) {
  struct fixture f = {.rig = rig_new(mode), .far.sealed = make_sealed(true, 0)};
  struct rig *r = f.rig;
  struct pump_params params = {.wire.fd = r->wire_fd, .peer_fd = r->peer_fd, .on_end = rig_on_end, .user = r,
                               .sealed = with_seal ? make_sealed(false, 0) : NULL,
                               .peer_first = (const uint8_t *)"first", .peer_first_n = 5};
  struct err e = {0};
  char got[64];
  rig_send_text(r->visitor, "up");
  if (with_seal) far_send_text(&f, "down");
  else rig_send_text(r->agent, "down");
  shutdown(r->visitor, SHUT_WR);
  if (with_seal) far_close(&f);
  shutdown(r->agent, SHUT_WR);
  armed = true;
  if (pump_start(r->pool, &params, &r->pump, &e) == 0) {
    r->params = params;
    RIG_UNTIL(r, r->ended);
    armed = false;
    if (!failed) assert_int_equal(r->why, CLOSE_CLEAN);
    if (r->why == CLOSE_CLEAN) rig_expect_text(r, r->visitor, "firstdown");
    RIG_UNTIL(r, list_empty(&r->pool->lingers));
    f.far.keep_text = true;
    if (with_seal) far_read(&f, SIZE_MAX);       /* which fails at a record that it cannot read */
    else while (rig_recv(r->agent, got, sizeof got) > 0) continue;
  } else {
    armed = false;
    assert_true(failed);
    sealed_free(params.sealed);    /* nothing was taken */
    net_close(r->wire_fd);
    net_close(r->peer_fd);
  }
  rig_free(r);
  sealed_free(f.far.sealed);
}

static void a_buf_survives_each_allocation_failing(void **state) {
  (void)state;
  fail_each_allocation(buf_scenario);
}

static void the_record_layer_survives_each_allocation_failing(void **state) {
  (void)state;
  fail_each_allocation(sealed_scenario);
  fail_each_allocation(update_scenario);
}

static void a_spliced_pump_survives_each_allocation_failing(void **state) {
  (void)state;
  mode = PUMP_SPLICE;
  with_seal = false;
  fail_each_allocation(pump_scenario);
}

static void a_copying_pump_survives_each_allocation_failing(void **state) {
  (void)state;
  mode = PUMP_COPY;
  with_seal = false;
  fail_each_allocation(pump_scenario);
}

static void a_sealed_pump_survives_each_allocation_failing(void **state) {
  (void)state;
  mode = PUMP_SPLICE;
  with_seal = true;
  fail_each_allocation(pump_scenario);
}

/* on_end may end any other pump, in the midst of the sweep. */
struct neighbours {
  struct rig *rig;
  struct pump *last;
};

static void on_end_abort_neighbour(struct pump *p, void *user, enum close_reason why, uint64_t to_peer,
                                   uint64_t to_wire) {
  struct neighbours *n = user;
  (void)p;
  (void)to_peer;
  (void)to_wire;
  assert_int_equal(why, CLOSE_UNACKED);
  pump_abort(n->last, CLOSE_LOCAL);
}

static void the_sweep_resets_what_is_unacknowledged_and_nothing_else(void **state) {
  (void)state;
  struct rig *r = rig_new(PUMP_SPLICE);
  struct neighbours n = {.rig = r};
  int visitor[2], peer[2], agent[2], wire[2];
  for (int i = 0; i < 2; i++) {
    rig_tcp_pair(&visitor[i], &peer[i]);
    rig_tcp_pair(&agent[i], &wire[i]);
    assert_int_equal(net_stream_setup(peer[i]), 0);
    assert_int_equal(net_stream_setup(wire[i]), 0);
  }
  struct err e = {0};
  struct pump *dead;
  struct pump_params params = {.wire.fd = wire[0], .peer_fd = peer[0], .on_end = on_end_abort_neighbour, .user = &n};
  assert_int_equal(pump_start(r->pool, &params, &dead, &e), 0);
  struct pump_params healthy = {0};
  rig_start(r, &healthy);
  params = (struct pump_params){.wire.fd = wire[1], .peer_fd = peer[1]};
  assert_int_equal(pump_start(r->pool, &params, &n.last, &e), 0);
  size_t sent = 0;
  RIG_UNTIL(r, (rig_send_pattern(agent[0], &sent, SIZE_MAX), dead->to_peer.wants_write));
  unacked_fd = peer[0];
  assert_int_equal(loop_timer_set(r->loop, &r->pool->sweep, 0, r->pool->sweep.fn), 0);
  loop_turn(r->loop, 0);
  assert_int_equal(pump_pool_stats(r->pool)->pumps, 1);
  unacked_fd = -1;
  assert_false(r->ended);
  assert_true(loop_timer_is_set(&r->pool->sweep));
  for (int i = 0; i < 2; i++) {
    size_t got = 0;
    assert_int_equal(rig_expect_pattern(visitor[i], &got, SIZE_MAX), RIG_RESET);
    rig_close(&visitor[i]);
    rig_close(&agent[i]);
  }
  rig_free(r);
}

static void sweep_now(struct rig *r) {
  assert_int_equal(loop_timer_set(r->loop, &r->pool->sweep, 0, r->pool->sweep.fn), 0);
  loop_turn(r->loop, 0);
}

static void no_sweep_looks_at_a_stream_that_idles(void **state) {
  (void)state;
  struct rig *r = rig_new(PUMP_SPLICE);
  rig_start(r, &(struct pump_params){0});
  for (int i = 0; i < 2; i++) {
    rig_send_text(r->agent, "down");
    rig_expect_text(r, r->visitor, "down");
    RIG_UNTIL(r, socket_is_delivered(r->peer_fd));
    sweep_now(r);
    assert_false(list_empty(&r->pool->active));  /* it has moved something just now */
    assert_true(loop_timer_is_set(&r->pool->sweep));
    r->pump->to_peer.progress_ms -= SWEEP_MS;
    r->pump->to_wire.progress_ms = 0;
    sweep_now(r);
    assert_true(list_empty(&r->pool->active));
    assert_false(loop_timer_is_set(&r->pool->sweep));
  }
  rig_free(r);
}

static void whoever_moves_sets_a_sweep_for_which_there_was_no_memory(void **state) {
  (void)state;
  struct rig *r = rig_new(PUMP_SPLICE);
  rig_start(r, &(struct pump_params){0});
  loop_timer_stop(&r->pool->sweep);
  rig_send_text(r->agent, "down");
  rig_expect_text(r, r->visitor, "down");
  assert_true(loop_timer_is_set(&r->pool->sweep));
  rig_free(r);
}

/* Allocations of a message each way. */
static unsigned exchange(struct fixture *f) {
  failed = false;
  until_failure = UINT_MAX;
  armed = true;
  far_send_text(f, "up");
  rig_expect_text(f->rig, f->rig->visitor, "up");
  rig_send_text(f->rig->visitor, "down");
  far_expect_text(f, "down");
  armed = false;
  return UINT_MAX - until_failure;
}

static void a_sealed_stream_that_idles_gives_its_ciphers_back_and_goes_on(void **state) {
  (void)state;
  struct fixture f = {.rig = rig_new(PUMP_COPY), .far.sealed = make_sealed(true, 0)};
  start_sealed(&f, 0);
  (void)exchange(&f);
  unsigned while_busy = exchange(&f);
  for (int i = 0; i < 3; i++) {
    RIG_UNTIL(f.rig, socket_is_delivered(f.rig->peer_fd) && socket_is_delivered(f.rig->wire_fd));
    f.rig->pump->to_peer.progress_ms = f.rig->pump->to_wire.progress_ms = 0;
    sweep_now(f.rig);
    /* Of each cipher its own and OpenSSL's at least; a stream that is moved all the time has new ones anyway. */
    assert_true(exchange(&f) > (rig_moves ? 0 : while_busy + 4));
    assert_int_equal(exchange(&f), while_busy);
  }
  rig_free(f.rig);
  sealed_free(f.far.sealed);
}

/* It makes a cipher, which is given back like any. */
static void a_record_without_data_is_an_activity_too(void **state) {
  (void)state;
  struct fixture f = {.rig = rig_new(PUMP_COPY), .far.sealed = make_sealed(true, 0)};
  struct record_keys keys;
  uint8_t record[RECORD_OVERHEAD_BYTES];
  start_sealed(&f, 0);
  f.rig->pump->to_peer.progress_ms = f.rig->pump->to_wire.progress_ms = 0;
  sweep_now(f.rig);
  assert_true(rig_moves || list_empty(&f.rig->pool->active));
  assert_int_equal(record_keys_init(&keys, tls_suite_find(0x1301), secret_up, 0, true), 0);
  assert_int_equal(record_seal(&keys, RECORD_APPLICATION_DATA, record, 0), 0);
  record_keys_free(&keys);
  assert_int_equal(send(f.rig->agent, record, sizeof record, MSG_NOSIGNAL), sizeof record);
  RIG_UNTIL(f.rig, !list_empty(&f.rig->pool->active));
  rig_free(f.rig);
  sealed_free(f.far.sealed);
}

static void a_direction_that_idles_costs_no_system_call(void **state) {
  (void)state;
  for (mode = PUMP_SPLICE; mode <= PUMP_COPY; mode++) {
    struct rig *r = rig_new(mode);
    struct pump_params params = {0};
    rig_start(r, &params);
    rig_settle(r);
    watched_fd = r->peer_fd;
    reads = 0;
    for (int i = 0; i < 8; i++) {
      rig_send_text(r->agent, "down");
      rig_expect_text(r, r->visitor, "down");
    }
    assert_int_equal(reads, 0);
    rig_send_text(r->visitor, "up");
    rig_expect_text(r, r->agent, "up");
    assert_true(reads > 0);
    watched_fd = -1;
    rig_free(r);
  }
}

int main(void) {
  if (!seam_memory_install()) return 1;
  /* OpenSSL's one-time allocations, so that they do not fail instead. */
  uint8_t record[1 + RECORD_OVERHEAD_MAX];
  struct sealed *s = make_sealed(false, 0);
  if (sealed_write(s, record, 1) != 0) return 1;
  sealed_free(s);
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(a_buf_survives_each_allocation_failing),
    cmocka_unit_test(the_record_layer_survives_each_allocation_failing),
    cmocka_unit_test(a_spliced_pump_survives_each_allocation_failing),
    cmocka_unit_test(a_copying_pump_survives_each_allocation_failing),
    cmocka_unit_test(a_sealed_pump_survives_each_allocation_failing),
    cmocka_unit_test(the_sweep_resets_what_is_unacknowledged_and_nothing_else),
    cmocka_unit_test(no_sweep_looks_at_a_stream_that_idles),
    cmocka_unit_test(whoever_moves_sets_a_sweep_for_which_there_was_no_memory),
    cmocka_unit_test(a_sealed_stream_that_idles_gives_its_ciphers_back_and_goes_on),
    cmocka_unit_test(a_record_without_data_is_an_activity_too),
    cmocka_unit_test(a_direction_that_idles_costs_no_system_call),
  };
  int failed_tests = cmocka_run_group_tests(tests, NULL, NULL);
  rig_moves = true;
  return failed_tests + cmocka_run_group_tests(tests, NULL, NULL);
}
