/* A TLS 1.2 visitor, played by OpenSSL, beyond the wire: what the agent does for one who was handed to it. The app is
   the peer. */
#include "pump_far.h"

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "tls/authority.h"
#include "tls/tls_server.h"

static const char host[] = "label.r1.example.com";

struct tls_fixture {
  struct rig *rig;
  SSL_CTX *ctx;
  SSL *visitor;
  struct record_keys keys;         /* the visitor's, for records that OpenSSL would not send */
};

static struct tls_server *make_identity(void) {
  const char *const names[] = {"r1.example.com", "*.r1.example.com"};
  struct err e = {0};
  char *chain, *key;
  struct authority *a = authority_make("r1.example.com", time(NULL), &e);
  assert_non_null(a);
  assert_int_equal(authority_issue(a, names, 2, 30, time(NULL), &chain, &key, &e), 0);
  struct tls_server *s = tls_server_new(chain, strlen(chain), key, strlen(key), "r1.example.com", &e);
  assert_non_null(s);
  authority_pem_free(chain);
  authority_pem_free(key);
  authority_unref(a);
  return s;
}

/* One exchange of the handshake, as the relay does it: never a byte more than wanted. */
static enum tls_status serve_handshake(struct tls_conn *t, int fd) {
  uint8_t bytes[4096];
  struct err e = {0};
  enum tls_status status = TLS_GOING_ON;
  ssize_t n;
  while (status == TLS_GOING_ON && (n = recv(fd, bytes, size_min(sizeof bytes, tls_conn_want(t)), 0)) > 0) {
    status = tls_conn_feed(t, bytes, (size_t)n, &e);
  }
  if (status == TLS_FAILED) fail_msg("%s", e.text);
  size_t out_n;
  const uint8_t *out = tls_conn_output(t, &out_n);
  if (out_n > 0) assert_int_equal(send(fd, out, out_n, MSG_NOSIGNAL), (ssize_t)out_n);
  tls_conn_output_sent(t, out_n);
  return status;
}

static struct tls_conn *shake_hands(struct tls_fixture *f, uint8_t fragment_code) {
  struct rig *r = f->rig;
  const struct tls_server_policy policy = {.host = host};
  struct err e = {0};
  struct tls_server *identity = make_identity();
  struct tls_conn *t = tls_conn_server(identity, &policy, &e);
  assert_non_null(t);
  tls_server_unref(identity);
  f->ctx = SSL_CTX_new(TLS_client_method());
  SSL_CTX_set_max_proto_version(f->ctx, TLS1_2_VERSION);
  SSL_CTX_set_mode(f->ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  f->visitor = SSL_new(f->ctx);
  SSL_set_tlsext_host_name(f->visitor, (char *)(uintptr_t)host);
  SSL_set_fd(f->visitor, r->agent);
  assert_int_equal(SSL_set_tlsext_max_fragment_length(f->visitor, fragment_code), 1);
  SSL_set_connect_state(f->visitor);
  enum tls_status status = TLS_GOING_ON;
  RIG_UNTIL(r, ({
              int done = SSL_do_handshake(f->visitor);
              if (status == TLS_GOING_ON) status = serve_handshake(t, r->wire_fd);
              done == 1 && status == TLS_DONE;
            }));
  assert_int_equal(tls_conn_version(t), TLS_VERSION_12);
  return t;
}

static int tls_set_up_limited(void **state, uint8_t fragment_code) {
  struct tls_fixture *f = calloc(1, sizeof *f);
  struct tls_takeover k;
  f->rig = rig_new(PUMP_SPLICE);
  struct tls_conn *t = shake_hands(f, fragment_code);
  assert_int_equal(tls_conn_take_over(t, &k), 0);
  tls_conn_free(t);
  const struct tls_suite *suite = tls_suite_find(k.suite);
  assert_int_equal(record_keys_init(&f->keys, suite, k.client_secret, k.client_sequence, true), 0);
  struct sealed_params keys = {.suite = suite, .read_secret = k.client_secret, .write_secret = k.server_secret,
                               .read_sequence = k.client_sequence, .write_sequence = k.server_sequence,
                               .fragment_max = k.fragment_max};
  struct pump_params params = {.sealed = sealed_new(&keys)};
  assert_non_null(params.sealed);
  rig_start(f->rig, &params);
  *state = f;
  return 0;
}

static int tls_set_up(void **state) { return tls_set_up_limited(state, TLSEXT_max_fragment_length_DISABLED); }
static int tls_set_up_for_512(void **state) { return tls_set_up_limited(state, TLSEXT_max_fragment_length_512); }

static int tls_tear_down(void **state) {
  struct tls_fixture *f = *state;
  SSL_free(f->visitor);
  SSL_CTX_free(f->ctx);
  ERR_clear_error();
  record_keys_free(&f->keys);
  rig_free(f->rig);
  free(f);
  return 0;
}

static void visitor_send_pattern(struct tls_fixture *f, size_t *at, size_t to) {
  uint8_t part[16384];
  while (*at < to) {
    size_t n = size_min(sizeof part, to - *at);
    for (size_t i = 0; i < n; i++) part[i] = rig_byte(*at + i);
    ERR_clear_error();
    int put = SSL_write(f->visitor, part, (int)n);
    if (put <= 0) return;
    *at += (size_t)put;
  }
}

/* What SSL_get_error says in the end. */
static int visitor_expect_pattern(struct tls_fixture *f, size_t *at, size_t max) {
  uint8_t part[16384];
  while (max > 0) {
    ERR_clear_error();
    int n = SSL_read(f->visitor, part, (int)size_min(sizeof part, max));
    if (n <= 0) return SSL_get_error(f->visitor, n);
    for (int i = 0; i < n; i++) assert_int_equal(part[i], rig_byte(*at + (size_t)i));
    *at += (size_t)n;
    max -= (size_t)n;
  }
  return SSL_ERROR_WANT_READ;
}

static void visitor_send_record(struct tls_fixture *f, enum record_type type, const void *content, size_t n) {
  uint8_t record[RECORD_OVERHEAD_MAX + 1024];
  memcpy(record + f->keys.suite->lead, content, n);
  assert_int_equal(record_seal(&f->keys, type, record, n), 0);
  n += f->keys.suite->overhead;
  assert_int_equal(send(f->rig->agent, record, n, MSG_NOSIGNAL), (ssize_t)n);
}

static void megabytes_pass_both_ways_and_idle_holds_no_buffer(void **state) {
  struct tls_fixture *f = *state;
  struct rig *r = f->rig;
  size_t up = 0, app_got = 0, down = 0, got = 0;
  RIG_UNTIL(r, ({
              rig_send_pattern(r->visitor, &down, BIG);
              visitor_send_pattern(f, &up, BIG);
              rig_expect_pattern(r->visitor, &app_got, SIZE_MAX);
              visitor_expect_pattern(f, &got, SIZE_MAX);
              got == BIG && app_got == BIG;
            }));
  assert_int_equal(r->to_wire_tally.bytes, BIG);
  assert_int_equal(r->to_peer_tally.bytes, BIG);
  rig_settle(r);
  assert_int_equal(pump_pool_stats(r->pool)->buffers, 0);
}

static void close_notify_of_the_visitor_is_half_close(void **state) {
  struct tls_fixture *f = *state;
  struct rig *r = f->rig;
  size_t up = 0, app_got = 0, down = 0, got = 0;
  visitor_send_pattern(f, &up, 1000);
  SSL_shutdown(f->visitor);        /* and no FIN */
  RIG_UNTIL(r, rig_expect_pattern(r->visitor, &app_got, SIZE_MAX) == RIG_EOF);
  assert_int_equal(app_got, 1000);
  RIG_UNTIL(r, (rig_send_pattern(r->visitor, &down, BIG), visitor_expect_pattern(f, &got, SIZE_MAX), got == BIG));
  shutdown(r->visitor, SHUT_WR);
  RIG_UNTIL(r, visitor_expect_pattern(f, &got, SIZE_MAX) == SSL_ERROR_ZERO_RETURN);
  shutdown(r->agent, SHUT_WR);
  RIG_UNTIL(r, r->ended);
  assert_int_equal(r->why, CLOSE_CLEAN);
}

static void end_of_the_app_is_close_notify_and_the_upload_flows(void **state) {
  struct tls_fixture *f = *state;
  struct rig *r = f->rig;
  size_t up = 0, app_got = 0, got = 0;
  shutdown(r->visitor, SHUT_WR);
  RIG_UNTIL(r, visitor_expect_pattern(f, &got, SIZE_MAX) == SSL_ERROR_ZERO_RETURN);
  RIG_UNTIL(r, (visitor_send_pattern(f, &up, BIG), rig_expect_pattern(r->visitor, &app_got, SIZE_MAX), app_got == BIG));
  SSL_shutdown(f->visitor);
  RIG_UNTIL(r, rig_expect_pattern(r->visitor, &app_got, SIZE_MAX) == RIG_EOF);
  RIG_UNTIL(r, r->ended);
  assert_int_equal(r->why, CLOSE_CLEAN);
}

static void fin_without_close_notify_is_a_truncation(void **state) {
  struct tls_fixture *f = *state;
  struct rig *r = f->rig;
  size_t up = 0, app_got = 0;
  visitor_send_pattern(f, &up, 1000);
  shutdown(r->agent, SHUT_WR);
  RIG_UNTIL(r, rig_expect_pattern(r->visitor, &app_got, SIZE_MAX) == RIG_RESET);
  assert_int_equal(app_got, 1000);
  RIG_UNTIL(r, r->ended);
  assert_int_equal(r->why, CLOSE_TRUNCATED);
}

static void garbage_is_answered_with_an_alert(void **state) {
  struct tls_fixture *f = *state;
  struct rig *r = f->rig;
  static const uint8_t garbage[64] = {23, 3, 3, 0, 59};
  size_t got = 0;
  assert_int_equal(send(r->agent, garbage, sizeof garbage, MSG_NOSIGNAL), sizeof garbage);
  RIG_UNTIL(r, visitor_expect_pattern(f, &got, SIZE_MAX) == SSL_ERROR_SSL);
  assert_int_equal(ERR_GET_REASON(ERR_peek_error()), SSL_AD_REASON_OFFSET + SSL_AD_BAD_RECORD_MAC);
  RIG_UNTIL(r, r->ended);
  assert_int_equal(r->why, CLOSE_PROTOCOL);
}

static void a_record_beyond_the_fragment_limit_is_a_record_overflow(void **state) {
  struct tls_fixture *f = *state;
  struct rig *r = f->rig;
  uint8_t content[513];
  size_t got = 0, app_got = 0;
  for (size_t i = 0; i < sizeof content; i++) content[i] = rig_byte(i);
  visitor_send_record(f, RECORD_APPLICATION_DATA, content, 512);
  RIG_UNTIL(r, (rig_expect_pattern(r->visitor, &app_got, SIZE_MAX), app_got == 512));
  visitor_send_record(f, RECORD_APPLICATION_DATA, content, 513);
  RIG_UNTIL(r, visitor_expect_pattern(f, &got, SIZE_MAX) == SSL_ERROR_SSL);
  assert_int_equal(ERR_GET_REASON(ERR_peek_error()), SSL_AD_REASON_OFFSET + SSL_AD_RECORD_OVERFLOW);
  RIG_UNTIL(r, r->ended);
  assert_int_equal(r->why, CLOSE_PROTOCOL);
}

static void what_we_send_keeps_to_the_fragment_limit(void **state) {
  struct tls_fixture *f = *state;
  size_t down = 0, got = 0;
  RIG_UNTIL(f->rig,
            (rig_send_pattern(f->rig->visitor, &down, BIG), visitor_expect_pattern(f, &got, SIZE_MAX), got == BIG));
}

/* Else a visitor that does not read would make the answers pile up in our memory. */
static void a_visitor_that_keeps_asking_to_renegotiate_is_ended(void **state) {
  struct tls_fixture *f = *state;
  static const uint8_t hello[4] = {1};
  for (int i = 0; i < 20; i++) visitor_send_record(f, RECORD_HANDSHAKE, hello, sizeof hello);
  RIG_UNTIL(f->rig, f->rig->ended);
  assert_int_equal(f->rig->why, CLOSE_PROTOCOL);
}

static void a_warning_is_passed_over(void **state) {
  struct tls_fixture *f = *state;
  struct rig *r = f->rig;
  static const uint8_t warning[2] = {1, SSL_AD_UNRECOGNIZED_NAME};
  uint8_t first = rig_byte(0);
  size_t app_got = 0;
  visitor_send_record(f, RECORD_ALERT, warning, sizeof warning);
  visitor_send_record(f, RECORD_APPLICATION_DATA, &first, 1);
  RIG_UNTIL(r, (rig_expect_pattern(r->visitor, &app_got, SIZE_MAX), app_got == 1));
  assert_false(r->ended);
}

static void a_fatal_alert_of_the_visitor_is_no_violation(void **state) {
  struct tls_fixture *f = *state;
  static const uint8_t alert[2] = {2, SSL_AD_INTERNAL_ERROR};
  visitor_send_record(f, RECORD_ALERT, alert, sizeof alert);
  RIG_UNTIL(f->rig, f->rig->ended);
  assert_int_equal(f->rig->why, CLOSE_PEER_ALERT);
}

static void abort_tells_the_visitor_by_a_fatal_alert(void **state) {
  struct tls_fixture *f = *state;
  size_t got = 0;
  rig_settle(f->rig);
  pump_abort(f->rig->pump, CLOSE_LOCAL);
  RIG_UNTIL(f->rig, visitor_expect_pattern(f, &got, SIZE_MAX) == SSL_ERROR_SSL);
  RIG_UNTIL(f->rig, list_empty(&f->rig->pool->lingers));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, tls_set_up, tls_tear_down)
#define TEST_512(f) cmocka_unit_test_setup_teardown(f, tls_set_up_for_512, tls_tear_down)

int main(void) {
  const struct CMUnitTest tests[] = {
    TEST(megabytes_pass_both_ways_and_idle_holds_no_buffer),
    TEST(close_notify_of_the_visitor_is_half_close),
    TEST(end_of_the_app_is_close_notify_and_the_upload_flows),
    TEST(fin_without_close_notify_is_a_truncation),
    TEST(garbage_is_answered_with_an_alert),
    TEST_512(a_record_beyond_the_fragment_limit_is_a_record_overflow),
    TEST_512(what_we_send_keeps_to_the_fragment_limit),
    TEST(a_visitor_that_keeps_asking_to_renegotiate_is_ended),
    TEST(a_warning_is_passed_over),
    TEST(a_fatal_alert_of_the_visitor_is_no_violation),
    TEST(abort_tells_the_visitor_by_a_fatal_alert),
  };
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  rig_moves = true;
  return failed + cmocka_run_group_tests(tests, NULL, NULL);
}
