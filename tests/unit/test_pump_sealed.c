/* Streams through the record layer: the test holds the visitor's end of the sealed stream, beyond the wire. */
#include "pump_far.h"

static void plaintext_passes_both_ways(void **state) {
  struct fixture *f = *state;
  start_sealed(f, 0);
  far_send_text(f, "GET / HTTP/1.1");
  rig_expect_text(f->rig, f->rig->visitor, "GET / HTTP/1.1");
  rig_send_text(f->rig->visitor, "200 OK");
  far_expect_text(f, "200 OK");
  assert_int_equal(f->rig->to_peer_tally.bytes, 14);
  assert_int_equal(f->rig->to_wire_tally.bytes, 6);
  rig_settle(f->rig);
  assert_int_equal(pump_pool_stats(f->rig->pool)->buffers, 0);
}

static void megabytes_pass_both_ways_at_once(void **state) {
  struct fixture *f = *state;
  start_sealed(f, 0);
  size_t sent = 0, got = 0;
  RIG_UNTIL(f->rig, ({
              far_send_pattern(f, BIG);
              rig_send_pattern(f->rig->visitor, &sent, BIG);
              far_read(f, SIZE_MAX);
              rig_expect_pattern(f->rig->visitor, &got, SIZE_MAX);
              got == BIG && f->far.got == BIG;
            }));
  assert_true(f->far.longest <= RECORD_PLAIN_MAX);
#ifdef ADIT_SMALL_LIMITS           /* our own KeyUpdates, well before the AEAD's limit */
  assert_true(f->far.updates >= f->far.records / RECORDS_PER_KEY_MAX - 1);
#endif
  rig_settle(f->rig);
  assert_int_equal(pump_pool_stats(f->rig->pool)->buffers, 0);
}

static void slow_readers_hold_one_buffer_each_way(void **state) {
  struct fixture *f = *state;
  start_sealed(f, 0);
  size_t sent = 0, got = 0;
  for (int i = 0; i < 60; i++) {
    far_send_pattern(f, BIG);
    rig_send_pattern(f->rig->visitor, &sent, BIG);
    loop_turn(f->rig->loop, 1);
    assert_true(pump_pool_stats(f->rig->pool)->buffers <= 2);
  }
  RIG_UNTIL(f->rig, ({
              far_send_pattern(f, BIG);
              rig_send_pattern(f->rig->visitor, &sent, BIG);
              far_read(f, 50000);
              rig_expect_pattern(f->rig->visitor, &got, 50000);
              got == BIG && f->far.got == BIG;
            }));
}

static bool holds_no_more(const struct buffer *b) {
  return b != NULL && b->size <= buffer_held(b) + HOLD_SLACK_BYTES;
}

static void a_stalled_stream_keeps_its_bytes_and_no_more(void **state) {
  struct fixture *f = *state;
  struct rig *r = f->rig;
  start_sealed(f, 0);
  size_t sent = 0, got = 0;
  uint64_t began = rig_now_ms();
  while (rig_now_ms() - began < 10 * HOLD_MAX_MS) {
    far_send_pattern(f, BIG);
    rig_send_pattern(r->visitor, &sent, BIG);
    loop_turn(r->loop, 5);
  }
  RIG_UNTIL(r, holds_no_more(r->pump->to_peer.buffer) && holds_no_more(r->pump->to_wire.buffer) &&
                   list_empty(&r->pool->holding));
  RIG_UNTIL(r, (far_send_pattern(f, BIG), rig_send_pattern(r->visitor, &sent, BIG), far_read(f, SIZE_MAX),
                rig_expect_pattern(r->visitor, &got, SIZE_MAX), got == BIG && f->far.got == BIG));
}

static void half_a_record_costs_no_full_buffer_and_is_still_one_message(void **state) {
  struct fixture *f = *state;
  struct rig *r = f->rig;
  start_sealed(f, 0);
  far_put(f, "whole again", 11);
  assert_int_equal(send(r->agent, f->far.out, 7, MSG_NOSIGNAL), 7);
  f->far.out_at = 7;
  RIG_UNTIL(r, r->pump->to_peer.buffer != NULL && r->pump->to_peer.buffer->size < STREAM_BUFFER_SMALL_BYTES);
  far_flush(f);
  rig_expect_text(r, r->visitor, "whole again");
}

static void a_sealed_stream_of_a_pool_that_lent_much_loses_nothing(void **state) {
  struct fixture *f = *state;
  struct rig *r = f->rig;
  start_sealed(f, 0);
  size_t sent = 0, got = 0;
  r->pool->lent_bytes += BUFFERS_LENT_PER_LOOP_MAX_BYTES;
  RIG_UNTIL(r, (far_send_pattern(f, BIG), rig_send_pattern(r->visitor, &sent, BIG), far_read(f, SIZE_MAX),
                rig_expect_pattern(r->visitor, &got, SIZE_MAX), got == BIG && f->far.got == BIG));
  r->pool->lent_bytes -= BUFFERS_LENT_PER_LOOP_MAX_BYTES;
}

static void a_small_fragment_maximum_is_kept(void **state) {
  struct fixture *f = *state;
  start_sealed(f, 512);
  size_t sent = 0;
  RIG_UNTIL(f->rig, (rig_send_pattern(f->rig->visitor, &sent, 300000), far_read(f, SIZE_MAX), f->far.got == 300000));
  assert_int_equal(f->far.longest, 512);
}

static void a_record_in_single_bytes_is_one_message(void **state) {
  struct fixture *f = *state;
  start_sealed(f, 0);
  far_put(f, "slowly", 6);
  for (size_t i = 0; i < f->far.out_n; i++) {
    assert_int_equal(send(f->rig->agent, f->far.out + i, 1, MSG_NOSIGNAL), 1);
    rig_settle(f->rig);
  }
  f->far.out_n = 0;
  rig_expect_text(f->rig, f->rig->visitor, "slowly");
  rig_settle(f->rig);
  assert_int_equal(pump_pool_stats(f->rig->pool)->buffers, 0);
}

static void thousands_of_tiny_records_in_one_read_pass(void **state) {
  struct fixture *f = *state;
  start_sealed(f, 0);
  for (size_t i = 0; i < 2000; i++) {
    uint8_t b = rig_byte(i);
    far_put(f, &b, 1);
  }
  far_flush(f);
  size_t got = 0;
  RIG_UNTIL(f->rig, (far_flush(f), rig_expect_pattern(f->rig->visitor, &got, SIZE_MAX), got == 2000));
}

/* Drives the far end's write direction by hand, to send what struct sealed would not. */
static void keys_of_visitor(struct record_keys *keys) {
  assert_int_equal(record_keys_init(keys, tls_suite_find(0x1301), secret_up, 0, true), 0);
}

static void key_updates_are_answered_without_data_and_coalesced(void **state) {
  struct fixture *f = *state;
  struct record_keys keys;
  start_sealed(f, 0);
  keys_of_visitor(&keys);
  for (int i = 0; i < 50; i++) far_ask_for_update(f, &keys);
  far_flush(f);
  RIG_UNTIL(f->rig, (far_read(f, SIZE_MAX), f->far.updates > 0));
  rig_settle(f->rig);
  far_read(f, SIZE_MAX);
  assert_true(f->far.updates < 5);
  rig_send_text(f->rig->visitor, "after the update");
  far_expect_text(f, "after the update");
  record_keys_free(&keys);
}

static void key_updates_while_our_writes_are_blocked_are_no_deadlock(void **state) {
  struct fixture *f = *state;
  struct record_keys keys;
  start_sealed(f, 0);
  keys_of_visitor(&keys);
  size_t down = 0, up = 0, got = 0;
  for (int i = 0; i < 60; i++) {
    rig_send_pattern(f->rig->visitor, &down, BIG);
    loop_turn(f->rig->loop, 1);
  }
  assert_true(f->rig->pump->to_wire.wants_write);
  while (up < 500000) {
    uint8_t *record = f->far.out + f->far.out_n;
    for (size_t i = 0; i < 10000; i++) record[RECORD_HEADER_BYTES + i] = rig_byte(up + i);
    assert_int_equal(record_seal(&keys, RECORD_APPLICATION_DATA, record, 10000), 0);
    f->far.out_n += 10000 + RECORD_OVERHEAD_BYTES;
    up += 10000;
    far_ask_for_update(f, &keys);
    RIG_UNTIL(f->rig, (far_flush(f), rig_expect_pattern(f->rig->visitor, &got, SIZE_MAX), f->far.out_n == 0));
  }
  RIG_UNTIL(f->rig, (rig_expect_pattern(f->rig->visitor, &got, SIZE_MAX), got == up));
  RIG_UNTIL(f->rig, (rig_send_pattern(f->rig->visitor, &down, BIG), far_read(f, SIZE_MAX), f->far.got == BIG));
  assert_true(f->far.updates > 0);
  record_keys_free(&keys);
}

static void put_updates(struct fixture *f, struct record_keys *keys, int n) {
  static const uint8_t message[] = {24, 0, 0, 1, 0};
  struct far *a = &f->far;
  for (int i = 0; i < n; i++) {
    memcpy(a->out + a->out_n + RECORD_HEADER_BYTES, message, sizeof message);
    assert_int_equal(record_seal(keys, RECORD_HANDSHAKE, a->out + a->out_n, sizeof message), 0);
    assert_int_equal(record_keys_update(keys), 0);
    a->out_n += sizeof message + RECORD_OVERHEAD_BYTES;
  }
}

static void more_key_updates_than_a_second_allows_end_the_stream_by_an_alert(void **state) {
  struct fixture *f = *state;
  struct record_keys keys;
  start_sealed(f, 0);
  keys_of_visitor(&keys);
  /* Two limits' worth: a slow machine may spread them over two seconds. */
  for (int sent = 0; sent < 2 * IDLE_RECORDS_PER_S_MAX + 2 && !f->rig->ended; sent += 2048) {
    if (f->far.out_n == 0) put_updates(f, &keys, 2048);
    RIG_UNTIL(f->rig, (far_flush(f), f->far.out_n == 0 || f->rig->ended));
  }
  RIG_UNTIL(f->rig, f->rig->ended);
  assert_int_equal(f->rig->why, CLOSE_PROTOCOL);
  far_read(f, SIZE_MAX);
  assert_true(f->far.alerted || f->far.reset);
  record_keys_free(&keys);
}

/* A KeyUpdate costs us several derivations, its sender 27 bytes: other streams must have their turns in between. */
static void a_flood_of_key_updates_is_worked_off_over_many_turns(void **state) {
  enum { UPDATES = 2000 };
  struct fixture *f = *state;
  static const uint8_t text[] = {'h', 'i'};
  start_sealed(f, 0);
  struct record_keys keys;
  keys_of_visitor(&keys);
  struct far *a = &f->far;
  put_updates(f, &keys, UPDATES);
  memcpy(a->out + a->out_n + RECORD_HEADER_BYTES, text, sizeof text);
  assert_int_equal(record_seal(&keys, RECORD_APPLICATION_DATA, a->out + a->out_n, sizeof text), 0);
  a->out_n += sizeof text + RECORD_OVERHEAD_BYTES;
  record_keys_free(&keys);
  char got[8];
  unsigned turns = 0;
  ssize_t n = -1;
  RIG_UNTIL(f->rig, (far_flush(f), turns++, (n = rig_recv(f->rig->visitor, got, sizeof got)) != -1));
  assert_int_equal(n, (ssize_t)sizeof text);
  assert_true(turns > UPDATES / IDLE_RECORDS_PER_TURN_MAX);
  rig_settle(f->rig);
}

/* The record that breaks the stream was read together with data that its sink does not take yet. Our alert is the last
   that the wire carries, so what the app sends meanwhile can no longer be sealed. */
static void a_violation_behind_blocked_data_is_still_a_violation(void **state) {
  struct fixture *f = *state;
  struct rig *r = f->rig;
  struct far *a = &f->far;
  int small = 4096, medium = 32768;
  assert_int_equal(setsockopt(r->peer_fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof small), 0);
  assert_int_equal(setsockopt(r->agent, SOL_SOCKET, SO_SNDBUF, &medium, sizeof medium), 0);
  assert_int_equal(setsockopt(r->wire_fd, SOL_SOCKET, SO_RCVBUF, &medium, sizeof medium), 0);
  start_sealed(f, 0);
  RIG_UNTIL(r, (far_send_pattern(f, BIG), r->pump->to_peer.wants_write && a->out_n > 0));
  /* The rest of what is begun, and then a record that nobody has sealed. */
  static const uint8_t garbage[64] = {RECORD_APPLICATION_DATA, 3, 3, 0, 59};
  size_t got = 0;
  assert_true(a->out_n + sizeof garbage <= sizeof a->out);
  memcpy(a->out + a->out_n, garbage, sizeof garbage);
  a->out_n += sizeof garbage;
  RIG_UNTIL(r, ({
              far_flush(f);
              if (r->pump->to_peer.verdict == FLOW_MOVED) rig_expect_pattern(r->visitor, &got, 2048);
              r->pump->to_peer.verdict != FLOW_MOVED;
            }));
  assert_int_equal(r->pump->to_peer.verdict, FLOW_VIOLATION);
  assert_true(r->pump->to_peer.wants_write);
  rig_send_text(r->visitor, "meanwhile");
  int large = 1 << 20;             /* so that the rest leaves without waiting for delayed acknowledgements */
  assert_int_equal(setsockopt(r->peer_fd, SOL_SOCKET, SO_SNDBUF, &large, sizeof large), 0);
  a->keep_text = true;
  RIG_UNTIL(r, ({
              far_read(f, SIZE_MAX);
              rig_expect_pattern(r->visitor, &got, 2048);
              r->ended;
            }));
  assert_int_equal(r->why, CLOSE_PROTOCOL);
  far_read(f, SIZE_MAX);
  assert_true(a->alerted);
}

static void close_notify_is_half_close_and_the_answer_flows(void **state) {
  struct fixture *f = *state;
  start_sealed(f, 0);
  far_send_text(f, "upload");
  far_close(f);                    /* no FIN: many TLS clients keep their socket open */
  rig_expect_text(f->rig, f->rig->visitor, "upload");
  rig_expect_end(f->rig, f->rig->visitor, 0);
  assert_false(f->rig->ended);
  size_t sent = 0;
  RIG_UNTIL(f->rig, (rig_send_pattern(f->rig->visitor, &sent, BIG), far_read(f, SIZE_MAX), f->far.got == BIG));
  rig_close(&f->rig->visitor);
  RIG_UNTIL(f->rig, (far_read(f, SIZE_MAX), f->far.fin));
  assert_true(f->far.eof);
  RIG_UNTIL(f->rig, f->rig->ended);
  assert_int_equal(f->rig->why, CLOSE_CLEAN);
  rig_close(&f->rig->agent);
  RIG_UNTIL(f->rig, list_empty(&f->rig->pool->lingers));
}

static void end_of_the_app_is_close_notify_then_fin_and_the_upload_flows(void **state) {
  struct fixture *f = *state;
  start_sealed(f, 0);
  shutdown(f->rig->visitor, SHUT_WR);
  RIG_UNTIL(f->rig, (far_read(f, SIZE_MAX), f->far.fin));
  assert_true(f->far.eof);
  size_t got = 0;
  RIG_UNTIL(f->rig, (far_send_pattern(f, BIG), rig_expect_pattern(f->rig->visitor, &got, SIZE_MAX), got == BIG));
  far_close(f);
  rig_expect_end(f->rig, f->rig->visitor, 0);
  RIG_UNTIL(f->rig, f->rig->ended);
  assert_int_equal(f->rig->why, CLOSE_CLEAN);
}

static void data_and_close_notify_in_one_segment_end_cleanly(void **state) {
  struct fixture *f = *state;
  start_sealed(f, 0);
  far_put(f, "all", 3);
  far_close(f);
  shutdown(f->rig->agent, SHUT_WR);
  rig_expect_text(f->rig, f->rig->visitor, "all");
  rig_expect_end(f->rig, f->rig->visitor, 0);
  rig_close(&f->rig->visitor);
  RIG_UNTIL(f->rig, f->rig->ended);
  assert_int_equal(f->rig->why, CLOSE_CLEAN);
}

static void fin_without_close_notify_is_a_truncation_and_resets_the_app(void **state) {
  struct fixture *f = *state;
  start_sealed(f, 0);
  far_send_text(f, "cut off");
  shutdown(f->rig->agent, SHUT_WR);
  char got[16];
  ssize_t n = -1;
  RIG_UNTIL(f->rig, (n = rig_recv(f->rig->visitor, got, sizeof got)) != -1);
  assert_int_equal(n, 7);          /* what came before is delivered */
  rig_expect_end(f->rig, f->rig->visitor, -2);
  RIG_UNTIL(f->rig, f->rig->ended);
  assert_int_equal(f->rig->why, CLOSE_TRUNCATED);
}

static void a_partial_record_at_the_end_is_a_truncation(void **state) {
  struct fixture *f = *state;
  start_sealed(f, 0);
  far_put(f, "partial", 7);
  f->far.out_n -= 3;
  far_flush(f);
  shutdown(f->rig->agent, SHUT_WR);
  RIG_UNTIL(f->rig, f->rig->ended);
  assert_int_equal(f->rig->why, CLOSE_TRUNCATED);
  assert_int_equal(f->rig->to_peer, 0);
}

static void a_corrupted_record_is_answered_with_an_alert_and_resets_the_app(void **state) {
  struct fixture *f = *state;
  start_sealed(f, 0);
  far_put(f, "good", 4);
  far_put(f, "bad", 3);
  f->far.out[f->far.out_n - 1] ^= 1;
  far_flush(f);
  rig_expect_text(f->rig, f->rig->visitor, "good");
  RIG_UNTIL(f->rig, (far_read(f, SIZE_MAX), f->far.reset));
  assert_true(f->far.alerted);
  rig_expect_end(f->rig, f->rig->visitor, -2);
  RIG_UNTIL(f->rig, f->rig->ended);
  assert_int_equal(f->rig->why, CLOSE_PROTOCOL);
}

static void a_fatal_alert_of_the_visitor_resets_the_app(void **state) {
  struct fixture *f = *state;
  start_sealed(f, 0);
  sealed_fail(f->far.sealed, ALERT_INTERNAL_ERROR);
  assert_true(far_put_owed(f));
  far_flush(f);
  RIG_UNTIL(f->rig, f->rig->ended);
  assert_int_equal(f->rig->why, CLOSE_PEER_ALERT);
  rig_expect_end(f->rig, f->rig->visitor, -2);
}

static void an_app_reset_delivers_its_answer_without_close_notify(void **state) {
  struct fixture *f = *state;
  start_sealed(f, 0);
  for (int i = 0; i < 30; i++) {
    far_send_pattern(f, BIG);
    loop_turn(f->rig->loop, 1);
  }
  rig_send_text(f->rig->visitor, "413");
  rig_close(&f->rig->visitor);     /* with unread input: the kernel resets */
  far_expect_text(f, "413");
  RIG_UNTIL(f->rig, (far_read(f, SIZE_MAX), f->far.reset || f->far.fin));
  assert_true(f->far.reset);
  assert_false(f->far.eof);
  RIG_UNTIL(f->rig, f->rig->ended);
  assert_int_equal(f->rig->why, CLOSE_PEER_RESET);
}

static void an_app_that_answers_in_mid_upload_leaves_the_visitor_time_to_read(void **state) {
  struct fixture *f = *state;
  start_sealed(f, 0);
  for (int i = 0; i < 30; i++) {
    far_send_pattern(f, BIG);
    loop_turn(f->rig->loop, 1);
  }
  rig_send_text(f->rig->visitor, "413");
  rig_close(&f->rig->visitor);
  uint64_t began = rig_now_ms();
  f->far.keep_text = true;
  while (rig_now_ms() - began < RESET_GRACE_MS / 2) {
    far_send_pattern(f, BIG);      /* goes on sending, and is not told off */
    far_read(f, SIZE_MAX);
    assert_false(f->far.reset);
    loop_turn(f->rig->loop, 1);
  }
  assert_int_equal(f->far.text_n, 3);
  RIG_UNTIL(f->rig, (far_read(f, SIZE_MAX), f->far.reset));
  assert_true(rig_now_ms() - began < RESET_DELIVERY_MS);
}

/* The relay's end of a raw stream, whose agent answered and reset while it did not run. */
static void what_the_agent_sealed_behind_the_prefix_outlives_a_write_that_fails_first(void **state) {
  struct fixture *f = *state;
  struct rig *r = f->rig;
  struct pump_params params = {.sealed = make_sealed(false, 0), .wire_prefix_n = 6, .visitor_is_peer = true};
  rig_start(r, &params);
  rig_settle(r);
  rig_send_text(r->agent, "accept");
  far_send_text(f, "503 ");
  far_send_text(f, "busy");
  rig_reset(&r->agent);
  rig_send_text(r->visitor, "upload");
  rig_visitor_first(r);
  assert_true(r->pump->wire.reset);
  rig_expect_text(r, r->visitor, "503 busy");
  RIG_UNTIL(r, r->ended);
  assert_int_equal(r->why, CLOSE_WIRE_RESET);
  rig_expect_end(r, r->visitor, -2);
}

/* The agent's end: its app answered early and reset, and what the visitor sends is what finds out. */
static void an_answer_outlives_an_upload_that_runs_into_the_reset_of_the_app(void **state) {
  struct fixture *f = *state;
  struct rig *r = f->rig;
  start_sealed(f, 0);
  rig_settle(r);
  rig_send_text(r->visitor, "503 busy");
  rig_reset(&r->visitor);
  far_send_text(f, "upload");
  r->pump->wire.io.fn(&r->pump->wire.io, EPOLLIN);
  assert_true(r->pump->peer.reset);
  far_expect_text(f, "503 busy");
  RIG_UNTIL(r, (far_read(f, SIZE_MAX), f->far.reset));
  assert_int_equal(r->why, CLOSE_PEER_RESET);
}

static void a_reset_of_the_wire_resets_the_app(void **state) {
  struct fixture *f = *state;
  start_sealed(f, 0);
  rig_settle(f->rig);
  rig_reset(&f->rig->agent);
  RIG_UNTIL(f->rig, f->rig->ended);
  assert_int_equal(f->rig->why, CLOSE_WIRE_RESET);
  rig_expect_end(f->rig, f->rig->visitor, -2);
}

static void abort_tells_the_visitor_by_a_fatal_alert(void **state) {
  struct fixture *f = *state;
  start_sealed(f, 0);
  rig_settle(f->rig);
  pump_abort(f->rig->pump, CLOSE_REVOKED);
  assert_true(f->rig->ended);
  RIG_UNTIL(f->rig, (far_read(f, SIZE_MAX), f->far.reset));
  assert_true(f->far.alerted);
  rig_expect_end(f->rig, f->rig->visitor, -2);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

static void stop_delivers_what_both_sides_had_sent(void **state) {
  struct fixture *f = *state;
  struct rig *r = f->rig;
  size_t sent = 0, got = 0;
  start_sealed(f, 0);
  rig_settle(r);
  rig_send_pattern(r->visitor, &sent, 30000);
  far_send_pattern(f, 30000);
  pump_stop(r->pump, CLOSE_LOCAL);
  RIG_UNTIL(r, r->ended);
  assert_int_equal(r->why, CLOSE_LOCAL);
  RIG_UNTIL(r, (far_read(f, SIZE_MAX), f->far.reset));
  assert_int_equal(f->far.got, sent);
  assert_false(f->far.eof || f->far.alerted);
  assert_int_equal(rig_expect_pattern(r->visitor, &got, SIZE_MAX), RIG_RESET);
  assert_int_equal(got, f->far.sent);
}

/* The app is done; only its end was not read yet. Its visitor must not take the answer for a broken one. */
static void stop_lets_an_answer_that_is_complete_end_cleanly(void **state) {
  struct fixture *f = *state;
  struct rig *r = f->rig;
  size_t sent = 0;
  start_sealed(f, 0);
  rig_settle(r);
  rig_send_pattern(r->visitor, &sent, 30000);
  shutdown(r->visitor, SHUT_WR);
  pump_stop(r->pump, CLOSE_LOCAL);
  RIG_UNTIL(r, (far_read(f, SIZE_MAX), r->ended && (f->far.fin || f->far.reset)));
  assert_int_equal(f->far.got, sent);
  assert_true(f->far.eof);
  assert_false(f->far.alerted);
}

static void stop_of_a_stream_whose_app_resets_meanwhile_ends_it(void **state) {
  struct fixture *f = *state;
  struct rig *r = f->rig;
  start_sealed(f, 0);
  rig_settle(r);
  rig_send_text(r->visitor, "answer");
  rig_reset(&r->visitor);
  pump_stop(r->pump, CLOSE_LOCAL);
  RIG_UNTIL(r, (far_read(f, 0), r->ended));
  f->far.keep_text = true;
  RIG_UNTIL(r, (far_read(f, SIZE_MAX), f->far.reset));
  assert_true(f->far.text_n == 0 || f->far.text_n == 6);   /* a reset may overtake what it follows */
}

int main(void) {
  const struct CMUnitTest tests[] = {
    TEST(plaintext_passes_both_ways),
    TEST(megabytes_pass_both_ways_at_once),
    TEST(slow_readers_hold_one_buffer_each_way),
    TEST(a_stalled_stream_keeps_its_bytes_and_no_more),
    TEST(half_a_record_costs_no_full_buffer_and_is_still_one_message),
    TEST(a_sealed_stream_of_a_pool_that_lent_much_loses_nothing),
    TEST(a_small_fragment_maximum_is_kept),
    TEST(a_record_in_single_bytes_is_one_message),
    TEST(thousands_of_tiny_records_in_one_read_pass),
    TEST(key_updates_are_answered_without_data_and_coalesced),
    TEST(key_updates_while_our_writes_are_blocked_are_no_deadlock),
    TEST(more_key_updates_than_a_second_allows_end_the_stream_by_an_alert),
    TEST(a_flood_of_key_updates_is_worked_off_over_many_turns),
    TEST(a_violation_behind_blocked_data_is_still_a_violation),
    TEST(close_notify_is_half_close_and_the_answer_flows),
    TEST(end_of_the_app_is_close_notify_then_fin_and_the_upload_flows),
    TEST(data_and_close_notify_in_one_segment_end_cleanly),
    TEST(fin_without_close_notify_is_a_truncation_and_resets_the_app),
    TEST(a_partial_record_at_the_end_is_a_truncation),
    TEST(a_corrupted_record_is_answered_with_an_alert_and_resets_the_app),
    TEST(a_fatal_alert_of_the_visitor_resets_the_app),
    TEST(an_app_reset_delivers_its_answer_without_close_notify),
    TEST(an_app_that_answers_in_mid_upload_leaves_the_visitor_time_to_read),
    TEST(what_the_agent_sealed_behind_the_prefix_outlives_a_write_that_fails_first),
    TEST(an_answer_outlives_an_upload_that_runs_into_the_reset_of_the_app),
    TEST(a_reset_of_the_wire_resets_the_app),
    TEST(abort_tells_the_visitor_by_a_fatal_alert),
    TEST(stop_delivers_what_both_sides_had_sent),
    TEST(stop_lets_an_answer_that_is_complete_end_cleanly),
    TEST(stop_of_a_stream_whose_app_resets_meanwhile_ends_it),
  };
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  rig_moves = true;
  return failed + cmocka_run_group_tests(tests, NULL, NULL);
}
