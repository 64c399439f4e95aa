/* TLS 1.2 on the peer side, the record layer on the wire side: what the relay does for a visitor whom it cannot hand off. */
#include "pump_far.h"

#include <openssl/err.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/ssl.h>

#include "tls/authority.h"
#include "tls/tls_server.h"

static const char host[] = "label.r1.example.com";

struct tls_fixture {
  struct fixture base;
  SSL_CTX *ctx;
  SSL *visitor;
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
  while (status == TLS_GOING_ON && (n = recv(fd, bytes, size_min(sizeof(bytes), tls_conn_want(t)), 0)) > 0) {
    status = tls_conn_feed(t, bytes, (size_t)n, &e);
  }
  if (status == TLS_FAILED) fail_msg("%s", e.text);
  size_t out_n;
  const uint8_t *out = tls_conn_output(t, &out_n);
  if (out_n > 0) assert_int_equal(send(fd, out, out_n, MSG_NOSIGNAL), (ssize_t)out_n);
  tls_conn_output_sent(t, out_n);
  return status;
}

static void start_tls12(struct tls_fixture *f, uint8_t fragment_code) {
  struct rig *r = f->base.rig;
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
  SSL_set_fd(f->visitor, r->visitor);
  assert_int_equal(SSL_set_tlsext_max_fragment_length(f->visitor, fragment_code), 1);
  SSL_set_connect_state(f->visitor);
  enum tls_status status = TLS_GOING_ON;
  RIG_UNTIL(r, ({
              int done = SSL_do_handshake(f->visitor);
              if (status == TLS_GOING_ON) status = serve_handshake(t, r->peer_fd);
              done == 1 && status == TLS_DONE;
            }));
  assert_int_equal(tls_conn_version(t), TLS1_2_VERSION);
  struct pump_params params = {.sealed = make_sealed(false, 0), .tls = t, .wire_prefix_n = 6, .visitor_is_peer = true};
  rig_start(r, &params);
}

static int tls_set_up_limited(void **state, uint8_t fragment_code) {
  struct tls_fixture *f = calloc(1, sizeof(*f));
  f->base.rig = rig_new(PUMP_SPLICE);
  f->base.far.sealed = make_sealed(true, 0);
  start_tls12(f, fragment_code);
  *state = f;
  return 0;
}

static int tls_set_up(void **state) { return tls_set_up_limited(state, TLSEXT_max_fragment_length_DISABLED); }
static int tls_set_up_for_512(void **state) { return tls_set_up_limited(state, TLSEXT_max_fragment_length_512); }

static int accept_visitor(void **state) {
  struct tls_fixture *f = *state;
  rig_send_text(f->base.rig->agent, "accept");
  return 0;
}

static int tls_set_up_accepted(void **state) { return tls_set_up(state) || accept_visitor(state); }
static int tls_set_up_for_512_accepted(void **state) { return tls_set_up_for_512(state) || accept_visitor(state); }

static int tls_tear_down(void **state) {
  struct tls_fixture *f = *state;
  SSL_free(f->visitor);
  SSL_CTX_free(f->ctx);
  ERR_clear_error();
  rig_free(f->base.rig);
  sealed_free(f->base.far.sealed);
  free(f);
  return 0;
}

static void visitor_send_pattern(struct tls_fixture *f, size_t *at, size_t to) {
  uint8_t part[16384];
  while (*at < to) {
    size_t n = size_min(sizeof(part), to - *at);
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
    int n = SSL_read(f->visitor, part, (int)size_min(sizeof(part), max));
    if (n <= 0) return SSL_get_error(f->visitor, n);
    for (int i = 0; i < n; i++) assert_int_equal(part[i], rig_byte(*at + (size_t)i));
    *at += (size_t)n;
    max -= (size_t)n;
  }
  return SSL_ERROR_WANT_READ;
}

static void megabytes_pass_both_ways_and_idle_holds_no_buffer(void **state) {
  struct tls_fixture *f = *state;
  struct rig *r = f->base.rig;
  size_t sent = 0, got = 0;
  RIG_UNTIL(r, ({
              far_send_pattern(&f->base, BIG);
              visitor_send_pattern(f, &sent, BIG);
              far_read(&f->base, SIZE_MAX);
              visitor_expect_pattern(f, &got, SIZE_MAX);
              got == BIG && f->base.far.got == BIG;
            }));
  assert_int_equal(r->to_wire_counter, BIG);
  assert_int_equal(r->to_peer_counter, BIG);
  rig_settle(r);
  assert_int_equal(pump_pool_stats(r->pool)->buffers, 0);
}

static void a_visitor_that_does_not_read_stops_the_wire(void **state) {
  struct tls_fixture *f = *state;
  struct rig *r = f->base.rig;
  size_t got = 0;
  for (int i = 0; i < 100; i++) {
    far_send_pattern(&f->base, 64 << 20);
    loop_turn(r->loop, 1);
  }
  assert_true(f->base.far.sent < 32 << 20);
  size_t out = 0;
  (void)tls_conn_output(r->pump->tls, &out);
  assert_true(out <= 2 * RECORD_CIPHER_MAX);
  RIG_UNTIL(r, (far_flush(&f->base), visitor_expect_pattern(f, &got, SIZE_MAX), got == f->base.far.sent));
}

static void a_rate_holds_for_what_openssl_opens_and_seals(void **state) {
  struct tls_fixture *f = *state;
  struct rig *r = f->base.rig;
  struct rate rate = rig_still_rate();
  size_t sent = 0, got = 0;
  enum { WAITS_BYTES = 60000 };
  r->pump->rate = &rate;
  visitor_send_pattern(f, &sent, WAITS_BYTES);
  far_send_pattern(&f->base, WAITS_BYTES);
  rig_settle(r);
  assert_true(r->pump->to_wire.throttled && r->pump->to_peer.throttled);
  assert_true(r->to_wire_counter + r->to_peer_counter <= RIG_STILL_BURST_BYTES);
  RIG_UNTIL(r, ({
              rig_next_turn(r);
              far_read(&f->base, SIZE_MAX);
              visitor_expect_pattern(f, &got, SIZE_MAX);
              got == WAITS_BYTES && f->base.far.got == WAITS_BYTES;
            }));
  SSL_shutdown(f->visitor);
  far_close(&f->base);
  RIG_UNTIL(r, (rig_next_turn(r), far_read(&f->base, SIZE_MAX), r->ended));
  assert_int_equal(r->why, CLOSE_CLEAN);
}

static void close_notify_of_the_visitor_is_half_close(void **state) {
  struct tls_fixture *f = *state;
  struct rig *r = f->base.rig;
  size_t sent = 0, got = 0;
  visitor_send_pattern(f, &sent, 1000);
  SSL_shutdown(f->visitor);        /* and no FIN */
  RIG_UNTIL(r, (far_read(&f->base, SIZE_MAX), f->base.far.fin));
  assert_true(f->base.far.eof);
  assert_int_equal(f->base.far.got, 1000);
  RIG_UNTIL(r, (far_send_pattern(&f->base, BIG), visitor_expect_pattern(f, &got, SIZE_MAX), got == BIG));
  far_close(&f->base);
  RIG_UNTIL(r, visitor_expect_pattern(f, &got, SIZE_MAX) == SSL_ERROR_ZERO_RETURN);
  RIG_UNTIL(r, r->ended);
  assert_int_equal(r->why, CLOSE_CLEAN);
}

static void end_of_the_app_is_close_notify_and_the_upload_flows(void **state) {
  struct tls_fixture *f = *state;
  struct rig *r = f->base.rig;
  size_t sent = 0, got = 0;
  far_close(&f->base);
  RIG_UNTIL(r, visitor_expect_pattern(f, &got, SIZE_MAX) == SSL_ERROR_ZERO_RETURN);
  RIG_UNTIL(r, (visitor_send_pattern(f, &sent, BIG), far_read(&f->base, SIZE_MAX), f->base.far.got == BIG));
  SSL_shutdown(f->visitor);
  RIG_UNTIL(r, (far_read(&f->base, SIZE_MAX), f->base.far.fin));
  assert_true(f->base.far.eof);
  RIG_UNTIL(r, r->ended);
  assert_int_equal(r->why, CLOSE_CLEAN);
}

static void fin_without_close_notify_is_a_truncation_and_resets_the_wire(void **state) {
  struct tls_fixture *f = *state;
  struct rig *r = f->base.rig;
  size_t sent = 0;
  visitor_send_pattern(f, &sent, 1000);
  shutdown(r->visitor, SHUT_WR);
  RIG_UNTIL(r, (far_read(&f->base, SIZE_MAX), f->base.far.reset || f->base.far.fin));
  assert_true(f->base.far.reset);
  assert_false(f->base.far.eof);
  assert_int_equal(f->base.far.got, 1000);
  RIG_UNTIL(r, r->ended);
  assert_int_equal(r->why, CLOSE_TRUNCATED);
}

static void garbage_in_the_stream_is_answered_with_an_alert_and_resets_the_wire(void **state) {
  struct tls_fixture *f = *state;
  struct rig *r = f->base.rig;
  static const uint8_t garbage[64] = {23, 3, 3, 0, 59};
  size_t got = 0;
  assert_int_equal(send(r->visitor, garbage, sizeof(garbage), MSG_NOSIGNAL), sizeof(garbage));
  RIG_UNTIL(r, visitor_expect_pattern(f, &got, SIZE_MAX) == SSL_ERROR_SSL); /* the alert */
  RIG_UNTIL(r, (far_read(&f->base, SIZE_MAX), f->base.far.reset));
  RIG_UNTIL(r, r->ended);
  assert_int_equal(r->why, CLOSE_PROTOCOL);
}

/* The visitor's write key, as RFC 5246 6.3 has it. */
static struct aead *visitor_key(SSL *ssl, uint8_t salt[4]) {
  static const char label[] = "key expansion";
  uint8_t seed[sizeof(label) - 1 + 64], master[48], block[2 * (32 + 4)];
  char digest[32];
  const SSL_CIPHER *cipher = SSL_get_current_cipher(ssl);
  bool long_key = SSL_CIPHER_get_bits(cipher, NULL) == 256;
  size_t key_n = long_key ? 32 : 16;
  memcpy(seed, label, sizeof(label) - 1);
  SSL_get_server_random(ssl, seed + sizeof(label) - 1, 32);
  SSL_get_client_random(ssl, seed + sizeof(label) - 1 + 32, 32);
  size_t master_n = SSL_SESSION_get_master_key(SSL_get0_session(ssl), master, sizeof(master));
  strcpy(digest, EVP_MD_get0_name(SSL_CIPHER_get_handshake_digest(cipher)));
  const OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string("digest", digest, 0),
                               OSSL_PARAM_construct_octet_string("secret", master, master_n),
                               OSSL_PARAM_construct_octet_string("seed", seed, sizeof(seed)), OSSL_PARAM_construct_end()};
  EVP_KDF *kdf = EVP_KDF_fetch(NULL, "TLS1-PRF", NULL);
  EVP_KDF_CTX *ctx = EVP_KDF_CTX_new(kdf);
  assert_int_equal(EVP_KDF_derive(ctx, block, 2 * (key_n + 4), params), 1);
  EVP_KDF_CTX_free(ctx);
  EVP_KDF_free(kdf);
  memcpy(salt, block + 2 * key_n, 4);
  return aead_new(long_key ? AEAD_AES_256_GCM : AEAD_AES_128_GCM, block, true);
}

enum { TLS12_OVERHEAD_BYTES = 5 + 8 + 16 };

/* The content stands at record + 13. */
static void put_record(struct aead *key, const uint8_t salt[4], uint8_t sequence, enum record_type type, uint8_t *record, size_t n) {
  uint8_t nonce[12] = {salt[0], salt[1], salt[2], salt[3], [11] = sequence}, high = (uint8_t)(n >> 8);
  uint8_t ad[13] = {[7] = sequence, (uint8_t)type, 3, 3, high, (uint8_t)n}, *content = record + 13;
  const uint8_t header[5] = {(uint8_t)type, 3, 3, (uint8_t)((n + 24) >> 8), (uint8_t)(n + 24)};
  memcpy(record, header, 5);
  memcpy(record + 5, nonce + 4, 8);
  assert_int_equal(aead_seal(key, nonce, ad, sizeof(ad), content, n, content, content + n), 0);
}

static void visitor_send_record(struct tls_fixture *f, struct aead *key, const uint8_t salt[4], uint8_t sequence, size_t n) {
  uint8_t record[TLS12_OVERHEAD_BYTES + 1024];
  for (size_t i = 0; i < n; i++) record[13 + i] = rig_byte(f->base.far.got + i);
  put_record(key, salt, sequence, RECORD_APPLICATION_DATA, record, n);
  assert_int_equal(send(f->base.rig->visitor, record, n + TLS12_OVERHEAD_BYTES, MSG_NOSIGNAL), (ssize_t)(n + TLS12_OVERHEAD_BYTES));
}

static void a_record_beyond_the_fragment_limit_is_a_record_overflow(void **state) {
  struct tls_fixture *f = *state;
  struct rig *r = f->base.rig;
  uint8_t salt[4];
  size_t got = 0;
  struct aead *key = visitor_key(f->visitor, salt);
  visitor_send_record(f, key, salt, 1, 512);
  RIG_UNTIL(r, (far_read(&f->base, SIZE_MAX), f->base.far.got == 512));
  visitor_send_record(f, key, salt, 2, 513);
  aead_free(key);
  RIG_UNTIL(r, visitor_expect_pattern(f, &got, SIZE_MAX) == SSL_ERROR_SSL);
  assert_int_equal(ERR_GET_REASON(ERR_peek_error()), SSL_AD_REASON_OFFSET + SSL_AD_RECORD_OVERFLOW);
  RIG_UNTIL(r, r->ended);
  assert_int_equal(r->why, CLOSE_PROTOCOL);
  assert_int_equal(f->base.far.got, 512);
}

/* Else a visitor that does not read would make the answers pile up in our memory. */
static void a_visitor_that_keeps_asking_to_renegotiate_is_ended_by_an_alert(void **state) {
  struct tls_fixture *f = *state;
  static const uint8_t hello[4] = {1};   /* OpenSSL answers what begins so with a warning and goes on */
  uint8_t salt[4], record[TLS12_OVERHEAD_BYTES + sizeof(hello)];
  struct aead *key = visitor_key(f->visitor, salt);
  for (uint8_t sequence = 1; sequence <= 20; sequence++) {
    memcpy(record + 13, hello, sizeof(hello));
    put_record(key, salt, sequence, RECORD_HANDSHAKE, record, sizeof(hello));
    assert_int_equal(send(f->base.rig->visitor, record, sizeof(record), MSG_NOSIGNAL), sizeof(record));
  }
  aead_free(key);
  RIG_UNTIL(f->base.rig, f->base.rig->ended);
  assert_int_equal(f->base.rig->why, CLOSE_PROTOCOL);
}

static void a_fatal_alert_of_the_visitor_is_no_violation(void **state) {
  struct tls_fixture *f = *state;
  struct rig *r = f->base.rig;
  static const uint8_t alert[2] = {2, SSL_AD_INTERNAL_ERROR};
  uint8_t salt[4], record[TLS12_OVERHEAD_BYTES + sizeof(alert)];
  struct aead *key = visitor_key(f->visitor, salt);
  memcpy(record + 13, alert, sizeof(alert));
  put_record(key, salt, 1, RECORD_ALERT, record, sizeof(alert));
  aead_free(key);
  assert_int_equal(send(r->visitor, record, sizeof(record), MSG_NOSIGNAL), sizeof(record));
  RIG_UNTIL(r, (far_read(&f->base, SIZE_MAX), f->base.far.reset));
  RIG_UNTIL(r, r->ended);
  assert_int_equal(r->why, CLOSE_PEER_ALERT);
}

static void a_fatal_alert_of_the_agent_is_not_the_visitor_s(void **state) {
  struct tls_fixture *f = *state;
  struct rig *r = f->base.rig;
  size_t got = 0;
  sealed_fail(f->base.far.sealed, ALERT_INTERNAL_ERROR);
  assert_true(far_put_owed(&f->base));
  far_flush(&f->base);
  RIG_UNTIL(r, visitor_expect_pattern(f, &got, SIZE_MAX) == SSL_ERROR_SYSCALL);
  RIG_UNTIL(r, r->ended);
  assert_int_equal(r->why, CLOSE_APP_REFUSED);
}

static void a_reset_of_the_wire_is_one_for_the_visitor(void **state) {
  struct tls_fixture *f = *state;
  struct rig *r = f->base.rig;
  size_t got = 0;
  rig_reset(&r->agent);
  RIG_UNTIL(r, visitor_expect_pattern(f, &got, SIZE_MAX) == SSL_ERROR_SYSCALL);
  assert_int_equal(errno, ECONNRESET);
  RIG_UNTIL(r, r->ended);
  assert_int_equal(r->why, CLOSE_WIRE_RESET);
}

static void what_the_agent_sent_behind_the_prefix_outlives_a_write_that_fails_first(void **state) {
  struct tls_fixture *f = *state;
  struct rig *r = f->base.rig;
  size_t sent = 0, got = 0;
  rig_settle(r);
  rig_send_text(r->agent, "accept");
  far_send_pattern(&f->base, 1000);
  rig_reset(&r->agent);
  visitor_send_pattern(f, &sent, 1000);
  rig_visitor_first(r);
  assert_true(r->pump->wire.reset);
  RIG_UNTIL(r, visitor_expect_pattern(f, &got, SIZE_MAX) == SSL_ERROR_SYSCALL);   /* our reset comes after it */
  assert_int_equal(got, f->base.far.sent);
  RIG_UNTIL(r, r->ended);
  assert_int_equal(r->why, CLOSE_WIRE_RESET);
}

static void abort_tells_the_visitor_by_a_fatal_alert(void **state) {
  struct tls_fixture *f = *state;
  struct rig *r = f->base.rig;
  size_t got = 0;
  rig_settle(r);
  pump_abort(r->pump, CLOSE_REVOKED);
  RIG_UNTIL(r, visitor_expect_pattern(f, &got, SIZE_MAX) == SSL_ERROR_SSL);
  RIG_UNTIL(r, list_empty(&r->pool->lingers));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, tls_set_up_accepted, tls_tear_down)

int main(void) {
  const struct CMUnitTest tests[] = {
    TEST(megabytes_pass_both_ways_and_idle_holds_no_buffer),
    TEST(a_visitor_that_does_not_read_stops_the_wire),
    TEST(a_rate_holds_for_what_openssl_opens_and_seals),
    TEST(close_notify_of_the_visitor_is_half_close),
    TEST(end_of_the_app_is_close_notify_and_the_upload_flows),
    TEST(fin_without_close_notify_is_a_truncation_and_resets_the_wire),
    TEST(garbage_in_the_stream_is_answered_with_an_alert_and_resets_the_wire),
    TEST(a_visitor_that_keeps_asking_to_renegotiate_is_ended_by_an_alert),
    cmocka_unit_test_setup_teardown(a_record_beyond_the_fragment_limit_is_a_record_overflow, tls_set_up_for_512_accepted,
                                    tls_tear_down),
    TEST(a_fatal_alert_of_the_visitor_is_no_violation),
    TEST(a_fatal_alert_of_the_agent_is_not_the_visitor_s),
    TEST(a_reset_of_the_wire_is_one_for_the_visitor),
    cmocka_unit_test_setup_teardown(what_the_agent_sent_behind_the_prefix_outlives_a_write_that_fails_first, tls_set_up,
                                    tls_tear_down),
    TEST(abort_tells_the_visitor_by_a_fatal_alert),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
