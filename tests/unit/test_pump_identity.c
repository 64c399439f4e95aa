/* Streams whose bytes pass as they are: every behaviour in splice and in copy mode. */
#include "pump_rig.h"

enum { BIG = 6 << 20 };

static enum pump_mode splice_mode = PUMP_SPLICE, copy_mode = PUMP_COPY;

static int set_up(void **state) {
  const enum pump_mode *mode = *state;
  *state = rig_new(*mode);
  return 0;
}

static int tear_down(void **state) {
  rig_free(*state);
  return 0;
}

static void start_plain(struct rig *r) {
  struct pump_params params = {0};
  rig_start(r, &params);
}

static bool pool_is_idle(const struct rig *r) {
  const struct pump_stats *s = pump_pool_stats(r->pool);
  return s->buffers == 0 && s->pipes == 0;
}

static void bytes_pass_both_ways_and_are_counted(void **state) {
  struct rig *r = *state;
  start_plain(r);
  rig_send_text(r->visitor, "question");
  rig_expect_text(r, r->agent, "question");
  rig_send_text(r->agent, "the answer");
  rig_expect_text(r, r->visitor, "the answer");
  assert_int_equal(r->to_wire_tally.bytes, 8);
  assert_int_equal(r->to_peer_tally.bytes, 10);
  assert_int_equal(pump_pool_stats(r->pool)->to_peer_bytes, 10);
}

static void an_idle_stream_holds_no_buffer_and_no_pipe(void **state) {
  struct rig *r = *state;
  start_plain(r);
  rig_settle(r);
  assert_true(pool_is_idle(r));
  rig_send_text(r->visitor, "once");
  rig_expect_text(r, r->agent, "once");
  rig_settle(r);
  assert_true(pool_is_idle(r));
  assert_int_equal(pump_pool_stats(r->pool)->pumps, 1);
}

static void half_close_of_the_visitor_leaves_the_answer_flowing(void **state) {
  struct rig *r = *state;
  start_plain(r);
  rig_send_text(r->visitor, "all of it");
  shutdown(r->visitor, SHUT_WR);
  rig_expect_text(r, r->agent, "all of it");
  rig_expect_end(r, r->agent, 0);
  rig_settle(r);
  assert_false(r->ended);
  size_t sent = 0, got = 0;
  RIG_UNTIL(r, (rig_send_pattern(r->agent, &sent, BIG), rig_expect_pattern(r->visitor, &got, SIZE_MAX), got == BIG));
  shutdown(r->agent, SHUT_WR);
  rig_expect_end(r, r->visitor, 0);
  RIG_UNTIL(r, r->ended);
  assert_int_equal(r->why, CLOSE_CLEAN);
  assert_int_equal(r->to_peer, BIG);
}

static void half_close_of_the_app_leaves_the_upload_flowing(void **state) {
  struct rig *r = *state;
  start_plain(r);
  rig_send_text(r->agent, "done");
  shutdown(r->agent, SHUT_WR);
  rig_expect_text(r, r->visitor, "done");
  rig_expect_end(r, r->visitor, 0);
  size_t sent = 0, got = 0;
  RIG_UNTIL(r, (rig_send_pattern(r->visitor, &sent, BIG), rig_expect_pattern(r->agent, &got, SIZE_MAX), got == BIG));
  rig_close(&r->visitor);
  rig_expect_end(r, r->agent, 0);
  RIG_UNTIL(r, r->ended);
  assert_int_equal(r->why, CLOSE_CLEAN);
}

static void a_clean_end_delivers_everything_to_a_slow_reader(void **state) {
  struct rig *r = *state;
  start_plain(r);
  size_t sent = 0, got = 0;
  shutdown(r->visitor, SHUT_WR);
  enum rig_read end = RIG_MORE;
  RIG_UNTIL(r, ({
              if (r->agent >= 0) rig_send_pattern(r->agent, &sent, BIG);
              if (sent == BIG) rig_close(&r->agent);
              end = rig_expect_pattern(r->visitor, &got, 60000);
              end != RIG_MORE;
            }));
  assert_int_equal(end, RIG_EOF);
  assert_int_equal(got, BIG);
  RIG_UNTIL(r, r->ended);
  assert_int_equal(r->why, CLOSE_CLEAN);
}

static void bytes_in_the_kernel_outlive_the_pump_after_a_clean_end(void **state) {
  struct rig *r = *state;
  start_plain(r);
  size_t sent = 0, got = 0;
  rig_send_pattern(r->agent, &sent, 200000);
  assert_int_equal(sent, 200000);
  rig_close(&r->agent);
  shutdown(r->visitor, SHUT_WR);
  RIG_UNTIL(r, r->ended);
  assert_int_equal(r->why, CLOSE_CLEAN);
  RIG_UNTIL(r, rig_expect_pattern(r->visitor, &got, SIZE_MAX) == RIG_EOF);
  assert_int_equal(got, 200000);
}

static void reset_of_the_visitor_resets_the_wire(void **state) {
  struct rig *r = *state;
  start_plain(r);
  rig_settle(r);
  rig_reset(&r->visitor);
  RIG_UNTIL(r, r->ended);
  assert_int_equal(r->why, CLOSE_PEER_RESET);
  rig_expect_end(r, r->agent, -2);
}

static void reset_of_the_wire_resets_the_visitor(void **state) {
  struct rig *r = *state;
  start_plain(r);
  rig_settle(r);
  rig_reset(&r->agent);
  RIG_UNTIL(r, r->ended);
  assert_int_equal(r->why, CLOSE_WIRE_RESET);
  rig_expect_end(r, r->visitor, -2);
}

static void what_was_sent_before_a_reset_is_delivered_before_it(void **state) {
  struct rig *r = *state;
  start_plain(r);
  size_t sent = 0, got = 0;
  rig_send_pattern(r->agent, &sent, 150000);
  rig_reset(&r->agent);
  enum rig_read end = RIG_MORE;
  /* A reset empties the sender's queue, so what counts is what the kernel had taken over by then. */
  RIG_UNTIL(r, (end = rig_expect_pattern(r->visitor, &got, SIZE_MAX)) != RIG_MORE);
  assert_int_equal(end, RIG_RESET);
  assert_true(got > 0);
  RIG_UNTIL(r, r->ended);
  assert_int_equal(r->to_peer, got);
}

static void what_a_side_sent_that_was_reset_before_the_start_is_delivered_and_no_clean_end(void **state) {
  struct rig *r = *state;
  struct pump_params params = {.peer_reset = true, .peer_first = (const uint8_t *)"header", .peer_first_n = 6};
  rig_send_text(r->visitor, "503 busy");
  rig_reset(&r->visitor);
  RIG_UNTIL(r, net_socket_error(r->peer_fd) != 0);   /* as a dial does that looks whether it is connected */
  rig_start(r, &params);
  rig_expect_text(r, r->agent, "503 busy");
  rig_expect_end(r, r->agent, -2);
  RIG_UNTIL(r, r->ended);
  assert_int_equal(r->why, CLOSE_PEER_RESET);
}

static void an_answer_in_mid_upload_reaches_the_visitor_before_the_reset(void **state) {
  struct rig *r = *state;
  start_plain(r);
  size_t sent = 0;
  for (int i = 0; i < 20; i++) {
    rig_send_pattern(r->visitor, &sent, BIG);
    loop_turn(r->loop, 1);
  }
  rig_send_text(r->agent, "413");
  rig_close(&r->agent);            /* with unread input: the kernel resets */
  char got[8] = {0};
  ssize_t n = -1;
  RIG_UNTIL(r, (rig_send_pattern(r->visitor, &sent, BIG), (n = rig_recv(r->visitor, got, sizeof got)) != -1));
  assert_int_equal(n, 3);
  assert_memory_equal(got, "413", 3);
  rig_expect_end(r, r->visitor, -2);
  RIG_UNTIL(r, r->ended);
  assert_int_equal(r->why, CLOSE_WIRE_RESET);
}

static void a_reset_after_fin_is_no_clean_end(void **state) {
  struct rig *r = *state;
  start_plain(r);
  size_t sent = 0, got = 0;
  rig_send_pattern(r->agent, &sent, BIG);
  for (int i = 0; i < 20; i++) loop_turn(r->loop, 1); /* the visitor does not read: the pump is blocked */
  rig_send_text(r->visitor, "x");
  RIG_UNTIL(r, r->to_wire_tally.bytes == 1);
  shutdown(r->agent, SHUT_WR);
  rig_reset(&r->agent);
  enum rig_read end = RIG_MORE;
  RIG_UNTIL(r, (end = rig_expect_pattern(r->visitor, &got, SIZE_MAX)) != RIG_MORE);
  assert_int_equal(end, RIG_RESET);
  RIG_UNTIL(r, r->ended);
  assert_int_equal(r->why, CLOSE_WIRE_RESET);
}

static void an_app_that_closed_fully_resets_a_visitor_that_goes_on(void **state) {
  struct rig *r = *state;
  start_plain(r);
  rig_send_text(r->agent, "bye");
  rig_close(&r->agent);
  rig_expect_text(r, r->visitor, "bye");
  rig_expect_end(r, r->visitor, 0);
  assert_false(r->ended);
  rig_send_text(r->visitor, "still here");
  RIG_UNTIL(r, r->ended);
  assert_int_equal(r->why, CLOSE_WIRE_RESET);
  uint64_t began = rig_now_ms();
  RIG_UNTIL(r, send(r->visitor, "?", 1, MSG_NOSIGNAL) < 0);
  assert_true(rig_now_ms() - began < 1000);
}

static void a_reset_is_noticed_while_both_directions_are_blocked(void **state) {
  struct rig *r = *state;
  start_plain(r);
  size_t up = 0, down = 0;
  RIG_UNTIL(r, (rig_send_pattern(r->visitor, &up, 64 << 20), rig_send_pattern(r->agent, &down, 64 << 20),
                r->pump->to_peer.wants_write && r->pump->to_wire.wants_write));
  rig_reset(&r->visitor);
  uint64_t began = rig_now_ms();
  RIG_UNTIL(r, r->ended);
  assert_true(rig_now_ms() - began < RESET_DELIVERY_MS + 500);
  assert_int_equal(r->why, CLOSE_PEER_RESET);
}

static void back_pressure_bounds_memory_and_gives_pipes_back(void **state) {
  struct rig *r = *state;
  start_plain(r);
  size_t sent = 0, got = 0;
  uint64_t began = rig_now_ms();
  while (rig_now_ms() - began < 5 * HOLD_MAX_MS) {
    rig_send_pattern(r->agent, &sent, 64 << 20);
    loop_turn(r->loop, 5);
  }
  assert_true(sent < 64 << 20);
  RIG_UNTIL(r, pump_pool_stats(r->pool)->buffers == 1 && pump_pool_stats(r->pool)->pipes == 0);
  size_t all = sent;
  RIG_UNTIL(r, (rig_expect_pattern(r->visitor, &got, SIZE_MAX), got == all));
  rig_settle(r);
  assert_true(pool_is_idle(r));
}

static void a_pool_that_lent_much_moves_little_at_a_time_and_loses_nothing(void **state) {
  struct rig *r = *state;
  start_plain(r);
  r->pool->lent_bytes += BUFFERS_LENT_PER_LOOP_MAX_BYTES;
  size_t sent = 0, got = 0;
  uint64_t began = rig_now_ms();
  while (rig_now_ms() - began < 5 * HOLD_MAX_MS) {
    rig_send_pattern(r->agent, &sent, BIG);
    loop_turn(r->loop, 5);
  }
  assert_true(r->pool->lent_bytes <= BUFFERS_LENT_PER_LOOP_MAX_BYTES + STREAM_BUFFER_SMALL_BYTES);
  RIG_UNTIL(r, (rig_send_pattern(r->agent, &sent, BIG), rig_expect_pattern(r->visitor, &got, SIZE_MAX), got == BIG));
  r->pool->lent_bytes -= BUFFERS_LENT_PER_LOOP_MAX_BYTES;
}

static void a_stream_without_a_pipe_copies(void **state) {
  struct rig *r = *state;
  start_plain(r);
  r->pool->pipes_made += PIPES_MAX;
  size_t sent = 0, got = 0;
  RIG_UNTIL(r, (rig_send_pattern(r->agent, &sent, BIG), rig_expect_pattern(r->visitor, &got, SIZE_MAX), got == BIG));
  r->pool->pipes_made -= PIPES_MAX;
}

static void a_socket_that_hung_up_does_not_spin(void **state) {
  struct rig *r = *state;
  start_plain(r);
  size_t sent = 0;
  for (int i = 0; i < 30; i++) {
    rig_send_pattern(r->agent, &sent, 64 << 20);
    loop_turn(r->loop, 1);
  }
  shutdown(r->visitor, SHUT_WR);   /* our FIN to the agent follows; the agent's is stuck behind its data */
  shutdown(r->agent, SHUT_WR);
  rig_expect_end(r, r->agent, 0);
  rig_settle(r);
  assert_false(r->ended);
  size_t got = 0;
  RIG_UNTIL(r, rig_expect_pattern(r->visitor, &got, SIZE_MAX) == RIG_EOF);
  assert_int_equal(got, sent);
  RIG_UNTIL(r, r->ended);
  assert_int_equal(r->why, CLOSE_CLEAN);
}

static void one_byte_segments_arrive_whole_and_in_order(void **state) {
  struct rig *r = *state;
  start_plain(r);
  size_t sent = 0, got = 0;
  while (sent < 400) rig_send_pattern(r->agent, &sent, sent + 1);
  RIG_UNTIL(r, (rig_expect_pattern(r->visitor, &got, SIZE_MAX), got == 400));
}

/* splice stops before a byte of urgent data and says EAGAIN for ever, while epoll calls the socket readable. */
static void urgent_data_passes_in_its_place_and_does_not_spin(void **state) {
  struct rig *r = *state;
  start_plain(r);
  rig_send_text(r->visitor, "a");
  assert_int_equal(send(r->visitor, "b", 1, MSG_OOB), 1);
  rig_send_text(r->visitor, "cd");
  rig_expect_text(r, r->agent, "abcd");
  rig_settle(r);
  assert_int_equal(send(r->agent, "e", 1, MSG_OOB), 1);
  rig_send_text(r->agent, "f");
  rig_expect_text(r, r->visitor, "ef");
  rig_settle(r);
}

static void the_first_bytes_go_to_the_peer_before_anything_else(void **state) {
  struct rig *r = *state;
  struct pump_params params = {.peer_first = (const uint8_t *)"PROXY ", .peer_first_n = 6};
  rig_send_text(r->agent, "hello");
  rig_start(r, &params);
  rig_expect_text(r, r->visitor, "PROXY hello");
  assert_int_equal(r->to_peer_tally.bytes, 5);
}

static enum close_reason prefix_is_right(struct pump *p, void *user, const uint8_t *bytes) {
  (void)p;
  (void)user;
  return memcmp(bytes, "accept", 6) == 0 ? CLOSE_CLEAN : CLOSE_PROTOCOL;
}

static void start_with_prefix(struct rig *r) {
  struct pump_params params = {.wire_prefix_n = 6, .on_prefix = prefix_is_right};
  rig_start(r, &params);
}

static void the_prefix_is_verified_and_stripped_while_the_other_direction_flows(void **state) {
  struct rig *r = *state;
  start_with_prefix(r);
  rig_send_text(r->visitor, "early");
  rig_expect_text(r, r->agent, "early");
  rig_send_text(r->agent, "acc");
  rig_settle(r);
  assert_int_equal(r->to_peer_tally.bytes, 0);
  rig_send_text(r->agent, "eptdata");
  rig_expect_text(r, r->visitor, "data");
  rig_settle(r);
  assert_int_equal(r->pump->accept_by_ms, 0);
}

/* An agent that sent its answer and reset, while this process did not run and the visitor went on sending. */
static void what_lies_behind_the_prefix_outlives_a_write_that_fails_first(void **state) {
  struct rig *r = *state;
  struct pump_params params = {.wire_prefix_n = 6, .on_prefix = prefix_is_right, .visitor_is_peer = true};
  rig_start(r, &params);
  rig_settle(r);
  rig_send_text(r->agent, "acceptthe answer");
  rig_reset(&r->agent);
  rig_send_text(r->visitor, "upload");
  rig_visitor_first(r);
  assert_true(r->pump->wire.reset);
  rig_expect_text(r, r->visitor, "the answer");
  RIG_UNTIL(r, r->ended);
  assert_int_equal(r->why, CLOSE_WIRE_RESET);
  assert_int_equal(r->to_peer, 10);
  rig_expect_end(r, r->visitor, -2);
}

static void a_prefix_is_verified_also_when_the_wire_has_broken(void **state) {
  struct rig *r = *state;
  start_with_prefix(r);
  rig_settle(r);
  rig_send_text(r->agent, "forged and data");
  rig_reset(&r->agent);
  rig_send_text(r->visitor, "upload");
  rig_visitor_first(r);
  RIG_UNTIL(r, r->ended);
  assert_int_equal(r->why, CLOSE_PROTOCOL);
  assert_int_equal(r->to_peer, 0);
  rig_expect_end(r, r->visitor, -2);
}

static void a_visitor_in_mid_upload_has_time_to_read_what_the_broken_wire_had_brought(void **state) {
  struct rig *r = *state;
  struct pump_params params = {.wire_prefix_n = 6, .on_prefix = prefix_is_right, .visitor_is_peer = true};
  size_t sent = 0;
  rig_start(r, &params);
  rig_settle(r);
  rig_send_text(r->agent, "accept503");
  rig_reset(&r->agent);
  rig_send_text(r->visitor, "upload");
  rig_visitor_first(r);
  assert_false(r->ended);
  uint64_t limit = r->pump->to_peer.progress_ms + RESET_GRACE_MS;
  rig_expect_text(r, r->visitor, "503");
  RIG_UNTIL(r, (rig_send_pattern(r->visitor, &sent, SIZE_MAX), r->ended));
  assert_true(loop_now_ms(r->loop) >= limit);
}

static void a_prefix_that_came_in_time_counts_though_it_is_read_after_the_deadline(void **state) {
  struct rig *r = *state;
  start_with_prefix(r);
  rig_settle(r);
  rig_send_text(r->agent, "acceptthe answer");
  struct loop_timer *t = &r->pump->timer;
  r->pump->accept_by_ms = loop_now_ms(r->loop);
  loop_timer_stop(t);
  t->fn(t);                        /* the loop's turn runs timers first */
  assert_false(r->ended);
  rig_expect_text(r, r->visitor, "the answer");
}

static void stop_delivers_what_lies_behind_the_prefix(void **state) {
  struct rig *r = *state;
  start_with_prefix(r);
  rig_settle(r);
  rig_send_text(r->agent, "acceptthe answer");
  pump_stop(r->pump, CLOSE_LOCAL);
  rig_expect_text(r, r->visitor, "the answer");
  RIG_UNTIL(r, r->ended);
  assert_int_equal(r->why, CLOSE_LOCAL);
}

static void a_forged_prefix_resets_both(void **state) {
  struct rig *r = *state;
  start_with_prefix(r);
  rig_send_text(r->agent, "forged and data");
  RIG_UNTIL(r, r->ended);
  assert_int_equal(r->why, CLOSE_PROTOCOL);
  assert_int_equal(r->to_peer, 0);
  rig_expect_end(r, r->visitor, -2);
  rig_expect_end(r, r->agent, -2);
}

static void an_end_inside_the_prefix_resets_the_visitor(void **state) {
  struct rig *r = *state;
  start_with_prefix(r);
  rig_send_text(r->agent, "acc");
  shutdown(r->agent, SHUT_WR);
  RIG_UNTIL(r, r->ended);
  assert_int_equal(r->why, CLOSE_NOT_ACCEPTED);
  rig_expect_end(r, r->visitor, -2);
}

static void a_missing_prefix_resets_the_visitor_at_its_deadline(void **state) {
  struct rig *r = *state;
  start_with_prefix(r);
  rig_settle(r);
  assert_true(r->pump->accept_by_ms - loop_now_ms(r->loop) <= ACCEPT_DEADLINE_MS);
  r->pump->accept_by_ms = loop_now_ms(r->loop);
  rig_fire_timer(r);
  RIG_UNTIL(r, r->ended);
  assert_int_equal(r->why, CLOSE_ACCEPT_TIMEOUT);
  rig_expect_end(r, r->visitor, -2);
}

static void a_half_open_stream_ends_after_its_idle_time_only(void **state) {
  struct rig *r = *state;
  start_plain(r);
  shutdown(r->visitor, SHUT_WR);
  rig_expect_end(r, r->agent, 0);
  rig_fire_timer(r);               /* early: nothing happens */
  rig_settle(r);
  assert_false(r->ended);
  r->pump->to_peer.progress_ms = r->pump->to_wire.progress_ms = loop_now_ms(r->loop) - HALF_OPEN_IDLE_MS;
  rig_fire_timer(r);
  RIG_UNTIL(r, r->ended);
  assert_int_equal(r->why, CLOSE_HALF_OPEN_IDLE);
  rig_expect_end(r, r->visitor, -2);
}

static void abort_resets_both_and_is_told_once(void **state) {
  struct rig *r = *state;
  start_plain(r);
  pump_abort(r->pump, CLOSE_REVOKED);
  assert_true(r->ended);
  assert_int_equal(r->why, CLOSE_REVOKED);
  pump_abort(r->pump, CLOSE_LOCAL);
  rig_expect_end(r, r->visitor, -2);
  rig_expect_end(r, r->agent, -2);
}

static void a_socket_closed_with_linger_delivers_although_input_is_unread(void **state) {
  struct rig *r = *state;
  start_plain(r);
  int theirs, ours;
  size_t sent = 0, got = 0;
  rig_tcp_pair(&theirs, &ours);
  assert_int_equal(net_stream_setup(ours), 0);
  rig_send_pattern(ours, &sent, 200000);
  rig_send_text(theirs, "never read");
  pump_linger_close(r->pool, ours);
  rig_settle(r);
  rig_send_text(theirs, "nor this");
  RIG_UNTIL(r, rig_expect_pattern(theirs, &got, SIZE_MAX) == RIG_EOF);
  assert_int_equal(got, sent);
  rig_close(&theirs);
  RIG_UNTIL(r, list_empty(&r->pool->lingers));
}

static void beyond_their_limit_the_oldest_lingering_socket_is_closed(void **state) {
  struct rig *r = *state;
  start_plain(r);
  int theirs[2], ours[2];
  for (int i = 0; i < 2; i++) {
    rig_tcp_pair(&theirs[i], &ours[i]);
    if (i == 1) r->pool->lingers_n += LINGERS_PER_LOOP_MAX - 1;
    pump_linger_close(r->pool, ours[i]);
  }
  assert_int_equal(fcntl(ours[0], F_GETFD), -1);
  assert_true(fcntl(ours[1], F_GETFD) >= 0);
  assert_int_equal(r->pool->lingers_n, LINGERS_PER_LOOP_MAX);
  rig_close(&theirs[0]);
  rig_close(&theirs[1]);
  RIG_UNTIL(r, list_empty(&r->pool->lingers));
  r->pool->lingers_n -= LINGERS_PER_LOOP_MAX - 1;
}

static void every_close_reason_has_a_name(void **state) {
  start_plain(*state);
  for (int i = 0; i < CLOSE_REASONS; i++) assert_non_null(close_reason_name((enum close_reason)i));
}

#define IN_BOTH_MODES(f) \
  {#f " (splice)", f, set_up, tear_down, &splice_mode}, {#f " (copy)", f, set_up, tear_down, &copy_mode}

static void stop_delivers_what_was_sent_and_resets(void **state) {
  struct rig *r = *state;
  size_t up = 0, down = 0, got_up = 0, got_down = 0;
  start_plain(r);
  rig_settle(r);
  rig_send_pattern(r->visitor, &up, 30000);
  rig_send_pattern(r->agent, &down, 30000);
  pump_stop(r->pump, CLOSE_LOCAL);
  RIG_UNTIL(r, r->ended);
  assert_int_equal(r->why, CLOSE_LOCAL);
  assert_int_equal(rig_expect_pattern(r->agent, &got_up, SIZE_MAX), RIG_RESET);
  assert_int_equal(rig_expect_pattern(r->visitor, &got_down, SIZE_MAX), RIG_RESET);
  assert_int_equal(got_up, up);
  assert_int_equal(got_down, down);
}

/* What its source goes on to send is not waited for. */
static void stop_ends_a_source_that_never_pauses(void **state) {
  struct rig *r = *state;
  size_t sent = 0, got = 0;
  start_plain(r);
  RIG_UNTIL(
      r, (rig_send_pattern(r->visitor, &sent, SIZE_MAX), rig_expect_pattern(r->agent, &got, SIZE_MAX), got > 100000));
  pump_stop(r->pump, CLOSE_LOCAL);
  uint64_t limit = r->ended ? 0 : r->pump->give_up_ms;
  RIG_UNTIL(r, (rig_send_pattern(r->visitor, &sent, SIZE_MAX), rig_expect_pattern(r->agent, &got, SIZE_MAX), r->ended));
  assert_true(limit == 0 || loop_now_ms(r->loop) < limit);
}

static void stop_gives_up_one_who_does_not_read(void **state) {
  struct rig *r = *state;
  size_t sent = 0;
  start_plain(r);
  RIG_UNTIL(r, (rig_send_pattern(r->visitor, &sent, SIZE_MAX), r->pump->to_wire.wants_write));
  pump_stop(r->pump, CLOSE_LOCAL);
  assert_false(r->ended);
  uint64_t limit = r->pump->give_up_ms;
  RIG_UNTIL(r, r->ended);
  assert_true(loop_now_ms(r->loop) >= limit);
  assert_int_equal(r->why, CLOSE_LOCAL);
}

int main(void) {
  const struct CMUnitTest tests[] = {
    IN_BOTH_MODES(bytes_pass_both_ways_and_are_counted),
    IN_BOTH_MODES(an_idle_stream_holds_no_buffer_and_no_pipe),
    IN_BOTH_MODES(half_close_of_the_visitor_leaves_the_answer_flowing),
    IN_BOTH_MODES(half_close_of_the_app_leaves_the_upload_flowing),
    IN_BOTH_MODES(a_clean_end_delivers_everything_to_a_slow_reader),
    IN_BOTH_MODES(bytes_in_the_kernel_outlive_the_pump_after_a_clean_end),
    IN_BOTH_MODES(reset_of_the_visitor_resets_the_wire),
    IN_BOTH_MODES(reset_of_the_wire_resets_the_visitor),
    IN_BOTH_MODES(what_was_sent_before_a_reset_is_delivered_before_it),
    IN_BOTH_MODES(what_a_side_sent_that_was_reset_before_the_start_is_delivered_and_no_clean_end),
    IN_BOTH_MODES(an_answer_in_mid_upload_reaches_the_visitor_before_the_reset),
    IN_BOTH_MODES(a_reset_after_fin_is_no_clean_end),
    IN_BOTH_MODES(an_app_that_closed_fully_resets_a_visitor_that_goes_on),
    IN_BOTH_MODES(a_reset_is_noticed_while_both_directions_are_blocked),
    IN_BOTH_MODES(back_pressure_bounds_memory_and_gives_pipes_back),
    IN_BOTH_MODES(a_pool_that_lent_much_moves_little_at_a_time_and_loses_nothing),
    IN_BOTH_MODES(a_stream_without_a_pipe_copies),
    IN_BOTH_MODES(a_socket_that_hung_up_does_not_spin),
    IN_BOTH_MODES(one_byte_segments_arrive_whole_and_in_order),
    IN_BOTH_MODES(urgent_data_passes_in_its_place_and_does_not_spin),
    IN_BOTH_MODES(the_first_bytes_go_to_the_peer_before_anything_else),
    IN_BOTH_MODES(the_prefix_is_verified_and_stripped_while_the_other_direction_flows),
    IN_BOTH_MODES(what_lies_behind_the_prefix_outlives_a_write_that_fails_first),
    IN_BOTH_MODES(a_prefix_is_verified_also_when_the_wire_has_broken),
    IN_BOTH_MODES(a_visitor_in_mid_upload_has_time_to_read_what_the_broken_wire_had_brought),
    IN_BOTH_MODES(a_prefix_that_came_in_time_counts_though_it_is_read_after_the_deadline),
    IN_BOTH_MODES(stop_delivers_what_lies_behind_the_prefix),
    IN_BOTH_MODES(a_forged_prefix_resets_both),
    IN_BOTH_MODES(an_end_inside_the_prefix_resets_the_visitor),
    IN_BOTH_MODES(a_missing_prefix_resets_the_visitor_at_its_deadline),
    IN_BOTH_MODES(a_half_open_stream_ends_after_its_idle_time_only),
    IN_BOTH_MODES(abort_resets_both_and_is_told_once),
    IN_BOTH_MODES(stop_delivers_what_was_sent_and_resets),
    IN_BOTH_MODES(stop_ends_a_source_that_never_pauses),
    IN_BOTH_MODES(stop_gives_up_one_who_does_not_read),
    IN_BOTH_MODES(a_socket_closed_with_linger_delivers_although_input_is_unread),
    IN_BOTH_MODES(beyond_their_limit_the_oldest_lingering_socket_is_closed),
    IN_BOTH_MODES(every_close_reason_has_a_name),
  };
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  rig_moves = true;
  return failed + cmocka_run_group_tests(tests, NULL, NULL);
}
