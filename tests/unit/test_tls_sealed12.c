/* The rules of an established TLS 1.2 connection (RFC 5246 6.2, 7.2, 7.4.1), where they differ from TLS 1.3's. The peer
   is a bare record layer. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "sealed_moved.h"

static bool moves;                 /* before everything that happens to it */
static struct sealed *ours;
static struct record_keys peer_out, peer_in;

static int set_up(void **state) {
  (void)state;
  uint8_t theirs[TLS_SECRET_MAX_BYTES], mine[TLS_SECRET_MAX_BYTES];
  const struct tls_suite *suite = tls_suite_find(0xc02f);
  memset(theirs, 1, sizeof theirs);
  memset(mine, 2, sizeof mine);
  ours = sealed_new(&(struct sealed_params){
      .suite = suite, .read_secret = theirs, .write_secret = mine, .read_sequence = 1, .write_sequence = 1});
  assert_non_null(ours);
  assert_int_equal(record_keys_init(&peer_out, suite, theirs, 1, true), 0);
  assert_int_equal(record_keys_init(&peer_in, suite, mine, 1, false), 0);
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  sealed_free(ours);
  record_keys_free(&peer_out);
  record_keys_free(&peer_in);
  return 0;
}

static enum sealed_result from_peer(enum record_type type, const void *p, size_t n) {
  uint8_t record[1024], *plain;
  size_t consumed, plain_n;
  memcpy(record + peer_out.suite->lead, p, n);
  assert_int_equal(record_seal(&peer_out, type, record, n), 0);
  if (moves) ours = sealed_moved(ours);
  return sealed_read(ours, record, n + peer_out.suite->overhead, &consumed, &plain, &plain_n);
}

/* All that we owe: alerts, level and description of each. */
static void expect_owed(const char *alerts) {
  uint8_t out[SEALED_OWED_MAX], *plain, alert;
  if (moves) ours = sealed_moved(ours);
  size_t n, len = sealed_write_owed(ours, out), at = 0;
  for (const char *want = alerts; *want != '\0'; want += 2) {
    size_t full = record_length(out + at, len - at);
    enum record_type type;
    assert_true(full > 0);
    assert_int_equal(record_open(&peer_in, out + at, full, &type, &plain, &n, &alert), 0);
    assert_int_equal(type, RECORD_ALERT);
    assert_int_equal(n, 2);
    assert_memory_equal(plain, want, 2);
    at += full;
  }
  assert_int_equal(at, len);
  assert_false(sealed_owes(ours));
}

static void renegotiation_is_declined_and_data_goes_on(void **state) {
  (void)state;
  uint8_t record[64];
  assert_int_equal(from_peer(RECORD_HANDSHAKE, "\x01\0\0\x02zz", 6), SEALED_NOTHING);
  assert_true(sealed_owes(ours));
  assert_int_equal(sealed_write(ours, record, 1), ERR_NOT_NOW);
  expect_owed("\x01\x64");
  assert_int_equal(sealed_write(ours, record, 1), 0);
  assert_int_equal(from_peer(RECORD_APPLICATION_DATA, "x", 1), SEALED_DATA);
}

static void a_hello_cut_into_records_is_one_and_two_are_answered_once(void **state) {
  (void)state;
  static const char hello[] = "\x01\0\0\x05" "abcde" "\x01\0\0\0";
  for (size_t i = 0; i < 3; i++) assert_int_equal(from_peer(RECORD_HANDSHAKE, hello + i, 1), SEALED_NOTHING);
  assert_false(sealed_owes(ours));
  for (size_t i = 3; i < sizeof hello - 1; i++)
    assert_int_equal(from_peer(RECORD_HANDSHAKE, hello + i, 1), SEALED_NOTHING);
  expect_owed("\x01\x64");
}

static void whoever_asks_again_and_again_is_ended(void **state) {
  (void)state;
  for (int i = 0; i < 4; i++) assert_int_equal(from_peer(RECORD_HANDSHAKE, "\x01\0\0\0", 4), SEALED_NOTHING);
  assert_int_equal(from_peer(RECORD_HANDSHAKE, "\x01\0\0\0", 4), SEALED_FAILED);
  expect_owed("\x02\x0a");
}

static void other_handshake_messages_are_unexpected(void **state) {
  (void)state;
  static const char *const messages[] = {"\x18\0\0\x01\0", "\x14\0\0\x0c", "\0\0\0\0"};
  for (size_t i = 0; i < ARRAY_LEN(messages); i++) {
    if (i > 0) assert_int_equal(tear_down(NULL) + set_up(NULL), 0);
    assert_int_equal(from_peer(RECORD_HANDSHAKE, messages[i], 4), SEALED_FAILED);
    expect_owed("\x02\x0a");
  }
  assert_int_equal(tear_down(NULL) + set_up(NULL), 0);
  assert_int_equal(from_peer(RECORD_HANDSHAKE, "", 0), SEALED_FAILED);
}

static void a_server_s_request_is_declined_and_its_other_messages_are_unexpected(void **state) {
  (void)state;
  uint8_t secret[TLS_SECRET_MAX_BYTES];
  memset(secret, 1, sizeof secret);
  for (int hello = 0; hello < 2; hello++) {
    assert_int_equal(tear_down(NULL) + set_up(NULL), 0);
    sealed_free(ours);
    ours = sealed_new(&(struct sealed_params){.suite = peer_out.suite,
                                              .read_secret = secret,
                                              .write_secret = secret,
                                              .read_sequence = 1,
                                              .write_sequence = 1,
                                              .from_server = true});
    assert_non_null(ours);
    const uint8_t message[4] = {(uint8_t)hello};
    assert_int_equal(from_peer(RECORD_HANDSHAKE, message, 4), hello ? SEALED_FAILED : SEALED_NOTHING);
    assert_true(sealed_owes(ours));
  }
}

static void the_level_decides_of_an_alert(void **state) {
  (void)state;
  assert_int_equal(from_peer(RECORD_ALERT, "\x01\x70", 2), SEALED_NOTHING);
  assert_int_equal(from_peer(RECORD_ALERT, "\x01\x64", 2), SEALED_NOTHING);
  assert_int_equal(from_peer(RECORD_APPLICATION_DATA, "x", 1), SEALED_DATA);
  assert_int_equal(from_peer(RECORD_ALERT, "\x02\x5a", 2), SEALED_PEER_ALERT);
  assert_int_equal(tear_down(NULL) + set_up(NULL), 0);
  assert_int_equal(from_peer(RECORD_ALERT, "\x02\0", 2), SEALED_PEER_ALERT);
}

static void close_notify_ends_one_direction_only(void **state) {
  (void)state;
  uint8_t record[64];
  assert_int_equal(from_peer(RECORD_ALERT, "\x01\0", 2), SEALED_EOF);
  assert_int_equal(sealed_write(ours, record, 5), 0);
  assert_int_equal(tear_down(NULL) + set_up(NULL), 0);
  assert_int_equal(from_peer(RECORD_HANDSHAKE, "\x01\0\0\0", 4), SEALED_NOTHING);
  sealed_close(ours);
  uint8_t out[SEALED_OWED_MAX];
  assert_int_equal(sealed_write_owed(ours, out), 2 * (RECORD_OVERHEAD_MAX + 2));
  assert_int_equal(from_peer(RECORD_HANDSHAKE, "\x01\0\0\0", 4), SEALED_NOTHING);
  assert_false(sealed_owes(ours));
  assert_int_equal(from_peer(RECORD_APPLICATION_DATA, "still", 5), SEALED_DATA);
}

static void headers_of_neither_version_are_refused_before_their_body_is_there(void **state) {
  (void)state;
  uint8_t change[] = {20, 3, 3, 0, 1}, oversize[] = {23, 3, 3, 0x40, 0x19}, *plain;
  size_t consumed, n;
  assert_int_equal(sealed_read(ours, change, sizeof change, &consumed, &plain, &n), SEALED_FAILED);
  expect_owed("\x02\x0a");
  assert_int_equal(tear_down(NULL) + set_up(NULL), 0);
  assert_int_equal(sealed_read(ours, oversize, sizeof oversize, &consumed, &plain, &n), SEALED_FAILED);
  expect_owed("\x02\x16");
}

/* TLS 1.2 has no update of keys. */
static void no_update_is_owed_however_much_was_written(void **state) {
  (void)state;
  uint8_t secret[TLS_SECRET_MAX_BYTES] = {1}, record[64];
  struct sealed *s = sealed_new(&(struct sealed_params){.suite = tls_suite_find(0xcca8),
                                                        .read_secret = secret,
                                                        .write_secret = secret,
                                                        .write_sequence = RECORDS_PER_KEY_MAX});
  assert_non_null(s);
  assert_false(sealed_owes(s));
  assert_int_equal(sealed_write(s, record, 1), 0);
  sealed_free(s);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
  const struct CMUnitTest tests[] = {
    TEST(renegotiation_is_declined_and_data_goes_on),
    TEST(a_hello_cut_into_records_is_one_and_two_are_answered_once),
    TEST(whoever_asks_again_and_again_is_ended),
    TEST(other_handshake_messages_are_unexpected),
    TEST(a_server_s_request_is_declined_and_its_other_messages_are_unexpected),
    TEST(the_level_decides_of_an_alert),
    TEST(close_notify_ends_one_direction_only),
    TEST(headers_of_neither_version_are_refused_before_their_body_is_there),
    TEST(no_update_is_owed_however_much_was_written),
  };
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  moves = true;
  return failed + cmocka_run_group_tests(tests, NULL, NULL);
}
