/* Both ends of a control link without a socket: what one engine gives, the other takes, at a clock that stands still
   until it is set. */
#include <stdlib.h>
#include <string.h>

#include "cm.h"
#include "link/engine.h"

enum { HEARD_MAX = 64, ANY_ID = 7 };

struct end {                       /* one end, and what its handlers were told and shall do */
  struct engine engine;
  struct engine_role role;
  uint64_t now_ms;
  uint8_t heard[HEARD_MAX];
  size_t heard_n;
  size_t stops_at;                 /* the handler of this frame, counted from 1, stops its engine; 0: none */
  int answer;                      /* of all handlers */
};

struct fixture { struct end relay, agent; };

static uint64_t now_ms(struct engine *e) { return CONTAINER_OF(e, struct end, engine)->now_ms; }

static int on_frame(struct engine *e, const struct frame *f) {
  struct end *end = CONTAINER_OF(e, struct end, engine);
  assert_true(end->heard_n < HEARD_MAX);
  end->heard[end->heard_n++] = f->type;
  if (end->heard_n == end->stops_at) engine_stop(e);
  return end->answer;
}

static int on_hello(struct engine *e, const struct frame *f) {
  int rc = on_frame(e, f);
  if (rc == 0 && e->state == LINK_HELLO) engine_open(e);
  return rc;
}

/* From a relay's and an agent's tables as much as the engine has rules for. */
static void begin(struct end *end, bool is_relay, size_t fragment_max) {
  struct tls_takeover t = {
      .suite = 0x1301, .client_secret = {1}, .server_secret = {2}, .exporter = {3}, .fragment_max = fragment_max};
  end->role = (struct engine_role){.is_relay = is_relay, .hello_max_bytes = 100, .now_ms = now_ms};
  end->role.rules[is_relay ? FRAME_HELLO : FRAME_WELCOME] = (struct engine_rule){WHILE_HELLO, on_hello};
  end->role.rules[FRAME_GOODBYE] = (struct engine_rule){WHILE_HELLO | WHILE_UP, on_frame};
  end->role.rules[FRAME_UNBIND] = (struct engine_rule){WHILE_UP, on_frame};
  end->now_ms = 1000;
  assert_int_equal(engine_start(&end->engine, &end->role, &t), 0);
}

/* As between two processes: of the one that was, nothing is left. */
static void move(struct end *end) {
  struct buf state;
  buf_init(&state, ENGINE_EXPORT_MAX_BYTES);
  assert_int_equal(engine_export(&end->engine, &state), 0);
  assert_int_equal(end->engine.state, LINK_DOWN);
  assert_true(end->engine.sealed == NULL && end->engine.keys == NULL);
  engine_free(&end->engine);
  struct reader r = reader_of(buf_data(&state), state.len);
  memset(&end->engine, 0, sizeof end->engine);
  assert_int_equal(engine_import(&end->engine, &end->role, &r), 0);
  assert_true(reader_done(&r));
  buf_free(&state);
}

static bool moves;                 /* whenever it can, for the tests' second run */

static void move_maybe(struct end *end) {
  bool open = end->engine.state == LINK_UP && !engine_failed(&end->engine) && end->engine.secrets == NULL;
  if (moves && open) move(end);
}

static int set_up(void **state) {
  struct fixture *f = calloc(1, sizeof *f);
  if (f == NULL) return -1;
  begin(&f->relay, true, 0);
  begin(&f->agent, false, 0);
  *state = f;
  return 0;
}

static int tear_down(void **state) {
  struct fixture *f = *state;
  engine_free(&f->relay.engine);
  engine_free(&f->agent.engine);
  free(f);
  return 0;
}

/* Takes bytes as a socket would have them, at most `step` at a time, and works on them. */
static enum engine_result take(struct end *to, const uint8_t *p, size_t n, size_t step, size_t share) {
  enum engine_result result = ENGINE_IDLE;
  while (n > 0 && result == ENGINE_IDLE) {
    size_t room;
    uint8_t *at = engine_room(&to->engine, &room);
    assert_non_null(at);
    room = size_min(size_min(room, step), n);
    memcpy(at, p, room);
    engine_received(&to->engine, room);
    p += room;
    n -= room;
    result = engine_work(&to->engine, share);
    if (result <= ENGINE_RESTS) move_maybe(to);
  }
  return result;
}

static size_t output(struct end *from, uint8_t *to, size_t cap) {
  size_t n, total = 0;
  move_maybe(from);
  for (const uint8_t *p; (p = engine_output(&from->engine, &n)) != NULL;) {
    assert_true(total + n <= cap);
    memcpy(to + total, p, n);
    engine_sent(&from->engine, n);
    total += n;
  }
  return total;
}

static uint8_t wire[2 * LINK_OUT_MAX_BYTES];

static enum engine_result carry_in_steps(struct end *from, struct end *to, size_t step) {
  return take(to, wire, output(from, wire, sizeof wire), step, SIZE_MAX);
}

static enum engine_result carry(struct end *from, struct end *to) { return carry_in_steps(from, to, SIZE_MAX); }

static void say_body(struct end *end, uint8_t type, const void *body, size_t n) {
  uint8_t bytes[FRAME_HEADER_BYTES + FRAME_BODY_MAX_BYTES] = {type, 0, (uint8_t)(n >> 8), (uint8_t)n};
  if (n > 0) memcpy(bytes + FRAME_HEADER_BYTES, body, n);
  struct writer w = {.base = bytes, .cap = sizeof bytes, .len = FRAME_HEADER_BYTES + n};
  engine_send(&end->engine, &w);
}

static void say(struct end *end, uint8_t type) { say_body(end, type, NULL, 0); }

static void comes_up(struct fixture *f) {
  say(&f->agent, FRAME_HELLO);
  assert_int_equal(carry(&f->agent, &f->relay), ENGINE_IDLE);
  say(&f->relay, FRAME_WELCOME);
  assert_int_equal(carry(&f->relay, &f->agent), ENGINE_IDLE);
  assert_int_equal(f->relay.engine.state, LINK_UP);
  assert_int_equal(f->agent.engine.state, LINK_UP);
  f->relay.heard_n = f->agent.heard_n = 0;
}

static void many_unbinds(struct end *end, uint32_t n) {
  uint8_t bytes[4096];
  struct writer w = writer_of(bytes, sizeof bytes);
  for (uint32_t i = 0; i < n; i++) frame_unbind_encode(&w, ANY_ID);
  engine_send(&end->engine, &w);
}

static void both_ends_make_the_same_keys_and_id_and_forget_what_of(void **state) {
  struct fixture *f = *state;
  uint8_t ours[X25519_BYTES], theirs[X25519_BYTES];
  uint64_t number;
  struct number_keys a, b;
  assert_int_equal(engine_exporter(&f->relay.engine)[0], 3);
  assert_int_equal(engine_make_share(&f->relay.engine, ours), 0);
  assert_int_equal(engine_make_share(&f->agent.engine, theirs), 0);
  assert_int_equal(engine_agree(&f->relay.engine, theirs), 0);
  assert_int_equal(engine_agree(&f->agent.engine, ours), 0);
  assert_null(f->relay.engine.secrets);
  assert_null(f->agent.engine.secrets);
  assert_memory_equal(f->relay.engine.id, f->agent.engine.id, LINK_ID_BYTES);
  assert_int_equal(link_keys_next(f->agent.engine.keys, &number, &a), 0);
  assert_int_equal(link_keys_peek(f->relay.engine.keys, number, 0, &b), 0);
  assert_memory_equal(&a, &b, sizeof a);
}

static void a_share_of_zeros_agrees_on_nothing_and_is_forgotten_too(void **state) {
  struct fixture *f = *state;
  uint8_t share[X25519_BYTES];
  assert_int_equal(engine_make_share(&f->relay.engine, share), 0);
  memset(share, 0, sizeof share);
  assert_true(engine_agree(&f->relay.engine, share) != 0);
  assert_null(f->relay.engine.keys);
  assert_null(f->relay.engine.secrets);
}

static void frames_arrive_whole_and_in_order_however_they_are_cut(void **state) {
  struct fixture *f = *state;
  uint8_t big[FRAME_BODY_MAX_BYTES] = {0};
  comes_up(f);
  say(&f->agent, FRAME_UNBIND);
  say_body(&f->agent, FRAME_UNBIND, big, sizeof big);    /* two records */
  say(&f->agent, FRAME_GOODBYE);
  assert_int_equal(carry_in_steps(&f->agent, &f->relay, 1), ENGINE_IDLE);
  const uint8_t expected[] = {FRAME_UNBIND, FRAME_UNBIND, FRAME_GOODBYE};
  assert_int_equal(f->relay.heard_n, sizeof expected);
  assert_memory_equal(f->relay.heard, expected, sizeof expected);
}

static void records_are_no_longer_than_was_agreed(void **state) {
  struct fixture *f = *state;
  engine_free(&f->relay.engine);
  engine_free(&f->agent.engine);
  begin(&f->relay, true, 512);
  begin(&f->agent, false, 512);
  comes_up(f);
  uint8_t big[5000] = {0};
  say_body(&f->agent, FRAME_UNBIND, big, sizeof big);
  assert_int_equal(carry(&f->agent, &f->relay), ENGINE_IDLE);
  assert_int_equal(f->relay.heard_n, 1);
}

static void nothing_but_hello_comes_first_and_hello_comes_once(void **state) {
  struct fixture *f = *state;
  say(&f->agent, FRAME_UNBIND);
  assert_int_equal(carry(&f->agent, &f->relay), ENGINE_MALFORMED);
  assert_int_equal(f->relay.heard_n, 0);
  engine_free(&f->relay.engine);
  engine_free(&f->agent.engine);
  begin(&f->relay, true, 0);
  begin(&f->agent, false, 0);
  comes_up(f);
  say(&f->agent, FRAME_HELLO);
  assert_int_equal(carry(&f->agent, &f->relay), ENGINE_MALFORMED);
}

static void what_is_unknown_is_skipped_but_not_from_a_stranger(void **state) {
  struct fixture *f = *state;
  comes_up(f);
  say(&f->agent, 200);
  say(&f->agent, 0);
  say(&f->agent, FRAME_PONG);
  say(&f->agent, FRAME_UNBIND);
  assert_int_equal(carry(&f->agent, &f->relay), ENGINE_IDLE);
  assert_int_equal(f->relay.heard_n, 1);
  engine_free(&f->relay.engine);
  engine_free(&f->agent.engine);
  begin(&f->relay, true, 0);
  begin(&f->agent, false, 0);
  say(&f->agent, 200);
  assert_int_equal(carry(&f->agent, &f->relay), ENGINE_MALFORMED);
}

static void a_stranger_s_frames_are_short(void **state) {
  struct fixture *f = *state;
  uint8_t body[101] = {0};
  say_body(&f->agent, FRAME_HELLO, body, 100);
  assert_int_equal(carry(&f->agent, &f->relay), ENGINE_IDLE);
  assert_int_equal(f->relay.engine.state, LINK_UP);
  say_body(&f->agent, FRAME_UNBIND, body, 101);
  assert_int_equal(carry(&f->agent, &f->relay), ENGINE_IDLE);
  say_body(&f->relay, FRAME_WELCOME, body, 101);
  assert_int_equal(carry(&f->relay, &f->agent), ENGINE_MALFORMED);
}

static void ping_is_answered_with_its_cookie_and_a_malformed_one_is_not(void **state) {
  struct fixture *f = *state;
  comes_up(f);
  engine_ping(&f->agent.engine, 4711);
  assert_int_equal(carry(&f->agent, &f->relay), ENGINE_IDLE);
  f->agent.role.rules[FRAME_PONG] = (struct engine_rule){WHILE_UP, on_frame};
  assert_int_equal(carry(&f->relay, &f->agent), ENGINE_IDLE);
  assert_int_equal(f->agent.heard_n, 1);
  say(&f->agent, FRAME_PING);
  assert_int_equal(carry(&f->agent, &f->relay), ENGINE_MALFORMED);
}

static void a_turn_has_its_share_of_frames_and_the_rest_is_not_lost(void **state) {
  struct fixture *f = *state;
  comes_up(f);
  many_unbinds(&f->agent, 10);
  size_t n = output(&f->agent, wire, sizeof wire);
  assert_int_equal(take(&f->relay, wire, n, SIZE_MAX, 4), ENGINE_RESTS);
  assert_int_equal(f->relay.heard_n, 4);
  assert_int_equal(engine_work(&f->relay.engine, 4), ENGINE_RESTS);
  assert_int_equal(f->relay.heard_n, 8);
  assert_int_equal(engine_work(&f->relay.engine, 4), ENGINE_IDLE);
  assert_int_equal(f->relay.heard_n, 10);
}

static void a_handler_may_stop_the_engine_amid_a_record_and_hears_no_more(void **state) {
  struct fixture *f = *state;
  comes_up(f);
  f->relay.stops_at = 3;
  many_unbinds(&f->agent, 10);
  assert_int_equal(carry(&f->agent, &f->relay), ENGINE_STOPPED);
  assert_int_equal(f->relay.heard_n, 3);
  assert_int_equal(engine_work(&f->relay.engine, 4), ENGINE_STOPPED);
  say(&f->relay, FRAME_UNBOUND);                         /* harmless, all of it */
  engine_close(&f->relay.engine);
  engine_stop(&f->relay.engine);
  size_t left;
  assert_null(engine_output(&f->relay.engine, &left));
}

static void what_a_handler_refuses_is_malformed_and_what_follows_is_not_heard(void **state) {
  struct fixture *f = *state;
  comes_up(f);
  f->relay.answer = ERR_SYNTAX;
  many_unbinds(&f->agent, 10);
  assert_int_equal(carry(&f->agent, &f->relay), ENGINE_MALFORMED);
  assert_int_equal(f->relay.heard_n, 1);
}

static void only_a_whole_frame_is_a_sign_of_life(void **state) {
  struct fixture *f = *state;
  comes_up(f);
  say(&f->agent, FRAME_PONG);
  size_t n = output(&f->agent, wire, sizeof wire);
  f->relay.now_ms = 5000;
  assert_int_equal(take(&f->relay, wire, n - 1, 1, SIZE_MAX), ENGINE_IDLE);
  assert_int_equal(f->relay.engine.heard_ms, 1000);
  assert_int_equal(take(&f->relay, wire + n - 1, 1, 1, SIZE_MAX), ENGINE_IDLE);
  assert_int_equal(f->relay.engine.heard_ms, 5000);
  assert_int_equal(f->relay.engine.spoke_ms, 1000);
}

static void what_was_said_before_close_still_arrives_and_nothing_behind_it(void **state) {
  struct fixture *f = *state;
  comes_up(f);
  say(&f->relay, FRAME_GOODBYE);
  engine_close(&f->relay.engine);
  assert_int_equal(carry(&f->relay, &f->agent), ENGINE_ENDED);
  assert_int_equal(f->agent.heard_n, 1);
}

static void a_forged_record_is_answered_by_an_alert_behind_what_was_said(void **state) {
  struct fixture *f = *state;
  comes_up(f);
  say(&f->relay, FRAME_GOODBYE);
  say(&f->agent, FRAME_PONG);
  size_t n = output(&f->agent, wire, sizeof wire);
  wire[n - 1] ^= 1;
  assert_int_equal(take(&f->relay, wire, n, SIZE_MAX, SIZE_MAX), ENGINE_VIOLATED);
  assert_int_equal(carry(&f->relay, &f->agent), ENGINE_ALERTED);
  assert_int_equal(f->agent.heard_n, 1);
}

/* The client's end, its keys changed so often. */
static size_t key_updates(uint8_t *to, unsigned count) {
  static const uint8_t update[] = {24, 0, 0, 1, 1}, secret[TLS_SECRET_MAX_BYTES] = {1};
  struct record_keys keys;
  size_t n = 0;
  assert_int_equal(record_keys_init(&keys, tls_suite_find(0x1301), secret, 1, true), 0);   /* one record was HELLO's */
  for (unsigned i = 0; i < count; i++) {
    memcpy(to + n + RECORD_HEADER_BYTES, update, sizeof update);
    assert_int_equal(record_seal(&keys, RECORD_HANDSHAKE, to + n, sizeof update), 0);
    assert_int_equal(record_keys_update(&keys), 0);
    n += sizeof update + RECORD_OVERHEAD_BYTES;
  }
  record_keys_free(&keys);
  return n;
}

static void key_updates_are_answered_once_and_before_more_is_said(void **state) {
  struct fixture *f = *state;
  comes_up(f);
  assert_int_equal(take(&f->relay, wire, key_updates(wire, 3), SIZE_MAX, SIZE_MAX), ENGINE_IDLE);
  say(&f->relay, FRAME_GOODBYE);
  assert_int_equal(engine_waiting(&f->relay.engine), 5 + FRAME_HEADER_BYTES + 2 * RECORD_OVERHEAD_BYTES);
  assert_int_equal(carry(&f->relay, &f->agent), ENGINE_IDLE);
  assert_int_equal(f->agent.heard_n, 1);
}

static void a_flood_of_key_updates_ends_the_link(void **state) {
  struct fixture *f = *state;
  size_t n = (IDLE_RECORDS_PER_S_MAX + 1) * (5 + RECORD_OVERHEAD_BYTES);
  uint8_t *flood = malloc(n);
  assert_non_null(flood);
  comes_up(f);
  assert_int_equal(key_updates(flood, IDLE_RECORDS_PER_S_MAX + 1), n);
  assert_int_equal(take(&f->relay, flood, n, SIZE_MAX, SIZE_MAX), ENGINE_VIOLATED);
  free(flood);
}

static void who_does_not_read_ends_the_link_but_not_while_somebody_sends(void **state) {
  struct fixture *f = *state;
  uint8_t body[FRAME_BODY_MAX_BYTES] = {0};
  comes_up(f);
  for (size_t i = 0; i * sizeof body <= LINK_OUT_MAX_BYTES; i++) {
    assert_int_equal(f->relay.engine.state, LINK_UP);
    say_body(&f->relay, FRAME_UNBOUND, body, sizeof body);
  }
  assert_true(engine_failed(&f->relay.engine));
  assert_true(engine_waiting(&f->relay.engine) <= LINK_OUT_MAX_BYTES);
  size_t left;
  assert_null(engine_output(&f->relay.engine, &left)); /* nothing leaves that has a hole behind it */
}

static void a_frame_that_did_not_fit_its_writer_is_never_half_sent(void **state) {
  struct fixture *f = *state;
  uint8_t small[6];
  struct writer w = writer_of(small, sizeof small);
  comes_up(f);
  frame_unbind_encode(&w, ANY_ID);
  engine_send(&f->agent.engine, &w);
  assert_true(engine_failed(&f->agent.engine));
  assert_int_equal(engine_waiting(&f->agent.engine), 0);
}

static void who_listens_hears_every_frame_before_its_rule(void **state) {
  struct fixture *f = *state;
  f->relay.role.heard = on_frame;
  say(&f->agent, FRAME_HELLO);
  say(&f->agent, FRAME_PONG);
  assert_int_equal(carry(&f->agent, &f->relay), ENGINE_IDLE);
  const uint8_t expected[] = {FRAME_HELLO, FRAME_HELLO, FRAME_PONG};
  assert_int_equal(f->relay.heard_n, sizeof expected);
  assert_memory_equal(f->relay.heard, expected, sizeof expected);
}

static void only_a_link_that_is_up_and_well_moves(void **state) {
  struct fixture *f = *state;
  struct buf bytes;
  buf_init(&bytes, ENGINE_EXPORT_MAX_BYTES);
  assert_int_equal(engine_export(&f->relay.engine, &bytes), ERR_NOT_NOW);
  comes_up(f);
  bytes.max = 100;
  assert_int_equal(engine_export(&f->relay.engine, &bytes), ERR_LIMIT);
  say(&f->agent, FRAME_PING);      /* as if it had not been tried */
  bytes.max = ENGINE_EXPORT_MAX_BYTES;
  while (!engine_failed(&f->relay.engine)) many_unbinds(&f->relay, 1000);
  assert_int_equal(engine_export(&f->relay.engine, &bytes), ERR_CLOSED);
  assert_int_equal(bytes.len, 0);
  engine_stop(&f->agent.engine);
  assert_int_equal(engine_export(&f->agent.engine, &bytes), ERR_NOT_NOW);
  buf_free(&bytes);
}

static void the_age_of_all_that_it_counts_moves_to_another_clock(void **state) {
  struct fixture *f = *state;
  comes_up(f);
  f->relay.engine.heard_ms = 900;
  f->relay.engine.spoke_ms = 950;
  f->relay.engine.idle_records = (struct idle_records){.since_ms = 800, .idle = 3, .data = 4};
  struct buf bytes;
  buf_init(&bytes, ENGINE_EXPORT_MAX_BYTES);
  assert_int_equal(engine_export(&f->relay.engine, &bytes), 0);
  engine_free(&f->relay.engine);
  f->relay.now_ms = 700000;
  struct reader r = reader_of(buf_data(&bytes), bytes.len);
  assert_int_equal(engine_import(&f->relay.engine, &f->relay.role, &r), 0);
  buf_free(&bytes);
  assert_int_equal(f->relay.engine.heard_ms, 700000 - 100);
  assert_int_equal(f->relay.engine.spoke_ms, 700000 - 50);
  assert_int_equal(f->relay.engine.idle_records.since_ms, 700000 - 200);
  assert_int_equal(f->relay.engine.idle_records.idle, 3);
  assert_int_equal(f->relay.engine.idle_records.data, 4);
}

/* Keys of data connections that are on their way: whoever has dialled before the move is known behind it, and nobody
   twice. */
static void the_keys_of_data_connections_move_along(void **state) {
  struct fixture *f = *state;
  uint8_t ours[X25519_BYTES], theirs[X25519_BYTES], id[LINK_ID_BYTES];
  struct number_keys a[3], b;
  uint64_t number;
  assert_int_equal(engine_make_share(&f->relay.engine, ours), 0);
  assert_int_equal(engine_make_share(&f->agent.engine, theirs), 0);
  assert_int_equal(engine_agree(&f->relay.engine, theirs), 0);
  assert_int_equal(engine_agree(&f->agent.engine, ours), 0);
  memcpy(id, f->relay.engine.id, sizeof id);
  comes_up(f);
  for (int i = 0; i < 2; i++) assert_int_equal(link_keys_next(f->agent.engine.keys, &number, &a[i]), 0);
  assert_int_equal(link_keys_peek(f->relay.engine.keys, 1, 1000, &b), 0);
  link_keys_claim(f->relay.engine.keys, 1, 1000);
  f->relay.now_ms += DATA_SKIPPED_KEY_LIFE_MS / 2;
  move(&f->relay);
  move(&f->agent);
  assert_memory_equal(f->relay.engine.id, id, sizeof id);
  assert_int_equal(link_keys_next(f->agent.engine.keys, &number, &a[2]), 0);
  assert_int_equal(number, 2);
  struct link_keys *k = f->relay.engine.keys;
  assert_int_equal(link_keys_peek(k, 1, f->relay.now_ms, &b), ERR_CONFLICT);
  assert_int_equal(link_keys_peek(k, 2, f->relay.now_ms, &b), 0);
  assert_memory_equal(&b, &a[2], sizeof b);
  assert_int_equal(link_keys_peek(k, 0, f->relay.now_ms, &b), 0);
  assert_memory_equal(&b, &a[0], sizeof b);
  assert_int_equal(link_keys_peek(k, 0, 1000 + DATA_SKIPPED_KEY_LIFE_MS + 1, &b), ERR_CONFLICT);
}

static void no_part_and_no_damage_of_its_bytes_harms(void **state) {
  struct fixture *f = *state;
  struct buf bytes;
  uint8_t ours[X25519_BYTES] = {9};
  struct number_keys keys;
  assert_int_equal(engine_agree(&f->relay.engine, ours), 0);
  comes_up(f);
  assert_int_equal(link_keys_peek(f->relay.engine.keys, 3, 0, &keys), 0);
  say(&f->relay, FRAME_UNBIND);
  say(&f->agent, FRAME_UNBIND);
  size_t n = output(&f->agent, wire, sizeof wire);
  assert_int_equal(take(&f->relay, wire, n - 1, n, 1), ENGINE_IDLE);
  buf_init(&bytes, ENGINE_EXPORT_MAX_BYTES);
  assert_int_equal(engine_export(&f->relay.engine, &bytes), 0);
  engine_free(&f->relay.engine);
  uint8_t *p = buf_data(&bytes);
  for (size_t i = 0; i < 9 * bytes.len; i++) {
    size_t at = i / 9;
    bool cut = i % 9 == 8;
    if (!cut) p[at] ^= (uint8_t)(1 << i % 9);
    struct reader r = reader_of(p, cut ? at : bytes.len);
    int rc = engine_import(&f->relay.engine, &f->relay.role, &r);
    assert_true(rc == ERR_SYNTAX || rc == ERR_NOMEM || (rc == 0 && !cut));
    engine_stop(&f->relay.engine);
    engine_free(&f->relay.engine);
    if (!cut) p[at] ^= (uint8_t)(1 << i % 9);
  }
  buf_free(&bytes);
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
int main(void) {
  const struct CMUnitTest tests[] = {T(both_ends_make_the_same_keys_and_id_and_forget_what_of),
                                     T(a_share_of_zeros_agrees_on_nothing_and_is_forgotten_too),
                                     T(frames_arrive_whole_and_in_order_however_they_are_cut),
                                     T(records_are_no_longer_than_was_agreed),
                                     T(nothing_but_hello_comes_first_and_hello_comes_once),
                                     T(what_is_unknown_is_skipped_but_not_from_a_stranger),
                                     T(a_stranger_s_frames_are_short),
                                     T(ping_is_answered_with_its_cookie_and_a_malformed_one_is_not),
                                     T(a_turn_has_its_share_of_frames_and_the_rest_is_not_lost),
                                     T(a_handler_may_stop_the_engine_amid_a_record_and_hears_no_more),
                                     T(what_a_handler_refuses_is_malformed_and_what_follows_is_not_heard),
                                     T(only_a_whole_frame_is_a_sign_of_life),
                                     T(what_was_said_before_close_still_arrives_and_nothing_behind_it),
                                     T(a_forged_record_is_answered_by_an_alert_behind_what_was_said),
                                     T(key_updates_are_answered_once_and_before_more_is_said),
                                     T(a_flood_of_key_updates_ends_the_link),
                                     T(who_does_not_read_ends_the_link_but_not_while_somebody_sends),
                                     T(a_frame_that_did_not_fit_its_writer_is_never_half_sent),
                                     T(who_listens_hears_every_frame_before_its_rule),
                                     T(only_a_link_that_is_up_and_well_moves),
                                     T(the_age_of_all_that_it_counts_moves_to_another_clock),
                                     T(the_keys_of_data_connections_move_along),
                                     T(no_part_and_no_damage_of_its_bytes_harms)};
  int failed = cmocka_run_group_tests_name("where they are", tests, NULL, NULL);
  moves = true;
  return failed + cmocka_run_group_tests_name("on the move", tests, NULL, NULL);
}
