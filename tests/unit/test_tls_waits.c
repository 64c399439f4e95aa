/* Handshakes whose signature is elsewhere and takes its time. */
#include "cm.h"

#include <string.h>
#include <time.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "base/fibre.h"
#include "tls/authority.h"
#include "tls/record.h"
#include "tls/remote_key.h"
#include "tls/tls_conn.h"

enum { VISITORS = 5 };
static const char host[] = "label.r1.example.com";
static struct tls_server *holder, *server;       /* where the key is, and where it is not */
static struct fibres *fibres;
static int refuses;                /* code of all signatures from now on */
static bool is_cancelled;

/* Whoever holds the key answers when it is told to. */
static int sign(void *user, uint64_t handle, const struct sign_scheme *scheme, const uint8_t *text, size_t text_n,
                uint8_t *signature, size_t *n) {
  (void)user;
  assert_int_equal(handle, 7);
  if (fibre_current() != NULL && !fibre_pause()) {
    is_cancelled = true;
    return ERR_CLOSED;
  }
  return refuses != 0 ? refuses : tls_server_sign(holder, scheme, text, text_n, signature, n);
}

static void drop(void *user, uint64_t handle) { (void)user, (void)handle; }

static const struct remote_key where = {.sign = sign, .drop = drop};

static int set_up(void **state) {
  (void)state;
  const char *const names[] = {"r1.example.com", "*.r1.example.com"};
  struct err e;
  char *chain, *key;
  assert_int_equal(remote_key_install(&e), 0);
  struct authority *authority = authority_make("r1.example.com", time(NULL), &e);
  assert_non_null(authority);
  assert_int_equal(authority_issue(authority, names, 2, 30, time(NULL), &chain, &key, &e), 0);
  holder = tls_server_new(chain, strlen(chain), key, strlen(key), "r1.example.com", &e);
  server = tls_server_new_remote(chain, strlen(chain), &where, 7, &e);
  fibres = fibres_new();
  authority_pem_free(chain);
  authority_pem_free(key);
  authority_unref(authority);
  return holder == NULL || server == NULL || fibres == NULL ? -1 : 0;
}

static int tear_down(void **state) {
  (void)state;
  tls_server_unref(server);
  tls_server_unref(holder);
  fibres_free(fibres);
  return 0;
}

struct visit {                     /* a visitor, and the relay's side of him */
  SSL_CTX *ctx;
  SSL *ssl;
  BIO *in, *out;
  struct tls_conn *conn;
  struct tls_waiter waiter;
  unsigned told;
  enum tls_status status;
};

static void is_ready(struct tls_waiter *w) { CONTAINER_OF(w, struct visit, waiter)->told++; }

static void visit_open(struct visit *v, int version, const char *groups) {
  char name[sizeof host], list[32];
  struct err e;
  memset(v, 0, sizeof *v);
  memcpy(name, host, sizeof host);
  (void)strcpy(list, groups);
  v->ctx = SSL_CTX_new(TLS_client_method());
  SSL_CTX_set_min_proto_version(v->ctx, version);
  SSL_CTX_set_max_proto_version(v->ctx, version);
  assert_int_equal(SSL_CTX_set1_groups_list(v->ctx, list), 1);
  v->ssl = SSL_new(v->ctx);
  v->in = BIO_new(BIO_s_mem());
  v->out = BIO_new(BIO_s_mem());
  BIO_set_mem_eof_return(v->in, -1);
  SSL_set_bio(v->ssl, v->in, v->out);
  SSL_set_connect_state(v->ssl);
  SSL_set_tlsext_host_name(v->ssl, name);
  v->waiter.ready = is_ready;
  const struct tls_server_policy policy = {.host = host, .fibres = fibres, .waiter = &v->waiter};
  v->conn = tls_conn_server(server, &policy, &e);
  assert_non_null(v->conn);
}

static void visit_close(struct visit *v) {
  tls_conn_free(v->conn);
  SSL_free(v->ssl);
  SSL_CTX_free(v->ctx);
  ERR_clear_error();
}

static void to_visitor(struct visit *v) {
  size_t n;
  const uint8_t *p = tls_conn_output(v->conn, &n);
  if (n > 0) assert_int_equal(BIO_write(v->in, p, (int)n), (int)n);
  tls_conn_output_sent(v->conn, n);
}

/* Until the relay's side waits, is done or has failed. */
static void shake_hands(struct visit *v) {
  uint8_t bytes[4096];
  struct err e;
  for (int turn = 0; turn < 10 && v->status == TLS_GOING_ON; turn++) {
    ERR_clear_error();
    (void)SSL_do_handshake(v->ssl);
    while (v->status == TLS_GOING_ON && BIO_ctrl_pending(v->out) > 0) {
      int n = BIO_read(v->out, bytes, (int)size_min(sizeof bytes, tls_conn_want(v->conn)));
      v->status = tls_conn_feed(v->conn, bytes, (size_t)n, &e);
    }
    to_visitor(v);
  }
}

static void go_on(struct visit *v) {
  struct err e;
  assert_int_equal(v->status, TLS_WAITS);
  v->status = tls_conn_feed(v->conn, NULL, 0, &e);
  to_visitor(v);
  shake_hands(v);
}

static void assert_served(struct visit *v) {
  struct tls_takeover k;
  assert_int_equal(v->status, TLS_DONE);
  assert_int_equal(SSL_is_init_finished(v->ssl) || SSL_do_handshake(v->ssl) == 1, true);
  assert_int_equal(tls_conn_take_over(v->conn, &k), 0);
}

/* Many wait at a time, and are signed for in another order. */
static void serve_many(int version, const char *groups) {
  struct visit visits[VISITORS];
  for (int i = 0; i < VISITORS; i++) {
    visit_open(&visits[i], version, groups);
    shake_hands(&visits[i]);
    assert_int_equal(visits[i].status, TLS_WAITS);
  }
  for (int i = VISITORS - 1; i >= 0; i--) {
    go_on(&visits[i]);
    assert_served(&visits[i]);
  }
  for (int i = 0; i < VISITORS; i++) visit_close(&visits[i]);
}

static void visitors_of_tls13_wait_and_are_served(void **state) {
  (void)state;
  serve_many(TLS1_3_VERSION, "X25519");
}

static void so_do_those_of_tls12(void **state) {
  (void)state;
  serve_many(TLS1_2_VERSION, "X25519:P-256");
}

static void so_do_those_who_must_say_hello_twice(void **state) {
  (void)state;
  serve_many(TLS1_3_VERSION, "P-521:P-256");
}

static void without_fibres_the_call_waits(void **state) {
  struct visit v;
  struct err e;
  (void)state;
  visit_open(&v, TLS1_3_VERSION, "X25519");
  tls_conn_free(v.conn);
  v.conn = tls_conn_server(server, &(struct tls_server_policy){.host = host}, &e);
  shake_hands(&v);
  assert_served(&v);
  visit_close(&v);
}

static void one_that_is_not_signed_for_is_told_in_an_alert_that_it_can_read(void **state) {
  static const int versions[] = {TLS1_3_VERSION, TLS1_2_VERSION};
  struct visit v;
  (void)state;
  for (size_t i = 0; i < ARRAY_LEN(versions); i++) {
    visit_open(&v, versions[i], "X25519:P-256");
    shake_hands(&v);
    refuses = ERR_TIMEOUT;
    go_on(&v);
    refuses = 0;
    assert_int_equal(v.status, TLS_FAILED);
    ERR_clear_error();
    assert_int_equal(SSL_do_handshake(v.ssl), -1);
    assert_int_equal(ERR_GET_REASON(ERR_peek_error()), SSL_AD_REASON_OFFSET + ALERT_INTERNAL_ERROR);
    visit_close(&v);
  }
}

static void one_that_leaves_meanwhile_leaves_nothing_behind(void **state) {
  struct visit v;
  (void)state;
  visit_open(&v, TLS1_3_VERSION, "X25519");
  shake_hands(&v);
  assert_int_equal(v.status, TLS_WAITS);
  is_cancelled = false;
  ERR_clear_error();
  tls_conn_free(v.conn);
  v.conn = NULL;
  assert_true(is_cancelled);
  assert_int_equal(ERR_peek_error(), 0);
  visit_close(&v);
  serve_many(TLS1_3_VERSION, "X25519");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(visitors_of_tls13_wait_and_are_served),
      cmocka_unit_test(so_do_those_of_tls12),
      cmocka_unit_test(so_do_those_who_must_say_hello_twice),
      cmocka_unit_test(without_fibres_the_call_waits),
      cmocka_unit_test(one_that_is_not_signed_for_is_told_in_an_alert_that_it_can_read),
      cmocka_unit_test(one_that_leaves_meanwhile_leaves_nothing_behind)};
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
