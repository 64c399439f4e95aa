/* Handshakes in memory between a tls_conn and OpenSSL itself, and what follows from them: the handoff into our own record
   layer, or the TLS 1.2 connection. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include "base/secret.h"
#include "tls/authority.h"
#include "tls/client_hello.h"
#include "tls/sealed.h"
#include "tls/tls_conn.h"

static struct authority *authority;
static struct tls_server *identity;
static const char host[] = "label.r1.example.com";
static const uint8_t http11[] = "\x08http/1.1";

static int make_identity(void **state) {
  (void)state;
  const char *const names[] = {"r1.example.com", "*.r1.example.com"};
  struct err e;
  char *chain, *key;
  authority = authority_make("r1.example.com", &e);
  assert_non_null(authority);
  assert_int_equal(authority_issue(authority, names, 2, 30, &chain, &key, &e), 0);
  identity = tls_server_new(chain, strlen(chain), key, strlen(key), "r1.example.com", &e);
  if (identity == NULL) fail_msg("%s", e.text);
  authority_pem_free(chain);
  authority_pem_free(key);
  return 0;
}

static int drop_identity(void **state) {
  (void)state;
  tls_server_unref(identity);
  authority_free(authority);
  return 0;
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

/* Feeds what the visitor wrote in pieces of at most `piece` bytes, never more than wanted, and hands back the answer. */
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
  static uint8_t record[RECORD_PLAIN_MAX + RECORD_OVERHEAD_BYTES];
  if (sealed_owes(s)) send_owed(s, v);
  memcpy(record + RECORD_HEADER_BYTES, p, n);
  assert_int_equal(sealed_write(s, record, n), 0);
  assert_int_equal(BIO_write(v->in, record, (int)(n + RECORD_OVERHEAD_BYTES)), (int)(n + RECORD_OVERHEAD_BYTES));
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

static void hand_off_with(const char *suite, const char *groups, size_t piece) {
  struct visitor v;
  visitor_open(&v, TLS1_3_VERSION, suite, groups);
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
  hand_off_with("TLS_AES_128_GCM_SHA256", NULL, 20000);
  hand_off_with("TLS_AES_256_GCM_SHA384", NULL, 20000);
  hand_off_with("TLS_CHACHA20_POLY1305_SHA256", NULL, 20000);
}

static void a_handshake_after_hello_retry_request_is_handed_off(void **state) {
  (void)state;
  hand_off_with(NULL, "P-521:P-384", 20000);
  hand_off_with(NULL, "P-521:P-256", 20000);
}

static void a_handshake_fed_byte_by_byte_is_handed_off(void **state) {
  (void)state;
  hand_off_with(NULL, NULL, 1);
  hand_off_with(NULL, "P-521:P-256", 1);
}

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(a_handshake_with_each_suite_continues_in_our_record_layer),
    cmocka_unit_test(a_handshake_after_hello_retry_request_is_handed_off),
    cmocka_unit_test(a_handshake_fed_byte_by_byte_is_handed_off),
  };
  if (tls_wipe_on_free_install() != 0) return 1;
  return cmocka_run_group_tests(tests, make_identity, drop_identity);
}
