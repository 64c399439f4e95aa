/* Handshakes in memory between a tls_conn and OpenSSL itself, and what follows from them: the handoff into our own
   record layer. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "cm.h"

#include "base/secret.h"
#include "tls/authority.h"
#include "tls/client_hello.h"
#include "tls/record.h"
#include "tls/sealed.h"
#include "tls/tls12_keys.h"
#include "tls/tls_conn.h"
#include "tls/tls_kdf.h"
#include "tls/tls_hooks.h"

static struct authority *authority;
static struct tls_server *identity;
static const char host[] = "label.r1.example.com";
static const char TLS12_GROUPS[] = "X25519:P-256"; /* P-256 for the certificate */
static const uint8_t http11[] = "\x08http/1.1";

static int make_identity(void **state) {
  (void)state;
  const char *const names[] = {"r1.example.com", "*.r1.example.com"};
  struct err e;
  char *chain, *key;
  authority = authority_make("r1.example.com", time(NULL), &e);
  assert_non_null(authority);
  assert_int_equal(authority_issue(authority, names, 2, 30, time(NULL), &chain, &key, &e), 0);
  identity = tls_server_new(chain, strlen(chain), key, strlen(key), "r1.example.com", &e);
  if (identity == NULL) fail_msg("%s", e.text);
  authority_pem_free(chain);
  authority_pem_free(key);
  return 0;
}

static int drop_identity(void **state) {
  (void)state;
  tls_server_unref(identity);
  authority_unref(authority);
  return 0;
}

/* An operator's file of everything: the leaf, its issuer, and an authority of his own that issued nothing here. */
static struct tls_server *make_identity_of_three(struct authority *other) {
  const char *const names[] = {"r1.example.com", "*.r1.example.com"};
  struct err e;
  char *chain, *key, *root, *all;
  assert_int_equal(authority_issue(authority, names, 2, 30, time(NULL), &chain, &key, &e), 0);
  assert_int_equal(authority_cert_pem(other, &root, &e), 0);
  assert_true(asprintf(&all, "%s%s", chain, root) > 0);
  struct tls_server *three = tls_server_new(all, strlen(all), key, strlen(key), "r1.example.com", &e);
  assert_non_null(three);
  authority_pem_free(all);
  authority_pem_free(root);
  authority_pem_free(chain);
  authority_pem_free(key);
  return three;
}

/* A visitor: OpenSSL's client over memory. */
struct visitor {
  SSL_CTX *ctx;
  SSL *ssl;
  BIO *in, *out;
};

static void visitor_open(struct visitor *v, int version, const char *suites, const char *groups) {
  v->ctx = SSL_CTX_new(TLS_client_method());
  SSL_CTX_set_min_proto_version(v->ctx, version);
  SSL_CTX_set_max_proto_version(v->ctx, version);
  if (suites != NULL && version == TLS1_3_VERSION) assert_int_equal(SSL_CTX_set_ciphersuites(v->ctx, suites), 1);
  if (suites != NULL && version == TLS1_2_VERSION) assert_int_equal(SSL_CTX_set_cipher_list(v->ctx, suites), 1);
  char list[64];
  snprintf(list, sizeof list, "%s", groups == NULL ? "X25519" : groups);
  assert_int_equal(SSL_CTX_set1_groups_list(v->ctx, list), 1);
  v->ssl = SSL_new(v->ctx);
  v->in = BIO_new(BIO_s_mem());
  v->out = BIO_new(BIO_s_mem());
  BIO_set_mem_eof_return(v->in, -1);
  SSL_set_bio(v->ssl, v->in, v->out);
  SSL_set_connect_state(v->ssl);
  char name[sizeof host];
  memcpy(name, host, sizeof host);
  SSL_set_tlsext_host_name(v->ssl, name);
}

static void visitor_close(struct visitor *v) {
  SSL_free(v->ssl);
  SSL_CTX_free(v->ctx);
  ERR_clear_error();
}

/* Feeds what the visitor wrote in pieces of at most `piece` bytes, never more than wanted, and hands back the answer.
   */
static enum tls_status pump(struct visitor *v, struct tls_conn *t, size_t piece, struct err *e) {
  enum tls_status status = TLS_GOING_ON;
  uint8_t bytes[20000];
  for (int turn = 0; turn < 10 && status == TLS_GOING_ON; turn++) {
    SSL_do_handshake(v->ssl);
    while (status == TLS_GOING_ON && BIO_ctrl_pending(v->out) > 0) {
      int n = BIO_read(v->out, bytes, (int)size_min(size_min(piece, sizeof bytes), tls_conn_want(t)));
      assert_true(n > 0);
      status = tls_conn_feed(t, bytes, (size_t)n, e);
    }
    size_t n;
    const uint8_t *p = tls_conn_output(t, &n);
    if (n > 0) BIO_write(v->in, p, (int)n);
    tls_conn_output_sent(t, n);
  }
  return status;
}

static struct tls_conn *conn_open(bool wants_exporter) {
  const struct tls_server_policy policy = {
    .host = host, .alpn = http11, .alpn_n = sizeof http11 - 1, .wants_exporter = wants_exporter};
  struct err e;
  struct tls_conn *t = tls_conn_server(identity, &policy, &e);
  assert_non_null(t);
  return t;
}

static void finish(struct visitor *v, struct tls_conn *t, size_t piece) {
  struct err e;
  enum tls_status status = pump(v, t, piece, &e);
  if (status == TLS_FAILED) fail_msg("%s", e.text);
  assert_int_equal(status, TLS_DONE);
  SSL_do_handshake(v->ssl);        /* in TLS 1.2 the last flight is ours */
  assert_true(SSL_is_init_finished(v->ssl));
}

/* Our end after the handoff. */
static struct sealed *seal_up(struct tls_conn *t) {
  struct tls_takeover k;
  assert_int_equal(tls_conn_take_over(t, &k), 0);
  const struct sealed_params params = {
    .suite = tls_suite_find(k.suite), .read_secret = k.client_secret, .write_secret = k.server_secret,
    .read_sequence = k.client_sequence, .write_sequence = k.server_sequence, .fragment_max = k.fragment_max};
  struct sealed *s = sealed_new(&params);
  assert_non_null(s);
  wipe(&k, sizeof k);
  tls_conn_free(t);
  return s;
}

static void send_owed(struct sealed *s, struct visitor *v) {
  uint8_t out[SEALED_OWED_MAX];
  size_t n = sealed_write_owed(s, out);
  if (n > 0) assert_int_equal(BIO_write(v->in, out, (int)n), (int)n);
}

static void send_data(struct sealed *s, struct visitor *v, const void *p, size_t n) {
  static uint8_t record[RECORD_PLAIN_MAX + RECORD_OVERHEAD_MAX];
  if (sealed_owes(s)) send_owed(s, v);
  memcpy(record + sealed_lead(s), p, n);
  assert_int_equal(sealed_write(s, record, n), 0);
  assert_int_equal(BIO_write(v->in, record, (int)(n + sealed_overhead(s))), (int)(n + sealed_overhead(s)));
}

/* Reads all that the visitor has written; the last result other than SEALED_NOTHING and SEALED_DATA. */
static enum sealed_result receive(struct sealed *s, struct visitor *v, uint8_t *to, size_t *to_n) {
  static uint8_t bytes[200000];
  int got = BIO_read(v->out, bytes, sizeof bytes);
  size_t len = got > 0 ? (size_t)got : 0, at = 0;
  *to_n = 0;
  for (;;) {
    size_t consumed, n;
    uint8_t *plain;
    enum sealed_result r = sealed_read(s, bytes + at, len - at, &consumed, &plain, &n);
    at += consumed;
    if (r == SEALED_DATA) {
      memcpy(to + *to_n, plain, n);
      *to_n += n;
    } else if (r != SEALED_NOTHING) {
      return r;
    }
  }
}

static void check_both_ways(struct sealed *s, struct visitor *v) {
  static uint8_t block[50000], got[60000];
  size_t n;
  for (size_t i = 0; i < sizeof block; i++) block[i] = (uint8_t)(i * 7);
  assert_int_equal(SSL_write(v->ssl, block, sizeof block), sizeof block);
  assert_int_equal(receive(s, v, got, &n), SEALED_MORE);
  assert_int_equal(n, sizeof block);
  assert_memory_equal(got, block, n);
  size_t piece = size_min(sealed_fragment_max(s), 1000);
  for (size_t at = 0; at < 10 * piece; at += piece) {
    send_data(s, v, block + at, piece);
    assert_int_equal(SSL_read(v->ssl, got, sizeof got), piece);
    assert_memory_equal(got, block + at, piece);
  }
}

static void hand_off_with(int version, const char *suite, const char *groups, size_t piece) {
  struct visitor v;
  visitor_open(&v, version, suite, groups);
  struct tls_conn *t = conn_open(false);
  finish(&v, t, piece);
  if (suite != NULL) assert_string_equal(SSL_get_cipher_name(v.ssl), suite);
  struct sealed *s = seal_up(t);
  check_both_ways(s, &v);
  sealed_free(s);
  visitor_close(&v);
}

static void a_handshake_with_each_suite_continues_in_our_record_layer(void **state) {
  (void)state;
  hand_off_with(TLS1_3_VERSION, "TLS_AES_128_GCM_SHA256", NULL, 20000);
  hand_off_with(TLS1_3_VERSION, "TLS_AES_256_GCM_SHA384", NULL, 20000);
  hand_off_with(TLS1_3_VERSION, "TLS_CHACHA20_POLY1305_SHA256", NULL, 20000);
}

static void a_handshake_after_hello_retry_request_is_handed_off(void **state) {
  (void)state;
  hand_off_with(TLS1_3_VERSION, NULL, "P-521:P-384", 20000);
  hand_off_with(TLS1_3_VERSION, NULL, "P-521:P-256", 20000);
}

static void a_handshake_fed_byte_by_byte_is_handed_off(void **state) {
  (void)state;
  hand_off_with(TLS1_3_VERSION, NULL, NULL, 1);
  hand_off_with(TLS1_3_VERSION, NULL, "P-521:P-256", 1);
}

/* Its first hello is plain, and so is the one after HelloRetryRequest. In records of one byte each. */
static size_t hello_in_single_bytes(struct visitor *v, uint8_t *to) {
  uint8_t bytes[4096];
  size_t n = 0;
  SSL_do_handshake(v->ssl);
  int len = BIO_read(v->out, bytes, sizeof bytes);
  for (int at = 0; at < len; at += (int)record_length(bytes + at, RECORD_HEADER_BYTES)) {
    bool is_hello = bytes[at] == RECORD_HANDSHAKE;
    size_t length = record_length(bytes + at, RECORD_HEADER_BYTES), piece = is_hello ? 1 : length - RECORD_HEADER_BYTES;
    for (size_t i = RECORD_HEADER_BYTES; i < length; i += piece) {
      const uint8_t header[] = {bytes[at], 3, 1, 0, (uint8_t)piece};
      memcpy(to + n, header, sizeof header);
      memcpy(to + n + sizeof header, bytes + at + i, piece);
      n += sizeof header + piece;
    }
  }
  return n;
}

static void hellos_in_records_of_one_byte_are_handed_off(void **state) {
  (void)state;
  static uint8_t bytes[8192];
  struct visitor v;
  struct err e;
  visitor_open(&v, TLS1_3_VERSION, NULL, "P-521:P-256");
  struct tls_conn *t = conn_open(false);
  for (int i = 0; i < 2; i++) {
    size_t n = hello_in_single_bytes(&v, bytes), out_n;
    for (size_t at = 0, take; at < n; at += take) {
      take = size_min(tls_conn_want(t), n - at);
      assert_int_equal(tls_conn_feed(t, bytes + at, take, &e), TLS_GOING_ON);
    }
    const uint8_t *out = tls_conn_output(t, &out_n);
    BIO_write(v.in, out, (int)out_n);
    tls_conn_output_sent(t, out_n);
  }
  finish(&v, t, 20000);
  struct sealed *s = seal_up(t);
  check_both_ways(s, &v);
  sealed_free(s);
  visitor_close(&v);
}

static void an_alert_is_not_answered(void **state) {
  (void)state;
  static const uint8_t alert[] = {RECORD_ALERT, 3, 3, 0, 2, 2, SSL_AD_HANDSHAKE_FAILURE};
  static const struct { int version; const char *groups; } ways[] = {
      {TLS1_3_VERSION, "P-521:P-256"}, {TLS1_2_VERSION, "X25519:P-256"}};
  for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
    struct visitor v;
    struct err e;
    uint8_t bytes[8192];
    size_t n;
    visitor_open(&v, ways[i].version, NULL, ways[i].groups);
    struct tls_conn *t = conn_open(false);
    assert_int_equal(tls_conn_feed(t, bytes, hello_in_single_bytes(&v, bytes), &e), TLS_GOING_ON);
    (void)tls_conn_output(t, &n);
    tls_conn_output_sent(t, n);
    assert_int_equal(tls_conn_feed(t, alert, sizeof alert, &e), TLS_FAILED);
    (void)tls_conn_output(t, &n);
    assert_int_equal(n, 0);
    tls_conn_free(t);
    visitor_close(&v);
  }
}

static void a_client_that_says_more_than_a_handshake_takes_is_refused(void **state) {
  (void)state;
  static uint8_t bytes[8192];
  static const uint8_t endless[] = {RECORD_HANDSHAKE, 3, 3, 0, 4, 1, 1, 0xff, 0},
      more[] = {RECORD_HANDSHAKE, 3, 3, 0, 1, 0};
  struct visitor v;
  struct err e;
  visitor_open(&v, TLS1_3_VERSION, NULL, "P-521:P-256");
  struct tls_conn *t = conn_open(false);
  size_t fed = hello_in_single_bytes(&v, bytes) + sizeof endless;
  assert_int_equal(tls_conn_feed(t, bytes, fed - sizeof endless, &e), TLS_GOING_ON);
  size_t n;
  (void)tls_conn_output(t, &n);
  tls_conn_output_sent(t, n);      /* HelloRetryRequest */
  assert_int_equal(tls_conn_feed(t, endless, sizeof endless, &e), TLS_GOING_ON);
  while (fed + sizeof more <= HANDSHAKE_MAX_BYTES) {
    assert_int_equal(tls_conn_feed(t, more, sizeof more, &e), TLS_GOING_ON);
    fed += sizeof more;
  }
  assert_int_equal(tls_conn_feed(t, more, sizeof more, &e), TLS_FAILED);
  const uint8_t *alert = tls_conn_output(t, &n);
  assert_int_equal(n, PLAIN_ALERT_BYTES);
  assert_int_equal(alert[6], ALERT_RECORD_OVERFLOW);
  tls_conn_free(t);
  visitor_close(&v);
}

/* Past the handshake and the handoff. */
static struct sealed *established(struct visitor *v) {
  visitor_open(v, TLS1_3_VERSION, NULL, NULL);
  struct tls_conn *t = conn_open(false);
  finish(v, t, 20000);
  return seal_up(t);
}

static void key_updates_in_both_directions_are_followed(void **state) {
  (void)state;
  struct visitor v;
  struct sealed *s = established(&v);
  uint8_t got[100];
  size_t n;
  for (int round = 0; round < 3; round++) {
    assert_int_equal(SSL_key_update(v.ssl, SSL_KEY_UPDATE_REQUESTED), 1);
    assert_int_equal(SSL_write(v.ssl, "after update", 12), 12);
    assert_int_equal(receive(s, &v, got, &n), SEALED_MORE);
    assert_int_equal(n, 12);
    assert_true(sealed_owes(s));
    send_data(s, &v, "under the new key", 17);
    assert_int_equal(SSL_read(v.ssl, got, sizeof got), 17);
    check_both_ways(s, &v);
    assert_int_equal(SSL_key_update(v.ssl, SSL_KEY_UPDATE_NOT_REQUESTED), 1);
    check_both_ways(s, &v);
    assert_false(sealed_owes(s));
  }
  sealed_free(s);
  visitor_close(&v);
}

static void close_notify_is_understood_both_ways(void **state) {
  (void)state;
  struct visitor v;
  struct sealed *s = established(&v);
  uint8_t got[100];
  size_t n;
  assert_int_equal(SSL_shutdown(v.ssl), 0);
  assert_int_equal(receive(s, &v, got, &n), SEALED_EOF);
  send_data(s, &v, "answer", 6);
  assert_int_equal(SSL_read(v.ssl, got, sizeof got), 6);
  sealed_close(s);
  send_owed(s, &v);
  assert_true(sealed_write_ended(s));
  int rc = SSL_read(v.ssl, got, sizeof got);
  assert_int_equal(SSL_get_error(v.ssl, rc), SSL_ERROR_ZERO_RETURN);
  sealed_free(s);
  visitor_close(&v);
}

static void expect_alert(struct visitor *v, int alert) {
  uint8_t got[100];
  ERR_clear_error();
  int rc = SSL_read(v->ssl, got, sizeof got);
  assert_int_equal(SSL_get_error(v->ssl, rc), SSL_ERROR_SSL);
  assert_int_equal(ERR_GET_REASON(ERR_peek_error()), SSL_AD_REASON_OFFSET + alert);
}

static void a_corrupted_record_is_answered_with_bad_record_mac(void **state) {
  (void)state;
  struct visitor v;
  struct sealed *s = established(&v);
  uint8_t bytes[100], *plain;
  size_t consumed, n;
  assert_int_equal(SSL_write(v.ssl, "data", 4), 4);
  int len = BIO_read(v.out, bytes, sizeof bytes);
  bytes[7] ^= 1;
  assert_int_equal(sealed_read(s, bytes, (size_t)len, &consumed, &plain, &n), SEALED_FAILED);
  send_owed(s, &v);
  expect_alert(&v, SSL_AD_BAD_RECORD_MAC);
  sealed_free(s);
  visitor_close(&v);
}

static void a_fatal_alert_of_ours_is_understood(void **state) {
  (void)state;
  struct visitor v;
  struct sealed *s = established(&v);
  sealed_fail(s, ALERT_INTERNAL_ERROR);
  send_owed(s, &v);
  expect_alert(&v, SSL_AD_INTERNAL_ERROR);
  sealed_free(s);
  visitor_close(&v);
}

static void max_fragment_length_goes_with_the_handoff(void **state) {
  (void)state;
  struct visitor v;
  visitor_open(&v, TLS1_3_VERSION, NULL, NULL);
  assert_int_equal(SSL_set_tlsext_max_fragment_length(v.ssl, TLSEXT_max_fragment_length_1024), 1);
  struct tls_conn *t = conn_open(false);
  finish(&v, t, 20000);
  struct sealed *s = seal_up(t);
  assert_int_equal(sealed_fragment_max(s), 1024);
  check_both_ways(s, &v);
  sealed_free(s);
  visitor_close(&v);
}

static void expect_chain(struct tls_server *server, int version, bool whole, int certificates) {
  struct visitor v;
  struct err e;
  visitor_open(&v, version, NULL, "X25519:P-256");
  struct tls_conn *t = tls_conn_server(server, &(struct tls_server_policy){.host = host, .whole_chain = whole}, &e);
  assert_non_null(t);
  finish(&v, t, 20000);
  assert_int_equal(sk_X509_num(SSL_get_peer_cert_chain(v.ssl)), certificates);
  tls_conn_free(t);
  visitor_close(&v);
}

static void visitors_get_no_trust_anchor_and_control_links_get_all(void **state) {
  (void)state;
  struct err e;
  struct authority *other = authority_make("r2.example.com", time(NULL), &e);
  struct tls_server *three = make_identity_of_three(other);
  expect_chain(identity, TLS1_3_VERSION, false, 1);
  expect_chain(identity, TLS1_2_VERSION, false, 1);
  expect_chain(identity, TLS1_3_VERSION, true, 2);
  expect_chain(identity, TLS1_3_VERSION, false, 1);
  expect_chain(three, TLS1_3_VERSION, false, 1);
  expect_chain(three, TLS1_3_VERSION, true, 3);
  tls_server_unref(three);
  authority_unref(other);
}

static void the_first_hello_may_be_fed_whole_over_several_records(void **state) {
  (void)state;
  struct visitor v;
  struct err e;
  struct client_hello ch;
  uint8_t bytes[4096], cut[8192], alert;
  size_t n = 0;
  visitor_open(&v, TLS1_3_VERSION, NULL, NULL);
  SSL_do_handshake(v.ssl);
  int got = BIO_read(v.out, bytes, sizeof bytes);
  for (int at = 5; at < got; at += 100) {
    int take = got - at < 100 ? got - at : 100;
    const uint8_t header[] = {22, 3, 1, 0, (uint8_t)take};
    memcpy(cut + n, header, 5);
    memcpy(cut + n + 5, bytes + at, (size_t)take);
    n += 5 + (size_t)take;
  }
  client_hello_init(&ch);
  assert_int_equal(client_hello_feed(&ch, cut, n, &alert), 0);
  assert_true(ch.complete);
  assert_string_equal(ch.sni, host);
  struct tls_conn *t = conn_open(false);
  assert_int_equal(tls_conn_feed(t, buf_data(&ch.raw), ch.raw.len, &e), TLS_GOING_ON);
  assert_int_equal(tls_conn_want(t), RECORD_HEADER_BYTES + 1 + RECORD_HEADER_BYTES);
  client_hello_free(&ch);
  const uint8_t *p = tls_conn_output(t, &n);
  assert_true(n > 0);
  BIO_write(v.in, p, (int)n);
  tls_conn_output_sent(t, n);
  finish(&v, t, 20000);
  struct sealed *s = seal_up(t);
  check_both_ways(s, &v);
  sealed_free(s);
  visitor_close(&v);
}

static void expect_refusal(struct visitor *v, const struct tls_server_policy *policy, int alert) {
  struct err e;
  struct tls_conn *t = tls_conn_server(identity, policy, &e);
  assert_non_null(t);
  assert_int_equal(pump(v, t, 20000, &e), TLS_FAILED);
  ERR_clear_error();
  int rc = SSL_do_handshake(v->ssl);
  assert_int_equal(SSL_get_error(v->ssl, rc), SSL_ERROR_SSL);
  assert_int_equal(ERR_GET_REASON(ERR_peek_error()), SSL_AD_REASON_OFFSET + alert);
  struct tls_takeover k;
  assert_int_equal(tls_conn_take_over(t, &k), ERR_NOT_NOW);
  tls_conn_free(t);
  visitor_close(v);
}

static void another_name_than_the_first_is_an_illegal_parameter(void **state) {
  (void)state;
  struct visitor v;
  visitor_open(&v, TLS1_3_VERSION, NULL, NULL);
  expect_refusal(&v, &(struct tls_server_policy){.host = "other.r1.example.com"}, SSL_AD_ILLEGAL_PARAMETER);
}

static void another_name_after_hello_retry_request_is_an_illegal_parameter(void **state) {
  (void)state;
  struct visitor v;
  struct err e;
  uint8_t bytes[20000];
  char name[] = "victim.r1.example.com";
  visitor_open(&v, TLS1_3_VERSION, NULL, "P-521:P-256");
  struct tls_conn *t = conn_open(false);
  SSL_do_handshake(v.ssl);
  int n = BIO_read(v.out, bytes, sizeof bytes);
  assert_int_equal(tls_conn_feed(t, bytes, (size_t)n, &e), TLS_GOING_ON);
  size_t out_n;
  const uint8_t *out = tls_conn_output(t, &out_n);
  BIO_write(v.in, out, (int)out_n);
  tls_conn_output_sent(t, out_n);
  SSL_set_tlsext_host_name(v.ssl, name);  /* OpenSSL's client sends whatever the name is now */
  assert_int_equal(pump(&v, t, 20000, &e), TLS_FAILED);
  ERR_clear_error();
  SSL_do_handshake(v.ssl);
  assert_int_equal(ERR_GET_REASON(ERR_peek_error()), SSL_AD_REASON_OFFSET + SSL_AD_ILLEGAL_PARAMETER);
  tls_conn_free(t);
  visitor_close(&v);
}

static void alpn_follows_our_order_and_needs_an_overlap(void **state) {
  (void)state;
  static const uint8_t offer[] = "\x08http/1.1\x02h2", ours[] = "\x02h2\x08http/1.1", foreign[] = "\x04imap";
  struct visitor v;
  struct err e;
  size_t n;
  visitor_open(&v, TLS1_3_VERSION, NULL, NULL);
  SSL_set_alpn_protos(v.ssl, offer, sizeof offer - 1);
  struct tls_conn *t = tls_conn_server(identity, &(struct tls_server_policy){.alpn = ours, .alpn_n = sizeof ours - 1},
                                       &e);
  finish(&v, t, 20000);
  const uint8_t *alpn = tls_conn_alpn(t, &n);
  assert_int_equal(n, 2);
  assert_memory_equal(alpn, "h2", 2);
  tls_conn_free(t);
  visitor_close(&v);

  visitor_open(&v, TLS1_3_VERSION, NULL, NULL);
  t = conn_open(false);
  finish(&v, t, 20000);
  tls_conn_alpn(t, &n);
  assert_int_equal(n, 0);
  tls_conn_free(t);
  visitor_close(&v);

  visitor_open(&v, TLS1_3_VERSION, NULL, NULL);
  SSL_set_alpn_protos(v.ssl, foreign, sizeof foreign - 1);
  expect_refusal(&v, &(struct tls_server_policy){.alpn = ours, .alpn_n = sizeof ours - 1},
                 SSL_AD_NO_APPLICATION_PROTOCOL);
}

static void a_tls13_only_policy_refuses_tls12(void **state) {
  (void)state;
  struct visitor v;
  visitor_open(&v, TLS1_2_VERSION, NULL, "X25519:P-256");
  expect_refusal(&v, &(struct tls_server_policy){.tls13_only = true}, SSL_AD_PROTOCOL_VERSION);
}

static void tls12_with_anything_but_ecdhe_and_aead_is_refused(void **state) {
  (void)state;
  struct visitor v;
  visitor_open(&v, TLS1_2_VERSION, "ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-AES128-SHA", TLS12_GROUPS);
  expect_refusal(&v, &(struct tls_server_policy){.host = host}, SSL_AD_HANDSHAKE_FAILURE);
}

static void take(struct visitor *v, struct tls_conn *t) {
  size_t n;
  const uint8_t *p = tls_conn_output(t, &n);
  if (n > 0) assert_int_equal(BIO_write(v->in, p, (int)n), (int)n);
  tls_conn_output_sent(t, n);
}

static struct tls_conn *tls12(struct visitor *v) {
  visitor_open(v, TLS1_2_VERSION, NULL, TLS12_GROUPS);
  struct tls_conn *t = conn_open(false);
  finish(v, t, 20000);
  assert_int_equal(tls_conn_version(t), TLS1_2_VERSION);
  return t;
}

static void every_suite_that_openssl_may_choose_is_known(void **state) {
  (void)state;
  SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
  assert_int_equal(tls_hooks_set_up(ctx), 0);
  STACK_OF(SSL_CIPHER) *ciphers = SSL_CTX_get_ciphers(ctx);
  assert_int_equal(sk_SSL_CIPHER_num(ciphers), 9);
  for (int i = 0; i < 9; i++) {
    const SSL_CIPHER *cipher = sk_SSL_CIPHER_value(ciphers, i);
    const struct tls_suite *suite = tls_suite_find(SSL_CIPHER_get_protocol_id(cipher));
    assert_non_null(suite);
    assert_string_equal(suite->name, SSL_CIPHER_get_name(cipher));
    assert_int_equal(SSL_CIPHER_get_bits(cipher, NULL), 8 * aead_key_bytes(suite->aead));
    assert_int_equal(EVP_MD_get_size(SSL_CIPHER_get_handshake_digest(cipher)), hash_bytes(suite->hash));
    assert_string_equal(SSL_CIPHER_get_version(cipher), suite->version == TLS_VERSION_13 ? "TLSv1.3" : "TLSv1.2");
  }
  SSL_CTX_free(ctx);
}

static void tls12_with_each_suite_continues_in_our_record_layer(void **state) {
  (void)state;
  hand_off_with(TLS1_2_VERSION, "ECDHE-ECDSA-AES128-GCM-SHA256", TLS12_GROUPS, 20000);
  hand_off_with(TLS1_2_VERSION, "ECDHE-ECDSA-AES256-GCM-SHA384", TLS12_GROUPS, 20000);
  hand_off_with(TLS1_2_VERSION, "ECDHE-ECDSA-CHACHA20-POLY1305", TLS12_GROUPS, 20000);
  hand_off_with(TLS1_2_VERSION, NULL, TLS12_GROUPS, 1);
}

static void tls12_ends_and_fails_as_tls13_does(void **state) {
  (void)state;
  struct visitor v;
  uint8_t got[100], bytes[100], *plain;
  size_t consumed, n;
  struct sealed *s = seal_up(tls12(&v));
  assert_int_equal(SSL_shutdown(v.ssl), 0);
  assert_int_equal(receive(s, &v, got, &n), SEALED_EOF);
  send_data(s, &v, "answer", 6);
  assert_int_equal(SSL_read(v.ssl, got, sizeof got), 6);
  sealed_close(s);
  send_owed(s, &v);
  int rc = SSL_read(v.ssl, got, sizeof got);
  assert_int_equal(SSL_get_error(v.ssl, rc), SSL_ERROR_ZERO_RETURN);
  sealed_free(s);
  visitor_close(&v);

  s = seal_up(tls12(&v));
  assert_int_equal(SSL_write(v.ssl, "data", 4), 4);
  int len = BIO_read(v.out, bytes, sizeof bytes);
  bytes[len - 1] ^= 1;
  assert_int_equal(sealed_read(s, bytes, (size_t)len, &consumed, &plain, &n), SEALED_FAILED);
  send_owed(s, &v);
  expect_alert(&v, SSL_AD_BAD_RECORD_MAC);
  sealed_free(s);
  visitor_close(&v);
}

static void tls12_renegotiation_is_declined_by_a_warning(void **state) {
  (void)state;
  struct visitor v;
  uint8_t got[16];
  size_t n;
  struct sealed *s = seal_up(tls12(&v));
  SSL_renegotiate(v.ssl);
  SSL_do_handshake(v.ssl);
  assert_int_equal(receive(s, &v, got, &n), SEALED_MORE);
  send_owed(s, &v);
  ERR_clear_error();
  assert_int_equal(SSL_do_handshake(v.ssl), -1);
  assert_int_equal(ERR_GET_REASON(ERR_peek_error()), SSL_R_NO_RENEGOTIATION);
  sealed_free(s);
  visitor_close(&v);
}

/* A handshake with AES-GCM, whose Finished of ours had this explicit nonce. */
static void finish_kept(struct visitor *v, struct tls_conn *t, uint8_t explicit_nonce[8]) {
  struct err e;
  uint8_t bytes[4096];
  SSL_do_handshake(v->ssl);
  for (;;) {
    int n = BIO_read(v->out, bytes, (int)size_min(sizeof bytes, tls_conn_want(t)));
    enum tls_status status = tls_conn_feed(t, bytes, (size_t)n, &e);
    assert_int_not_equal(status, TLS_FAILED);
    if (status == TLS_DONE) break;
    take(v, t);
    SSL_do_handshake(v->ssl);
  }
  size_t n;
  const uint8_t *out = tls_conn_output(t, &n);
  assert_int_equal(n, 6 + RECORD_OVERHEAD_MAX + 16);    /* ChangeCipherSpec and Finished */
  memcpy(explicit_nonce, out + 6 + RECORD_HEADER_BYTES, 8);
  take(v, t);
  assert_int_equal(SSL_do_handshake(v->ssl), 1);
}

/* What OpenSSL has used for Finished must not come again. */
static void tls12_nonces_of_ours_follow_openssls(void **state) {
  (void)state;
  struct visitor v;
  uint8_t record[100], first[8], p[1];
  visitor_open(&v, TLS1_2_VERSION, "ECDHE-ECDSA-AES128-GCM-SHA256", TLS12_GROUPS);
  struct tls_conn *t = conn_open(false);
  finish_kept(&v, t, first);
  struct sealed *s = seal_up(t);
  for (int i = 0; i < 300; i++) {
    for (int at = 7; at >= 0 && ++first[at] == 0;) at--;
    memcpy(record + sealed_lead(s), "x", 1);
    assert_int_equal(sealed_write(s, record, 1), 0);
    assert_memory_equal(record + RECORD_HEADER_BYTES, first, 8);
    assert_int_equal(BIO_write(v.in, record, (int)(1 + sealed_overhead(s))), (int)(1 + sealed_overhead(s)));
    assert_int_equal(SSL_read(v.ssl, p, 1), 1);
  }
  sealed_free(s);
  visitor_close(&v);
}

static void an_alert_takes_the_nonce_behind_openssls(void **state) {
  (void)state;
  struct visitor v;
  uint8_t finished[8];
  visitor_open(&v, TLS1_2_VERSION, "ECDHE-ECDSA-AES128-GCM-SHA256", TLS12_GROUPS);
  struct tls_conn *t = conn_open(false);
  finish_kept(&v, t, finished);
  tls_conn_alert(t, ALERT_INTERNAL_ERROR);
  size_t n;
  const uint8_t *out = tls_conn_output(t, &n);
  assert_int_equal(n, RECORD_OVERHEAD_MAX + 2);
  for (int at = 7; at >= 0 && ++finished[at] == 0;) at--;
  assert_memory_equal(out + RECORD_HEADER_BYTES, finished, 8);
  tls_conn_free(t);
  visitor_close(&v);
}

/* RFC 7918: browsers send data behind their Finished, without waiting for ours. It stays where it is until it is read
   under our keys. */
static void tls12_data_behind_the_visitors_finished_is_handed_off(void **state) {
  (void)state;
  struct visitor v;
  struct err e;
  uint8_t bytes[4096], client[TLS_SECRET_MAX_BYTES], server[TLS_SECRET_MAX_BYTES], zeros[8] = {0}, early[100], *plain;
  struct record_keys keys;
  visitor_open(&v, TLS1_2_VERSION, NULL, TLS12_GROUPS);
  struct tls_conn *t = conn_open(false);
  for (int flight = 0; flight < 2; flight++) {
    SSL_do_handshake(v.ssl);
    for (enum tls_status status = TLS_GOING_ON; status == TLS_GOING_ON && BIO_ctrl_pending(v.out) > 0;) {
      int n = BIO_read(v.out, bytes, (int)size_min(sizeof bytes, tls_conn_want(t)));
      status = tls_conn_feed(t, bytes, (size_t)n, &e);
      assert_int_equal(status, flight == 1 && BIO_ctrl_pending(v.out) == 0 ? TLS_DONE : TLS_GOING_ON);
    }
    if (flight == 0) take(&v, t);
  }
  assert_false(SSL_is_init_finished(v.ssl));
  const struct tls_suite *suite = tls_suite_find(SSL_CIPHER_get_protocol_id(SSL_get_current_cipher(v.ssl)));
  assert_int_equal(tls12_keys_derive(v.ssl, suite, zeros, client, server), 0);
  client[aead_key_bytes(suite->aead) + 4] = 0x77;       /* another start than OpenSSL's */
  assert_int_equal(record_keys_init(&keys, suite, client, 1, true), 0);
  memcpy(early + suite->lead, "early", 5);
  assert_int_equal(record_seal(&keys, RECORD_APPLICATION_DATA, early, 5), 0);
  record_keys_free(&keys);
  take(&v, t);
  struct sealed *s = seal_up(t);
  size_t consumed, n;
  assert_int_equal(sealed_read(s, early, 5u + suite->overhead, &consumed, &plain, &n), SEALED_DATA);
  assert_int_equal(n, 5);
  assert_memory_equal(plain, "early", 5);
  send_data(s, &v, "answer", 6);
  assert_int_equal(SSL_do_handshake(v.ssl), 1);
  assert_int_equal(SSL_read(v.ssl, bytes, sizeof bytes), 6);
  sealed_free(s);
  visitor_close(&v);
}

static void tls11_is_refused_for_its_version(void **state) {
  (void)state;
  struct visitor v;
  visitor_open(&v, TLS1_1_VERSION, NULL, TLS12_GROUPS);
  SSL_set_security_level(v.ssl, 0);
  SSL_set_options(v.ssl, SSL_OP_NO_EXTENDED_MASTER_SECRET);
  expect_refusal(&v, &(struct tls_server_policy){.host = host}, SSL_AD_PROTOCOL_VERSION);
}

static void tls12_without_extended_master_secret_is_refused(void **state) {
  (void)state;
  struct visitor v;
  visitor_open(&v, TLS1_2_VERSION, NULL, TLS12_GROUPS);
  SSL_set_options(v.ssl, SSL_OP_NO_EXTENDED_MASTER_SECRET);
  expect_refusal(&v, &(struct tls_server_policy){.host = host}, SSL_AD_HANDSHAKE_FAILURE);
}

static void an_alert_of_choice_reaches_the_visitor(void **state) {
  (void)state;
  struct visitor v;
  visitor_open(&v, TLS1_3_VERSION, NULL, NULL);  /* before anything was sent */
  struct tls_conn *t = conn_open(false);
  tls_conn_alert(t, ALERT_UNRECOGNIZED_NAME);
  SSL_do_handshake(v.ssl);
  take(&v, t);
  ERR_clear_error();
  SSL_do_handshake(v.ssl);
  assert_int_equal(ERR_GET_REASON(ERR_peek_error()), SSL_AD_REASON_OFFSET + SSL_AD_UNRECOGNIZED_NAME);
  tls_conn_free(t);
  visitor_close(&v);

  visitor_open(&v, TLS1_3_VERSION, NULL, NULL);  /* after the handshake, where no data connection was found */
  t = conn_open(false);
  finish(&v, t, 20000);
  tls_conn_alert(t, ALERT_INTERNAL_ERROR);
  take(&v, t);
  expect_alert(&v, SSL_AD_INTERNAL_ERROR);
  tls_conn_free(t);
  visitor_close(&v);

  t = tls12(&v);                   /* in TLS 1.2, at once */
  tls_conn_alert(t, ALERT_INTERNAL_ERROR);
  take(&v, t);
  expect_alert(&v, SSL_AD_INTERNAL_ERROR);
  tls_conn_free(t);
  visitor_close(&v);
}

static void an_alert_of_choice_reaches_tls12_with_every_suite(void **state) {
  (void)state;
  static const char *const suites[] = {"ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384",
                                       "ECDHE-ECDSA-CHACHA20-POLY1305"};
  for (size_t i = 0; i < ARRAY_LEN(suites); i++) {
    struct visitor v;
    visitor_open(&v, TLS1_2_VERSION, suites[i], TLS12_GROUPS);
    struct tls_conn *t = conn_open(false);
    finish(&v, t, 20000);
    assert_string_equal(SSL_get_cipher_name(v.ssl), suites[i]);
    tls_conn_alert(t, ALERT_INTERNAL_ERROR);
    take(&v, t);
    expect_alert(&v, SSL_AD_INTERNAL_ERROR);
    tls_conn_free(t);
    visitor_close(&v);
  }
}

static void an_alert_amid_the_handshake_is_fatal_under_openssls_description(void **state) {
  (void)state;
  struct visitor v;
  struct err e;
  uint8_t bytes[4096];
  visitor_open(&v, TLS1_3_VERSION, NULL, NULL);
  struct tls_conn *t = conn_open(false);
  SSL_do_handshake(v.ssl);
  int n = BIO_read(v.out, bytes, sizeof bytes);
  assert_int_equal(tls_conn_feed(t, bytes, (size_t)n, &e), TLS_GOING_ON);
  tls_conn_alert(t, ALERT_INTERNAL_ERROR);
  take(&v, t);
  SSL_do_handshake(v.ssl);
  uint8_t got[16];
  ERR_clear_error();
  SSL_read(v.ssl, got, sizeof got);
  assert_true(ERR_GET_REASON(ERR_peek_error()) > SSL_AD_REASON_OFFSET);
  tls_conn_free(t);
  visitor_close(&v);
}

static void no_take_over_before_the_end_or_with_something_pending(void **state) {
  (void)state;
  struct visitor v;
  struct err e;
  struct tls_takeover k;
  uint8_t bytes[1000];
  visitor_open(&v, TLS1_3_VERSION, NULL, NULL);
  struct tls_conn *t = conn_open(false);
  assert_int_equal(tls_conn_take_over(t, &k), ERR_NOT_NOW);
  finish(&v, t, 20000);
  SSL_write(v.ssl, "early bird", 10);
  int n = BIO_read(v.out, bytes, sizeof bytes);
  assert_int_equal(tls_conn_feed(t, bytes, 1, &e), TLS_DONE);
  assert_int_equal(tls_conn_take_over(t, &k), ERR_NOT_NOW);
  assert_int_equal(tls_conn_feed(t, bytes + 1, (size_t)n - 1, &e), TLS_DONE);
  assert_int_equal(tls_conn_take_over(t, &k), ERR_NOT_NOW);
  assert_int_equal(k.secret_n, 0);
  tls_conn_free(t);
  visitor_close(&v);

  t = tls12(&v);
  SSL_write(v.ssl, "early bird", 10);
  assert_int_equal(BIO_read(v.out, bytes, 1), 1);
  assert_int_equal(tls_conn_feed(t, bytes, 1, &e), TLS_DONE);
  assert_int_equal(tls_conn_take_over(t, &k), ERR_NOT_NOW);
  assert_int_equal(k.secret_n, 0);
  tls_conn_free(t);
  visitor_close(&v);
}

static void no_ticket_is_sent_and_nothing_is_resumed(void **state) {
  (void)state;
  struct visitor v;
  visitor_open(&v, TLS1_3_VERSION, NULL, NULL);
  struct tls_conn *t = conn_open(false);
  finish(&v, t, 20000);
  size_t n;
  tls_conn_output(t, &n);
  assert_int_equal(n, 0);
  assert_int_equal(SSL_SESSION_is_resumable(SSL_get0_session(v.ssl)), 0);
  tls_conn_free(t);
  visitor_close(&v);
}

/* Not under sanitizers: their quarantine and shadow make a scan of all mappings too long. */
#ifndef SANITIZED
/* Every writable mapping of this process, through /proc/self/mem, which shows DONTDUMP pages, too. The needle is kept
   inverted, so that it does not find itself. */
static int count_in_memory(const uint8_t inverted[16]) {
  FILE *maps = fopen("/proc/self/maps", "r"), *mem = fopen("/proc/self/mem", "r");
  char line[512];
  int found = 0;
  assert_non_null(maps);
  assert_non_null(mem);
  setvbuf(mem, NULL, _IONBF, 0);
  static uint8_t block[1 << 16];
  while (fgets(line, sizeof line, maps) != NULL) {
    unsigned long from, to;
    char writable;
    if (sscanf(line, "%lx-%lx r%c", &from, &to, &writable) != 3 || writable != 'w') continue;
    for (unsigned long at = from; at < to; at += sizeof block - 15) {
      if (fseek(mem, (long)at, SEEK_SET) != 0) break;
      size_t n = fread(block, 1, size_min(sizeof block, to - at), mem);
      for (size_t i = 0; i + 16 <= n; i++) {
        size_t same = 0;
        while (same < 16 && (block[i + same] ^ inverted[same]) == 0xff) same++;
        uintptr_t address = at + i;
        bool in_block = address >= (uintptr_t)block && address < (uintptr_t)block + sizeof block;
        if (same == 16 && !in_block) found++;
      }
      wipe(block, sizeof block);
    }
  }
  fclose(maps);
  fclose(mem);
  return found;
}

static void secrets_are_gone_when_the_connection_is_freed(void **state) {
  (void)state;
  struct visitor v;
  struct tls_takeover k;
  uint8_t inverted[16], server_inverted[16];
  visitor_open(&v, TLS1_3_VERSION, NULL, NULL);
  struct tls_conn *t = conn_open(true);
  finish(&v, t, 20000);
  visitor_close(&v);               /* the visitor's copies go first: only our side's are of interest */
  assert_int_equal(tls_conn_take_over(t, &k), 0);
  for (int i = 0; i < 16; i++) inverted[i] = (uint8_t)~k.client_secret[i];
  for (int i = 0; i < 16; i++) server_inverted[i] = (uint8_t)~k.server_secret[i];
  assert_true(count_in_memory(inverted) > 0);  /* the scan finds what is there */
  tls_conn_free(t);
  wipe(&k, sizeof k);
  assert_int_equal(count_in_memory(inverted), 0);
  assert_int_equal(count_in_memory(server_inverted), 0);
}
#endif

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(a_handshake_with_each_suite_continues_in_our_record_layer),
    cmocka_unit_test(a_handshake_after_hello_retry_request_is_handed_off),
    cmocka_unit_test(a_handshake_fed_byte_by_byte_is_handed_off),
    cmocka_unit_test(hellos_in_records_of_one_byte_are_handed_off),
    cmocka_unit_test(an_alert_is_not_answered),
    cmocka_unit_test(a_client_that_says_more_than_a_handshake_takes_is_refused),
    cmocka_unit_test(key_updates_in_both_directions_are_followed),
    cmocka_unit_test(close_notify_is_understood_both_ways),
    cmocka_unit_test(a_corrupted_record_is_answered_with_bad_record_mac),
    cmocka_unit_test(a_fatal_alert_of_ours_is_understood),
    cmocka_unit_test(max_fragment_length_goes_with_the_handoff),
    cmocka_unit_test(visitors_get_no_trust_anchor_and_control_links_get_all),
    cmocka_unit_test(the_first_hello_may_be_fed_whole_over_several_records),
    cmocka_unit_test(another_name_than_the_first_is_an_illegal_parameter),
    cmocka_unit_test(another_name_after_hello_retry_request_is_an_illegal_parameter),
    cmocka_unit_test(alpn_follows_our_order_and_needs_an_overlap),
    cmocka_unit_test(a_tls13_only_policy_refuses_tls12),
    cmocka_unit_test(tls12_with_anything_but_ecdhe_and_aead_is_refused),
    cmocka_unit_test(every_suite_that_openssl_may_choose_is_known),
    cmocka_unit_test(tls12_with_each_suite_continues_in_our_record_layer),
    cmocka_unit_test(tls12_ends_and_fails_as_tls13_does),
    cmocka_unit_test(tls12_renegotiation_is_declined_by_a_warning),
    cmocka_unit_test(tls12_nonces_of_ours_follow_openssls),
    cmocka_unit_test(an_alert_takes_the_nonce_behind_openssls),
    cmocka_unit_test(tls12_data_behind_the_visitors_finished_is_handed_off),
    cmocka_unit_test(tls12_without_extended_master_secret_is_refused),
    cmocka_unit_test(tls11_is_refused_for_its_version),
    cmocka_unit_test(an_alert_of_choice_reaches_the_visitor),
    cmocka_unit_test(an_alert_of_choice_reaches_tls12_with_every_suite),
    cmocka_unit_test(an_alert_amid_the_handshake_is_fatal_under_openssls_description),
    cmocka_unit_test(no_take_over_before_the_end_or_with_something_pending),
    cmocka_unit_test(no_ticket_is_sent_and_nothing_is_resumed),
#ifndef SANITIZED
    cmocka_unit_test(secrets_are_gone_when_the_connection_is_freed),
#endif
  };
  if (tls_wipe_on_free_install() != 0) return 1;
  int failed = cmocka_run_group_tests_name("by the key log", tests, make_identity, drop_identity);
  tls_kdf_install();
  if (tls_kdf_query() == NULL) return failed + 1;
  return failed + cmocka_run_group_tests_name("by our key schedule", tests, make_identity, drop_identity);
}
