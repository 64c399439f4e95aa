/* A visitor's handshake and handoff when memory fails the relay: each allocation in turn, from the ClientHello on.
   Whatever becomes of it, the visitor gets no record that it cannot read: it is served, or told by an alert, or the
   connection just ends. */
#include <limits.h>
#include <string.h>
#include <time.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "seam_memory.h"

#include "base/secret.h"
#include "tls/authority.h"
#include "tls/sealed.h"
#include "tls/tls_conn.h"

enum end { SERVED, TOLD, LEFT, ENDS };

static struct tls_server *identity;
static const char host[] = "label.r1.example.com";
static int version;
static const char *groups;
static bool refuses;               /* the relay refuses the visitor after the handshake */
static unsigned ends[ENDS];        /* how many visitors had which end */

static int make_identity(void **state) {
  (void)state;
  const char *const names[] = {"r1.example.com", "*.r1.example.com"};
  struct err e;
  char *chain, *key;
  struct authority *authority = authority_make("r1.example.com", time(NULL), &e);
  assert_non_null(authority);
  assert_int_equal(authority_issue(authority, names, 2, 30, time(NULL), &chain, &key, &e), 0);
  identity = tls_server_new(chain, strlen(chain), key, strlen(key), "r1.example.com", &e);
  assert_non_null(identity);
  authority_pem_free(chain);
  authority_pem_free(key);
  authority_unref(authority);
  return 0;
}

static int drop_identity(void **state) {
  (void)state;
  tls_server_unref(identity);
  return 0;
}

/* A visitor: OpenSSL's client over memory. Its own allocations never fail. */
struct visitor {
  SSL_CTX *ctx;
  SSL *ssl;
  BIO *in, *out;
};

static void visitor_open(struct visitor *v) {
  char name[sizeof host];
  memcpy(name, host, sizeof host);
  v->ctx = SSL_CTX_new(TLS_client_method());
  SSL_CTX_set_min_proto_version(v->ctx, version);
  SSL_CTX_set_max_proto_version(v->ctx, version);
  assert_int_equal(SSL_CTX_set1_groups_list(v->ctx, (char *)(uintptr_t)groups), 1);
  v->ssl = SSL_new(v->ctx);
  v->in = BIO_new(BIO_s_mem());
  v->out = BIO_new(BIO_s_mem());
  BIO_set_mem_eof_return(v->in, -1);
  SSL_set_bio(v->ssl, v->in, v->out);
  SSL_set_connect_state(v->ssl);
  SSL_set_tlsext_host_name(v->ssl, name);
}

static void visitor_close(struct visitor *v) {
  SSL_free(v->ssl);
  SSL_CTX_free(v->ctx);
  ERR_clear_error();
}

/* What the visitor makes of all that it was sent. */
static enum end visitor_end(struct visitor *v, const char *text) {
  char got[16] = "";
  ERR_clear_error();
  int rc = SSL_is_init_finished(v->ssl) ? 1 : SSL_do_handshake(v->ssl);
  if (rc == 1) rc = SSL_read(v->ssl, got, sizeof got - 1);
  if (rc > 0) {
    assert_string_equal(got, text);
    return SERVED;
  }
  if (SSL_get_error(v->ssl, rc) == SSL_ERROR_WANT_READ) return LEFT;
  unsigned long error = ERR_peek_error();
  if (ERR_GET_REASON(error) >= SSL_AD_REASON_OFFSET) return TOLD;
  fail_msg("allocation %u: the visitor cannot read what it got: %s", until_failure, ERR_reason_error_string(error));
  return ENDS;
}

static void to_visitor(struct visitor *v, struct tls_conn *t) {
  size_t n;
  const uint8_t *p = tls_conn_output(t, &n);
  if (n > 0) assert_int_equal(BIO_write(v->in, p, (int)n), (int)n);
  tls_conn_output_sent(t, n);
}

static enum tls_status shake_hands(struct visitor *v, struct tls_conn *t) {
  enum tls_status status = TLS_GOING_ON;
  uint8_t bytes[4096];
  struct err e;
  for (int turn = 0; turn < 10 && status == TLS_GOING_ON; turn++) {
    SSL_do_handshake(v->ssl);
    while (status == TLS_GOING_ON && BIO_ctrl_pending(v->out) > 0) {
      int n = BIO_read(v->out, bytes, (int)size_min(sizeof bytes, tls_conn_want(t)));
      armed = true;
      status = tls_conn_feed(t, bytes, (size_t)n, &e);
      armed = false;
    }
    to_visitor(v, t);
  }
  assert_int_not_equal(status, TLS_GOING_ON);
  return status;
}

/* What the agent does with what it was handed. */
static void say_as_agent(struct visitor *v, const struct tls_takeover *k, const char *text) {
  uint8_t record[64];
  struct sealed *s = sealed_new(&(struct sealed_params){.suite = tls_suite_find(k->suite),
                                                        .read_secret = k->client_secret,
                                                        .write_secret = k->server_secret,
                                                        .write_sequence = k->server_sequence});
  assert_non_null(s);
  memcpy(record + sealed_lead(s), text, strlen(text));
  assert_int_equal(sealed_write(s, record, strlen(text)), 0);
  int n = (int)(strlen(text) + sealed_overhead(s));
  assert_int_equal(BIO_write(v->in, record, n), n);
  sealed_free(s);
}

static void serve(struct visitor *v, struct tls_conn *t, const char *text) {
  struct tls_takeover k;
  armed = true;
  int rc = refuses ? ERR_NOT_NOW : tls_conn_take_over(t, &k);
  if (rc != 0) tls_conn_alert(t, ALERT_INTERNAL_ERROR);
  armed = false;
  if (rc == 0) say_as_agent(v, &k, text);
  else to_visitor(v, t);
}

static void scenario(void) {
  const struct tls_server_policy policy = {.host = host, .alpn = (const uint8_t *)"\x08http/1.1", .alpn_n = 9};
  struct visitor v;
  struct err e;
  visitor_open(&v);
  armed = true;
  struct tls_conn *t = tls_conn_server(identity, &policy, &e);
  armed = false;
  if (t != NULL && shake_hands(&v, t) == TLS_DONE) serve(&v, t, "welcome");
  enum end end = visitor_end(&v, "welcome");
  if (!failed) assert_int_equal(end, refuses ? TOLD : SERVED);
  ends[end]++;
  tls_conn_free(t);
  visitor_close(&v);
}

static void fail_each(int with_version, const char *with_groups, bool and_refuse) {
  version = with_version;
  groups = with_groups;
  refuses = and_refuse;
  memset(ends, 0, sizeof ends);
  failed = false;
  until_failure = UINT_MAX;
  scenario();                      /* OpenSSL's one-time allocations, so that they do not fail instead */
  fail_each_allocation(scenario);
  print_message("served %u, told by an alert %u, left without a word %u\n", ends[SERVED], ends[TOLD], ends[LEFT]);
  assert_true(ends[TOLD] > 10 * ends[LEFT]);
}

static void a_tls13_visitor_can_read_whatever_it_gets(void **state) {
  (void)state;
  fail_each(TLS1_3_VERSION, "X25519", false);
}

static void a_visitor_of_two_hellos_can_read_whatever_it_gets(void **state) {
  (void)state;
  fail_each(TLS1_3_VERSION, "P-521:P-256", false);
}

static void a_tls12_visitor_can_read_whatever_it_gets(void **state) {
  (void)state;
  fail_each(TLS1_2_VERSION, "X25519:P-256", false);
}

static void a_visitor_who_is_refused_can_read_whatever_it_gets(void **state) {
  (void)state;
  fail_each(TLS1_3_VERSION, "X25519", true);
  fail_each(TLS1_2_VERSION, "X25519:P-256", true);
}

int main(void) {
  if (!seam_memory_install()) return 1;
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(a_tls13_visitor_can_read_whatever_it_gets),
    cmocka_unit_test(a_visitor_of_two_hellos_can_read_whatever_it_gets),
    cmocka_unit_test(a_tls12_visitor_can_read_whatever_it_gets),
    cmocka_unit_test(a_visitor_who_is_refused_can_read_whatever_it_gets),
  };
  return cmocka_run_group_tests(tests, make_identity, drop_identity);
}
