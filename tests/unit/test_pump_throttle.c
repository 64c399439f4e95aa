/* Streams with a byte rate: they read no more than it allows, wait without work, and end as others do. */
#include "pump_far.h"

enum { WAITS_BYTES = 60000 };                    /* fits the kernel, and several bursts */

static enum pump_mode splice_mode = PUMP_SPLICE, copy_mode = PUMP_COPY;

struct throttled {
  struct fixture far;
  struct rig *rig;
  struct rate rate;
};

static int plain_set_up(void **state) {
  const enum pump_mode *mode = *state;
  struct throttled *t = calloc(1, sizeof *t);
  assert_non_null(t);
  t->rig = t->far.rig = rig_new(*mode);
  t->rate = rig_still_rate();
  *state = t;
  return 0;
}

static int plain_tear_down(void **state) {
  struct throttled *t = *state;
  rig_free(t->rig);
  sealed_free(t->far.far.sealed);
  free(t);
  return 0;
}

static void start(struct throttled *t) {
  struct pump_params params = {.rate = &t->rate};
  rig_start(t->rig, &params);
}

static void rig_sends(int fd, size_t n) {
  size_t sent = 0;
  rig_send_pattern(fd, &sent, n);
  assert_int_equal(sent, n);
}

/* Of both directions together: the burst, and no step more. */
static void assert_the_burst_was_read(const struct throttled *t) {
  uint64_t moved = t->rig->to_peer_tally.bytes + t->rig->to_wire_tally.bytes;
  assert_true(moved <= RIG_STILL_BURST_BYTES);
  assert_true(moved > RIG_STILL_BURST_BYTES - RIG_STILL_STEP_BYTES);
}

static void what_is_beyond_the_rate_waits_in_the_kernel_and_costs_nothing(void **state) {
  struct throttled *t = *state;
  struct rig *r = t->rig;
  start(t);
  rig_sends(r->agent, WAITS_BYTES);
  rig_settle(r);                   /* nothing spins */
  assert_the_burst_was_read(t);
  assert_true(r->pump->to_peer.throttled);
  assert_false(r->pump->to_peer.wants_read);
  assert_int_equal(pump_pool_stats(r->pool)->buffers, 0);
  assert_int_equal(pump_pool_stats(r->pool)->pipes, 0);
  assert_true(pump_pool_stats(r->pool)->waits > 0);
  size_t got = 0;
  RIG_UNTIL(r, (rig_next_turn(r), rig_expect_pattern(r->visitor, &got, SIZE_MAX), got == WAITS_BYTES));
  rig_settle(r);
  assert_false(r->pump->to_peer.throttled);
  assert_int_equal(r->pump->to_peer.granted, 0);
}

static void a_turn_reads_one_step(void **state) {
  struct throttled *t = *state;
  struct rig *r = t->rig;
  start(t);
  rig_sends(r->visitor, WAITS_BYTES);
  rig_settle(r);
  for (int i = 0; i < 5; i++) {
    uint64_t before = r->to_wire_tally.bytes;
    rig_next_turn(r);
    rig_settle(r);
    assert_int_equal(r->to_wire_tally.bytes - before, RIG_STILL_STEP_BYTES);
  }
}

static void both_directions_and_other_streams_share_one_rate(void **state) {
  struct throttled *t = *state;
  struct rig *r = t->rig, *other;
  struct pump_params params = {.rate = &t->rate};
  start(t);
  rig_sends(r->agent, WAITS_BYTES);
  rig_sends(r->visitor, WAITS_BYTES);
  rig_settle(r);
  other = rig_new(PUMP_SPLICE);
  rig_start(other, &params);
  rig_sends(other->visitor, WAITS_BYTES);
  rig_settle(other);
  assert_true(r->pump->to_peer.throttled && r->pump->to_wire.throttled && other->pump->to_wire.throttled);
  assert_the_burst_was_read(t);
  assert_int_equal(other->to_wire_tally.bytes, 0);
  /* Each has a turn of its own, one after the other. */
  uint64_t a = r->pump->to_peer.granted_at_ms, b = r->pump->to_wire.granted_at_ms,
           c = other->pump->to_wire.granted_at_ms;
  assert_true(a != b && b != c && c != a);
  rig_free(other);
}

static void half_close_works_while_bytes_wait(void **state) {
  struct throttled *t = *state;
  struct rig *r = t->rig;
  start(t);
  rig_sends(r->agent, WAITS_BYTES);
  rig_settle(r);
  shutdown(r->visitor, SHUT_WR);   /* nothing of its bytes waits, so its end does not either */
  rig_expect_end(r, r->agent, 0);
  shutdown(r->agent, SHUT_WR);
  rig_settle(r);                   /* hung up, with bytes that wait: nothing spins */
  size_t got = 0;
  enum rig_read end = RIG_MORE;
  RIG_UNTIL(r, (rig_next_turn(r), (end = rig_expect_pattern(r->visitor, &got, SIZE_MAX)) != RIG_MORE));
  assert_int_equal(end, RIG_EOF);
  assert_int_equal(got, WAITS_BYTES);
  RIG_UNTIL(r, r->ended);
  assert_int_equal(r->why, CLOSE_CLEAN);
}

static void a_stream_that_waits_does_not_idle(void **state) {
  struct throttled *t = *state;
  struct rig *r = t->rig;
  start(t);
  rig_sends(r->agent, WAITS_BYTES);
  shutdown(r->visitor, SHUT_WR);
  rig_expect_end(r, r->agent, 0);
  rig_settle(r);
  r->pump->to_peer.progress_ms = r->pump->to_wire.progress_ms = loop_now_ms(r->loop) - HALF_OPEN_IDLE_MS;
  rig_fire_timer(r);
  rig_settle(r);
  assert_false(r->ended);
}

static void a_reset_by_the_receiver_is_noticed_at_once(void **state) {
  struct throttled *t = *state;
  struct rig *r = t->rig;
  start(t);
  rig_sends(r->agent, WAITS_BYTES);
  rig_settle(r);
  rig_reset(&r->visitor);
  RIG_UNTIL(r, r->ended);
  assert_int_equal(r->why, CLOSE_PEER_RESET);
  rig_expect_end(r, r->agent, -2);
}

static void what_was_sent_before_a_reset_has_its_turns_first(void **state) {
  struct throttled *t = *state;
  struct rig *r = t->rig;
  start(t);
  size_t got = 0;
  rig_sends(r->agent, WAITS_BYTES);
  rig_settle(r);
  RIG_UNTIL(r, socket_is_delivered(r->agent));
  rig_reset(&r->agent);
  RIG_UNTIL(r, r->pump->phase == PUMP_BREAKS);
  rig_settle(r);
  /* there is time for more turns than one, ... */
  assert_true(r->pump->give_up_ms > loop_now_ms(r->loop) + RESET_DELIVERY_MS);
  r->pump->give_up_ms += 60000;    /* and here for as many as it takes, however slow this machine is */
  assert_the_burst_was_read(t);
  enum rig_read end = RIG_MORE;
  RIG_UNTIL(r, (rig_next_turn(r), (end = rig_expect_pattern(r->visitor, &got, SIZE_MAX)) != RIG_MORE));
  assert_int_equal(end, RIG_RESET);
  assert_int_equal(got, WAITS_BYTES);
  RIG_UNTIL(r, r->ended);
  assert_int_equal(r->why, CLOSE_WIRE_RESET);
}

static void who_sends_and_resets_does_not_stay_in_the_row(void **state) {
  struct throttled *t = *state;
  struct rig *r = t->rig;
  start(t);
  rig_sends(r->visitor, WAITS_BYTES);
  rig_settle(r);
  rig_reset(&r->visitor);
  RIG_UNTIL(r, r->pump->phase == PUMP_BREAKS);
  assert_false(r->ended);
  assert_true(r->pump->give_up_ms <= loop_now_ms(r->loop) + RESET_DELIVERY_IN_TURNS_MS);
  r->pump->give_up_ms = 0;
  rig_fire_timer(r);
  RIG_UNTIL(r, r->ended);
  assert_int_equal(r->why, CLOSE_PEER_RESET);
  assert_the_burst_was_read(t);
}

static void a_stream_that_ends_gives_its_turn_back(void **state) {
  struct throttled *t = *state;
  struct rig *r = t->rig;
  start(t);
  rig_sends(r->agent, WAITS_BYTES);
  rig_settle(r);
  uint64_t next_ms = r->pump->to_peer.granted_at_ms;
  pump_abort(r->pump, CLOSE_REVOKED);
  assert_true(r->ended);
  size_t got = 0;
  RIG_UNTIL(r, rig_expect_pattern(r->visitor, &got, SIZE_MAX) == RIG_RESET);
  rig_expect_end(r, r->agent, -2);
  assert_true(rate_reserve(&t->rate, loop_now_ms(r->loop), RIG_STILL_STEP_BYTES) <= next_ms);
}

static void stop_delivers_in_turns_what_was_sent(void **state) {
  struct throttled *t = *state;
  struct rig *r = t->rig;
  start(t);
  rig_sends(r->agent, WAITS_BYTES);
  rig_settle(r);
  size_t got = 0, sent = r->to_peer_tally.bytes + net_unread(r->wire_fd);
  assert_true(sent > RIG_STILL_BURST_BYTES);
  pump_stop(r->pump, CLOSE_LOCAL);
  r->pump->give_up_ms += 60000;
  enum rig_read end = RIG_MORE;
  RIG_UNTIL(r, (rig_next_turn(r), (end = rig_expect_pattern(r->visitor, &got, SIZE_MAX)) != RIG_MORE));
  assert_int_equal(end, RIG_RESET);
  assert_true(got >= sent && got <= sent + RIG_STILL_STEP_BYTES);
}

static enum close_reason accept_any(struct pump *p, void *user, const uint8_t *bytes) {
  (void)p;
  (void)user;
  (void)bytes;
  return CLOSE_CLEAN;
}

static void the_prefix_is_not_the_streams_and_does_not_wait(void **state) {
  struct throttled *t = *state;
  struct rig *r = t->rig;
  for (int i = 0; i < 100; i++) (void)rate_reserve(&t->rate, loop_now_ms(r->loop), RIG_STILL_STEP_BYTES);
  struct pump_params params = {.rate = &t->rate, .wire_prefix_n = 6, .on_prefix = accept_any};
  rig_start(r, &params);
  rig_send_text(r->agent, "accepthello");
  RIG_UNTIL(r, r->pump->accept_by_ms == 0);
  rig_settle(r);
  assert_int_equal(r->to_peer_tally.bytes, 0);
  RIG_UNTIL(r, (rig_next_turn(r), r->to_peer_tally.bytes == 5));
  rig_expect_text(r, r->visitor, "hello");
}

static void urgent_data_waits_as_all_other(void **state) {
  struct throttled *t = *state;
  struct rig *r = t->rig;
  start(t);
  rig_sends(r->visitor, WAITS_BYTES);
  assert_int_equal(send(r->visitor, "!", 1, MSG_OOB), 1);
  rig_settle(r);
  assert_the_burst_was_read(t);
  RIG_UNTIL(r, (rig_next_turn(r), r->to_wire_tally.bytes == WAITS_BYTES + 1));
}

/* Through the record layer. */

static int sealed_set_up(void **state) {
  struct throttled *t;
  *state = &splice_mode;
  (void)plain_set_up(state);
  t = *state;
  t->far.far.sealed = make_sealed(true, 0);
  struct pump_params params = {.rate = &t->rate, .sealed = make_sealed(false, 0)};
  rig_start(t->rig, &params);
  return 0;
}

static void plaintext_that_is_to_be_sealed_waits(void **state) {
  struct throttled *t = *state;
  struct rig *r = t->rig;
  rig_sends(r->visitor, WAITS_BYTES);
  rig_settle(r);
  assert_the_burst_was_read(t);
  assert_int_equal(pump_pool_stats(r->pool)->buffers, 0);
  shutdown(r->visitor, SHUT_WR);
  RIG_UNTIL(r, (rig_next_turn(r), far_read(&t->far, SIZE_MAX), t->far.far.fin));
  assert_true(t->far.far.eof);
  assert_int_equal(t->far.far.got, WAITS_BYTES);
}

static void records_wait_also_in_their_midst(void **state) {
  struct throttled *t = *state;
  struct rig *r = t->rig;
  size_t got = 0;
  far_send_pattern(&t->far, WAITS_BYTES);
  assert_int_equal(t->far.far.out_n, 0);
  rig_settle(r);
  assert_true(r->to_peer_tally.bytes <= RIG_STILL_BURST_BYTES);
  assert_true(r->pump->to_peer.throttled);
  RIG_UNTIL(r, (rig_next_turn(r), rig_expect_pattern(r->visitor, &got, SIZE_MAX), got == WAITS_BYTES));
  far_close(&t->far);
  RIG_UNTIL(r, (rig_next_turn(r), rig_expect_pattern(r->visitor, &got, SIZE_MAX) == RIG_EOF));
}

static void both_ways_through_records_everything_arrives(void **state) {
  struct throttled *t = *state;
  struct rig *r = t->rig;
  size_t got = 0, sent = 0;
  RIG_UNTIL(r, ({
              rig_next_turn(r);
              far_send_pattern(&t->far, 3 * WAITS_BYTES);
              rig_send_pattern(r->visitor, &sent, 3 * WAITS_BYTES);
              far_read(&t->far, SIZE_MAX);
              rig_expect_pattern(r->visitor, &got, SIZE_MAX);
              got == 3 * WAITS_BYTES && t->far.far.got == 3 * WAITS_BYTES;
            }));
}

#define IN_BOTH_MODES(test) \
  {#test " (splice)", test, plain_set_up, plain_tear_down, &splice_mode}, \
  {#test " (copy)", test, plain_set_up, plain_tear_down, &copy_mode}
#define SEALED(test) cmocka_unit_test_setup_teardown(test, sealed_set_up, plain_tear_down)

int main(void) {
  const struct CMUnitTest tests[] = {
    IN_BOTH_MODES(what_is_beyond_the_rate_waits_in_the_kernel_and_costs_nothing),
    IN_BOTH_MODES(a_turn_reads_one_step),
    IN_BOTH_MODES(both_directions_and_other_streams_share_one_rate),
    IN_BOTH_MODES(half_close_works_while_bytes_wait),
    IN_BOTH_MODES(a_stream_that_waits_does_not_idle),
    IN_BOTH_MODES(a_reset_by_the_receiver_is_noticed_at_once),
    IN_BOTH_MODES(what_was_sent_before_a_reset_has_its_turns_first),
    IN_BOTH_MODES(who_sends_and_resets_does_not_stay_in_the_row),
    IN_BOTH_MODES(a_stream_that_ends_gives_its_turn_back),
    IN_BOTH_MODES(stop_delivers_in_turns_what_was_sent),
    IN_BOTH_MODES(the_prefix_is_not_the_streams_and_does_not_wait),
    IN_BOTH_MODES(urgent_data_waits_as_all_other),
    SEALED(plaintext_that_is_to_be_sealed_waits),
    SEALED(records_wait_also_in_their_midst),
    SEALED(both_ways_through_records_everything_arrives),
  };
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  rig_moves = true;
  return failed + cmocka_run_group_tests(tests, NULL, NULL);
}
