/* The rules of an established connection (RFC 8446 4.6.3, 5, 6), two of our own ends against each other; the peer that
   breaks a rule is a bare record layer. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "sealed_moved.h"

static bool moves;                 /* before everything that happens to it: what holds for one that stays holds for one
                                      that moves */

struct fixture {
  struct sealed *ours;
  struct record_keys peer_out, peer_in;
};

static void open_fixture(struct fixture *f, size_t fragment_max) {
  uint8_t theirs[TLS_SECRET_MAX_BYTES], mine[TLS_SECRET_MAX_BYTES];
  const struct tls_suite *suite = tls_suite_find(0x1301);
  memset(theirs, 1, sizeof theirs);
  memset(mine, 2, sizeof mine);
  const struct sealed_params p = {.suite = suite, .read_secret = theirs, .write_secret = mine,
                                  .fragment_max = fragment_max};
  f->ours = sealed_new(&p);
  assert_non_null(f->ours);
  assert_int_equal(record_keys_init(&f->peer_out, suite, theirs, 0, true), 0);
  assert_int_equal(record_keys_init(&f->peer_in, suite, mine, 0, false), 0);
}

static void close_fixture(struct fixture *f) {
  sealed_free(f->ours);
  record_keys_free(&f->peer_out);
  record_keys_free(&f->peer_in);
}

static void may_move(struct fixture *f) {
  if (moves) f->ours = sealed_moved(f->ours);
}

static uint8_t got[RECORD_PLAIN_MAX];
static size_t got_n;

/* The peer sends one record of this content. */
static enum sealed_result from_peer(struct fixture *f, enum record_type type, const void *p, size_t n) {
  uint8_t record[1024], *plain;
  size_t consumed;
  memcpy(record + RECORD_HEADER_BYTES, p, n);
  assert_int_equal(record_seal(&f->peer_out, type, record, n), 0);
  may_move(f);
  enum sealed_result r = sealed_read(f->ours, record, n + RECORD_OVERHEAD_BYTES, &consumed, &plain, &got_n);
  if (r == SEALED_DATA) memcpy(got, plain, got_n);
  return r;
}

/* What we owe reaches the peer as one record: its type and content. */
static enum record_type owed_to_peer(struct fixture *f, uint8_t content[8], size_t *n) {
  uint8_t out[SEALED_OWED_MAX], *plain, alert;
  enum record_type type;
  may_move(f);
  assert_true(sealed_owes(f->ours));
  size_t len = sealed_write_owed(f->ours, out);
  assert_true(len > 0);
  assert_int_equal(record_length(out, len), len);
  assert_int_equal(record_open(&f->peer_in, out, len, &type, &plain, n, &alert), 0);
  memcpy(content, plain, *n);
  return type;
}

static void expect_our_alert(struct fixture *f, uint8_t alert) {
  uint8_t content[8], out[SEALED_OWED_MAX];
  size_t n;
  assert_int_equal(owed_to_peer(f, content, &n), RECORD_ALERT);
  assert_int_equal(n, 2);
  assert_int_equal(content[0], alert == ALERT_CLOSE_NOTIFY ? 1 : 2);
  assert_int_equal(content[1], alert);
  may_move(f);
  assert_true(sealed_write_ended(f->ours));
  assert_false(sealed_owes(f->ours));
  assert_int_equal(sealed_write_owed(f->ours, out), 0);
  assert_int_equal(sealed_write(f->ours, out, 1), ERR_NOT_NOW);
}

static void refused_record(enum record_type type, const void *p, size_t n, uint8_t alert) {
  struct fixture f;
  open_fixture(&f, 0);
  assert_int_equal(from_peer(&f, type, p, n), SEALED_FAILED);
  expect_our_alert(&f, alert);
  assert_int_equal(from_peer(&f, RECORD_APPLICATION_DATA, "x", 1), SEALED_FAILED);
  close_fixture(&f);
}

static const uint8_t update[] = {24, 0, 0, 1, 0}, update_please[] = {24, 0, 0, 1, 1};

static void key_updates_that_ask_are_answered_once_before_the_next_data(void **state) {
  (void)state;
  struct fixture f;
  uint8_t content[8], record[64], *plain, alert;
  size_t n;
  enum record_type type;
  open_fixture(&f, 0);
  for (int i = 0; i < 100; i++) {
    assert_int_equal(from_peer(&f, RECORD_HANDSHAKE, update_please, sizeof update_please), SEALED_NOTHING);
    assert_int_equal(record_keys_update(&f.peer_out), 0);
    assert_int_equal(from_peer(&f, RECORD_APPLICATION_DATA, "data", 4), SEALED_DATA);
    assert_int_equal(got_n, 4);
    assert_memory_equal(got, "data", 4);
  }
  assert_true(sealed_owes(f.ours));
  assert_int_equal(sealed_write(f.ours, record, 1), ERR_NOT_NOW);
  assert_int_equal(owed_to_peer(&f, content, &n), RECORD_HANDSHAKE);
  assert_int_equal(n, sizeof update);
  assert_memory_equal(content, update, sizeof update);
  assert_false(sealed_owes(f.ours));
  assert_int_equal(record_keys_update(&f.peer_in), 0);
  record[RECORD_HEADER_BYTES] = 'y';
  assert_int_equal(sealed_write(f.ours, record, 1), 0);
  assert_int_equal(record_open(&f.peer_in, record, 1 + RECORD_OVERHEAD_BYTES, &type, &plain, &n, &alert), 0);
  assert_int_equal(plain[0], 'y');
  close_fixture(&f);
}

static void a_key_update_that_does_not_ask_is_not_answered(void **state) {
  (void)state;
  struct fixture f;
  open_fixture(&f, 0);
  assert_int_equal(from_peer(&f, RECORD_HANDSHAKE, update, sizeof update), SEALED_NOTHING);
  assert_int_equal(record_keys_update(&f.peer_out), 0);
  assert_false(sealed_owes(f.ours));
  assert_int_equal(from_peer(&f, RECORD_APPLICATION_DATA, "z", 1), SEALED_DATA);
  close_fixture(&f);
}

static void our_own_key_is_updated_at_its_limit(void **state) {
  (void)state;
  uint8_t theirs[TLS_SECRET_MAX_BYTES] = {1}, record[64], out[SEALED_OWED_MAX];
  const struct sealed_params p = {.suite = tls_suite_find(0x1302), .read_secret = theirs, .write_secret = theirs,
                                  .write_sequence = RECORDS_PER_KEY_MAX - 1};
  struct sealed *s = sealed_new(&p);
  assert_non_null(s);
  assert_false(sealed_owes(s));
  assert_int_equal(sealed_write(s, record, 1), 0);
  assert_true(sealed_owes(s));
  assert_int_equal(sealed_write(s, record, 1), ERR_NOT_NOW);
  assert_int_equal(sealed_write_owed(s, out), sizeof update + RECORD_OVERHEAD_BYTES);
  assert_false(sealed_owes(s));
  assert_int_equal(sealed_write(s, record, 1), 0);
  sealed_free(s);
}

/* As a stranger's server sends them: one or several in a record, and nothing else. */
static void tickets_are_passed_over_where_the_other_end_is_a_stranger(void **state) {
  (void)state;
  static const uint8_t two[] = {4, 0, 0, 2, 9, 9, 4, 0, 0, 0}, mixed[] = {4, 0, 0, 0, 24, 0, 0, 1, 0};
  struct fixture f;
  open_fixture(&f, 0);
  sealed_free(f.ours);
  uint8_t theirs[TLS_SECRET_MAX_BYTES], mine[TLS_SECRET_MAX_BYTES];
  memset(theirs, 1, sizeof theirs);
  memset(mine, 2, sizeof mine);
  f.ours = sealed_new(&(struct sealed_params){
    .suite = tls_suite_find(0x1301), .read_secret = theirs, .write_secret = mine, .from_server = true});
  assert_int_equal(from_peer(&f, RECORD_HANDSHAKE, two, sizeof two), SEALED_NOTHING);
  assert_int_equal(from_peer(&f, RECORD_HANDSHAKE, two, 6), SEALED_NOTHING);
  assert_int_equal(from_peer(&f, RECORD_APPLICATION_DATA, "data", 4), SEALED_DATA);
  assert_int_equal(from_peer(&f, RECORD_HANDSHAKE, mixed, sizeof mixed), SEALED_FAILED);
  close_fixture(&f);
  open_fixture(&f, 0);
  assert_int_equal(from_peer(&f, RECORD_HANDSHAKE, two, sizeof two), SEALED_FAILED);
  close_fixture(&f);
}

static void handshake_messages_other_than_a_lone_key_update_are_refused(void **state) {
  (void)state;
  const uint8_t two[] = {24, 0, 0, 1, 0, 24, 0, 0, 1, 0}, ticket[] = {4, 0, 0, 1, 0}, odd[] = {24, 0, 0, 1,
      2}, longer[] = {24, 0, 0, 2, 0, 0};
  refused_record(RECORD_HANDSHAKE, two, sizeof two, ALERT_UNEXPECTED_MESSAGE);
  refused_record(RECORD_HANDSHAKE, update, 3, ALERT_UNEXPECTED_MESSAGE);
  refused_record(RECORD_HANDSHAKE, update, 0, ALERT_UNEXPECTED_MESSAGE);
  refused_record(RECORD_HANDSHAKE, ticket, sizeof ticket, ALERT_UNEXPECTED_MESSAGE);
  refused_record(RECORD_HANDSHAKE, odd, sizeof odd, ALERT_ILLEGAL_PARAMETER);
  refused_record(RECORD_HANDSHAKE, longer, sizeof longer, ALERT_DECODE_ERROR);
}

static void alerts_cut_or_empty_are_refused(void **state) {
  (void)state;
  const uint8_t two[] = {1, 0, 1, 0};
  refused_record(RECORD_ALERT, two, 0, ALERT_UNEXPECTED_MESSAGE);
  refused_record(RECORD_ALERT, two, 1, ALERT_DECODE_ERROR);
  refused_record(RECORD_ALERT, two, 4, ALERT_DECODE_ERROR);
}

static void other_content_types_are_unexpected(void **state) {
  (void)state;
  refused_record(RECORD_CHANGE_CIPHER_SPEC, "\x01", 1, ALERT_UNEXPECTED_MESSAGE);
  refused_record((enum record_type)24, "\x01", 1, ALERT_UNEXPECTED_MESSAGE);
}

static void refused_bytes(const uint8_t *p, size_t n, uint8_t alert) {
  struct fixture f;
  uint8_t bytes[64], *plain;
  size_t consumed, plain_n;
  open_fixture(&f, 0);
  memcpy(bytes, p, n);
  assert_int_equal(sealed_read(f.ours, bytes, n, &consumed, &plain, &plain_n), SEALED_FAILED);
  expect_our_alert(&f, alert);
  close_fixture(&f);
}

static void illegal_headers_are_refused_before_their_body_is_there(void **state) {
  (void)state;
  const uint8_t change[] = {20, 3, 3, 0, 1, 1}, plain_alert[] = {21, 3, 3, 0, 2, 1, 0}, oversize[] = {23, 3, 3, 0x41,
      0x01};
  refused_bytes(change, sizeof change, ALERT_UNEXPECTED_MESSAGE);
  refused_bytes(plain_alert, sizeof plain_alert, ALERT_UNEXPECTED_MESSAGE);
  refused_bytes(oversize, sizeof oversize, ALERT_RECORD_OVERFLOW);
}

static void a_corrupted_record_is_a_bad_record_mac(void **state) {
  (void)state;
  struct fixture f;
  uint8_t record[64], *plain;
  size_t consumed, n;
  open_fixture(&f, 0);
  record[RECORD_HEADER_BYTES] = 'a';
  assert_int_equal(record_seal(&f.peer_out, RECORD_APPLICATION_DATA, record, 1), 0);
  record[8] ^= 1;
  assert_int_equal(sealed_read(f.ours, record, 1 + RECORD_OVERHEAD_BYTES, &consumed, &plain, &n), SEALED_FAILED);
  expect_our_alert(&f, ALERT_BAD_RECORD_MAC);
  close_fixture(&f);
}

static void less_than_a_record_asks_for_the_rest(void **state) {
  (void)state;
  struct fixture f;
  uint8_t record[64], *plain;
  size_t consumed, n;
  open_fixture(&f, 0);
  memcpy(record + RECORD_HEADER_BYTES, "hello", 5);
  assert_int_equal(record_seal(&f.peer_out, RECORD_APPLICATION_DATA, record, 5), 0);
  for (size_t len = 0; len < 5 + RECORD_OVERHEAD_BYTES; len++) {
    assert_int_equal(sealed_read(f.ours, record, len, &consumed, &plain, &n), SEALED_MORE);
    assert_int_equal(consumed, 0);
  }
  assert_int_equal(sealed_read(f.ours, record, sizeof record, &consumed, &plain, &n), SEALED_DATA);
  assert_int_equal(consumed, 5 + RECORD_OVERHEAD_BYTES);
  assert_int_equal(n, 5);
  close_fixture(&f);
}

static void empty_data_and_user_canceled_are_nothing(void **state) {
  (void)state;
  struct fixture f;
  open_fixture(&f, 0);
  assert_int_equal(from_peer(&f, RECORD_APPLICATION_DATA, "", 0), SEALED_NOTHING);
  assert_int_equal(from_peer(&f, RECORD_ALERT, "\x01\x5a", 2), SEALED_NOTHING);
  assert_int_equal(from_peer(&f, RECORD_APPLICATION_DATA, "x", 1), SEALED_DATA);
  close_fixture(&f);
}

static void close_notify_ends_one_direction_only(void **state) {
  (void)state;
  struct fixture f;
  uint8_t record[64];
  open_fixture(&f, 0);
  assert_int_equal(from_peer(&f, RECORD_ALERT, "\x01\x00", 2), SEALED_EOF);
  assert_int_equal(from_peer(&f, RECORD_APPLICATION_DATA, "late", 4), SEALED_EOF);
  assert_int_equal(sealed_write(f.ours, record, 5), 0);
  sealed_close(f.ours);
  assert_int_equal(sealed_write(f.ours, record, 5), ERR_NOT_NOW);
  close_fixture(&f);

  open_fixture(&f, 0);
  sealed_close(f.ours);
  expect_our_alert(&f, ALERT_CLOSE_NOTIFY);
  assert_int_equal(from_peer(&f, RECORD_APPLICATION_DATA, "still", 5), SEALED_DATA);
  assert_int_equal(from_peer(&f, RECORD_HANDSHAKE, update_please, sizeof update_please), SEALED_NOTHING);
  assert_false(sealed_owes(f.ours));
  close_fixture(&f);
}

static void an_answer_owed_goes_out_before_close_notify(void **state) {
  (void)state;
  struct fixture f;
  uint8_t out[SEALED_OWED_MAX];
  open_fixture(&f, 0);
  assert_int_equal(from_peer(&f, RECORD_HANDSHAKE, update_please, sizeof update_please), SEALED_NOTHING);
  sealed_close(f.ours);
  size_t n = sealed_write_owed(f.ours, out);
  assert_int_equal(record_length(out, n), sizeof update + RECORD_OVERHEAD_BYTES);
  assert_int_equal(n, 2 * RECORD_OVERHEAD_BYTES + sizeof update + 2);
  assert_true(sealed_write_ended(f.ours));
  close_fixture(&f);
}

static void a_fatal_alert_of_the_peer_is_told_whatever_its_level(void **state) {
  (void)state;
  struct fixture f;
  open_fixture(&f, 0);
  assert_int_equal(from_peer(&f, RECORD_ALERT, "\x01\x50", 2), SEALED_PEER_ALERT);
  assert_int_equal(from_peer(&f, RECORD_APPLICATION_DATA, "x", 1), SEALED_PEER_ALERT);
  close_fixture(&f);
}

/* Content and so much padding: to record_seal the padding is content, behind the true type, and the last zero the
   type. */
static enum sealed_result padded_from_peer(struct fixture *f, size_t content, size_t padding) {
  static uint8_t record[RECORD_PLAIN_MAX + 1 + RECORD_OVERHEAD_BYTES];
  uint8_t *plain;
  size_t consumed, n = content + padding;
  memset(record, 0, sizeof record);
  memset(record + RECORD_HEADER_BYTES, 'x', content);
  if (padding > 0) record[RECORD_HEADER_BYTES + content] = RECORD_APPLICATION_DATA;
  assert_int_equal(record_seal(&f->peer_out, padding > 0 ? (enum record_type)0 : RECORD_APPLICATION_DATA, record, n),
                   0);
  return sealed_read(f->ours, record, n + RECORD_OVERHEAD_BYTES, &consumed, &plain, &got_n);
}

static void the_fragment_limit_holds_for_what_we_read(void **state) {
  (void)state;
  static const struct { size_t limit, content, padding; } good[] = {
    {512, 512, 0}, {512, 500, 12}, {512, 0, 512}, {4096, 4096, 0}, {0, RECORD_PLAIN_MAX, 0},
    {0, 1, RECORD_PLAIN_MAX - 1}},
    bad[] = {{512, 513, 0}, {512, 512, 1}, {512, 1, 512}, {512, 16000, 0}, {4096, 4097, 0}};
  struct fixture f;
  for (size_t i = 0; i < ARRAY_LEN(good); i++) {
    open_fixture(&f, good[i].limit);
    assert_int_equal(padded_from_peer(&f, good[i].content, good[i].padding),
                     good[i].content > 0 ? SEALED_DATA : SEALED_NOTHING);
    assert_int_equal(got_n, good[i].content);
    close_fixture(&f);
  }
  for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
    open_fixture(&f, bad[i].limit);
    assert_int_equal(padded_from_peer(&f, bad[i].content, bad[i].padding), SEALED_FAILED);
    expect_our_alert(&f, ALERT_RECORD_OVERFLOW);
    close_fixture(&f);
  }
}

static void the_fragment_limit_holds_for_what_we_write(void **state) {
  (void)state;
  static uint8_t record[RECORD_PLAIN_MAX + RECORD_OVERHEAD_BYTES + 1];
  struct fixture f;
  open_fixture(&f, 512);
  assert_int_equal(sealed_fragment_max(f.ours), 512);
  assert_int_equal(sealed_write(f.ours, record, 513), ERR_USAGE);
  assert_int_equal(sealed_write(f.ours, record, 0), ERR_USAGE);
  assert_int_equal(sealed_write(f.ours, record, 512), 0);
  close_fixture(&f);
  open_fixture(&f, 0);
  assert_int_equal(sealed_write(f.ours, record, RECORD_PLAIN_MAX + 1), ERR_USAGE);
  assert_int_equal(sealed_write(f.ours, record, RECORD_PLAIN_MAX), 0);
  close_fixture(&f);
}

static void what_is_cut_or_another_version_s_is_no_state(void **state) {
  (void)state;
  struct fixture f;
  struct sealed *s = NULL;
  uint8_t bytes[SEALED_EXPORT_MAX_BYTES];
  struct writer w = writer_of(bytes, sizeof bytes);
  open_fixture(&f, 512);
  sealed_export(f.ours, &w);
  f.ours = NULL;
  for (size_t n = 0; n < w.len; n++) {
    struct reader cut = reader_of(bytes, n);
    assert_int_equal(sealed_import(&cut, &s), ERR_SYNTAX);
  }
  bytes[0]++;
  struct reader later = reader_of(bytes, w.len);
  assert_int_equal(sealed_import(&later, &s), ERR_SYNTAX);
  assert_null(s);
  close_fixture(&f);
}

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(key_updates_that_ask_are_answered_once_before_the_next_data),
    cmocka_unit_test(a_key_update_that_does_not_ask_is_not_answered),
    cmocka_unit_test(our_own_key_is_updated_at_its_limit),
    cmocka_unit_test(tickets_are_passed_over_where_the_other_end_is_a_stranger),
    cmocka_unit_test(handshake_messages_other_than_a_lone_key_update_are_refused),
    cmocka_unit_test(alerts_cut_or_empty_are_refused),
    cmocka_unit_test(other_content_types_are_unexpected),
    cmocka_unit_test(illegal_headers_are_refused_before_their_body_is_there),
    cmocka_unit_test(a_corrupted_record_is_a_bad_record_mac),
    cmocka_unit_test(less_than_a_record_asks_for_the_rest),
    cmocka_unit_test(empty_data_and_user_canceled_are_nothing),
    cmocka_unit_test(close_notify_ends_one_direction_only),
    cmocka_unit_test(an_answer_owed_goes_out_before_close_notify),
    cmocka_unit_test(a_fatal_alert_of_the_peer_is_told_whatever_its_level),
    cmocka_unit_test(the_fragment_limit_holds_for_what_we_read),
    cmocka_unit_test(the_fragment_limit_holds_for_what_we_write),
    cmocka_unit_test(what_is_cut_or_another_version_s_is_no_state),
  };
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  moves = true;
  return failed + cmocka_run_group_tests(tests, NULL, NULL);
}
