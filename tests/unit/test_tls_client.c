/* An agent's handshake with a relay, both of them ours: whom the agent trusts, what it says when it does not, and the
   take-over of both ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "tls/authority.h"
#include "tls/sealed.h"
#include "tls/tls_conn.h"

static const char domain[] = "r1.example.com";
static const uint8_t link_alpn[] = "\x06" "adit/1";
static struct authority *authority;
static struct pin pin;

static int make_authority(void **state) {
  (void)state;
  struct err e;
  authority = authority_make(domain, time(NULL), &e);
  pin.kind = PIN_SPKI_SHA256;
  return authority == NULL ? -1 : authority_pin(authority, pin.spki_sha256);
}

static int drop_authority(void **state) {
  (void)state;
  authority_unref(authority);
  return 0;
}

static struct tls_server *identity_for(const struct authority *a, int days) {
  const char *const names[] = {"r1.example.com", "*.r1.example.com"};
  struct err e;
  char *chain, *key;
  assert_int_equal(authority_issue(a, names, 2, days, time(NULL), &chain, &key, &e), 0);
  struct tls_server *s = tls_server_new(chain, strlen(chain), key, strlen(key), NULL, &e);
  assert_non_null(s);
  authority_pem_free(chain);
  authority_pem_free(key);
  return s;
}

static void move(struct tls_conn *from, struct tls_conn *to, enum tls_status *status, struct err *e) {
  size_t n, at = 0;
  const uint8_t *p = tls_conn_output(from, &n);
  while (at < n && *status == TLS_GOING_ON) {
    size_t take = size_min(n - at, tls_conn_want(to));
    *status = tls_conn_feed(to, p + at, take, e);
    at += take;
  }
  tls_conn_output_sent(from, n);
}

struct ends {
  struct tls_client *shared;
  struct tls_conn *agent, *relay;
  enum tls_status agent_status, relay_status;
  struct err agent_error, relay_error;
};

static void shake_hands(struct ends *x, struct tls_server *identity, const char *host, const struct pin *p,
                        const char *ca,
                        const uint8_t *alpn, size_t alpn_n) {
  const struct tls_server_policy policy = {.alpn = alpn, .alpn_n = alpn_n, .tls13_only = true, .wants_exporter = true,
    .whole_chain = true};
  memset(x, 0, sizeof *x);
  x->shared = tls_client_new(ca, &x->agent_error);
  assert_non_null(x->shared);
  x->agent = tls_conn_client(x->shared, host, p, "adit/1", &x->agent_error);
  x->relay = tls_conn_server(identity, &policy, &x->relay_error);
  assert_non_null(x->relay);
  if (x->agent == NULL) {
    x->agent_status = TLS_FAILED;
    return;
  }
  x->agent_status = tls_conn_feed(x->agent, NULL, 0, &x->agent_error);
  for (int i = 0; i < 5; i++) {
    move(x->agent, x->relay, &x->relay_status, &x->relay_error);
    move(x->relay, x->agent, &x->agent_status, &x->agent_error);
  }
}

static void part(struct ends *x) {
  tls_conn_free(x->agent);
  tls_conn_free(x->relay);
  tls_client_free(x->shared);
}

static struct sealed *end_of(const struct tls_takeover *k, bool client) {
  const struct sealed_params p = {
    .suite = tls_suite_find(k->suite), .read_secret = client ? k->server_secret : k->client_secret,
    .write_secret = client ? k->client_secret : k->server_secret};
  struct sealed *s = sealed_new(&p);
  assert_non_null(s);
  return s;
}

static void carry(struct sealed *from, struct sealed *to, const char *text) {
  uint8_t record[200], *plain;
  size_t consumed, n;
  memcpy(record + RECORD_HEADER_BYTES, text, strlen(text));
  assert_int_equal(sealed_write(from, record, strlen(text)), 0);
  assert_int_equal(sealed_read(to, record, sizeof record, &consumed, &plain, &n), SEALED_DATA);
  assert_int_equal(n, strlen(text));
  assert_memory_equal(plain, text, n);
}

static void both_ends_take_over_with_one_exporter(void **state) {
  (void)state;
  struct tls_server *identity = identity_for(authority, 30);
  struct ends x;
  struct tls_takeover a, r;
  size_t n;
  shake_hands(&x, identity, domain, &pin, NULL, link_alpn, sizeof link_alpn - 1);
  if (x.agent_status == TLS_FAILED) fail_msg("%s", x.agent_error.text);
  assert_int_equal(x.agent_status, TLS_DONE);
  assert_int_equal(x.relay_status, TLS_DONE);
  assert_memory_equal(tls_conn_alpn(x.relay, &n), "adit/1", 6);
  assert_int_equal(tls_conn_take_over(x.agent, &a), 0);
  assert_int_equal(tls_conn_take_over(x.relay, &r), 0);
  assert_memory_equal(a.exporter, r.exporter, sizeof a.exporter);
  assert_memory_equal(a.client_secret, r.client_secret, a.secret_n);
  assert_memory_equal(a.server_secret, r.server_secret, a.secret_n);
  assert_memory_not_equal(a.server_secret, a.client_secret, a.secret_n);
  part(&x);
  struct sealed *agent = end_of(&a, true), *relay = end_of(&r, false);
  carry(agent, relay, "hello, relay");
  carry(relay, agent, "hello, agent");
  sealed_free(agent);
  sealed_free(relay);
  tls_server_unref(identity);
}

static void expect_distrust(struct tls_server *identity, const char *host, const struct pin *p, const char *ca,
                            const char *text) {
  struct ends x;
  shake_hands(&x, identity, host, p, ca, link_alpn, sizeof link_alpn - 1);
  assert_int_equal(x.agent_status, TLS_FAILED);
  assert_int_not_equal(x.relay_status, TLS_DONE);
  if (strstr(x.agent_error.text, text) == NULL) fail_msg("%s", x.agent_error.text);
  assert_true(x.agent_error.code == ERR_AUTH || x.agent == NULL);
  part(&x);
}

static void a_certificate_without_the_pinned_key_is_not_trusted(void **state) {
  (void)state;
  struct err e;
  struct authority *other = authority_make(domain, time(NULL), &e);
  struct tls_server *identity = identity_for(other, 30);
  expect_distrust(identity, domain, &pin, NULL, "does not match the token's pin");
  tls_server_unref(identity);
  authority_unref(other);
}

static void a_certificate_for_another_name_is_not_trusted(void **state) {
  (void)state;
  struct tls_server *identity = identity_for(authority, 30);
  expect_distrust(identity, "r2.example.com", &pin, NULL, "for another name");
  expect_distrust(identity, "127.0.0.1", &pin, NULL, "for another name");
  tls_server_unref(identity);
}

static void an_expired_certificate_is_not_trusted(void **state) {
  (void)state;
  struct tls_server *identity = identity_for(authority, -1);
  expect_distrust(identity, domain, &pin, NULL, "has expired");
  tls_server_unref(identity);
}

/* Whose clock is wrong, the agent cannot know. */
static void a_certificate_from_the_future_is_not_trusted(void **state) {
  (void)state;
  struct err e;
  struct pin future_pin = {.kind = PIN_SPKI_SHA256};
  struct authority *future = authority_make(domain, time(NULL) + 2 * 24 * 3600, &e);
  assert_int_equal(authority_pin(future, future_pin.spki_sha256), 0);
  struct tls_server *identity = identity_for(future, 30);
  expect_distrust(identity, domain, &future_pin, NULL,
                  "not valid yet (this machine's clock is wrong, or the relay's is)");
  tls_server_unref(identity);
  authority_unref(future);
}

static void an_unknown_authority_is_not_trusted(void **state) {
  (void)state;
  const struct pin public_pin = {.kind = PIN_PUBLIC_AUTHORITIES};
  struct tls_server *identity = identity_for(authority, 30);
  expect_distrust(identity, domain, &public_pin, NULL, "unknown authority");
  tls_server_unref(identity);
}

static void a_file_of_authorities_takes_the_place_of_the_systems(void **state) {
  (void)state;
  const struct pin public_pin = {.kind = PIN_PUBLIC_AUTHORITIES};
  struct tls_server *identity = identity_for(authority, 30);
  struct err e;
  struct ends x;
  char *pem, path[] = "/tmp/test_tls_client_XXXXXX";
  int fd = mkstemp(path);
  assert_true(fd >= 0);
  assert_int_equal(authority_cert_pem(authority, &pem, &e), 0);
  assert_int_equal(write(fd, pem, strlen(pem)), strlen(pem));
  close(fd);
  shake_hands(&x, identity, domain, &public_pin, path, link_alpn, sizeof link_alpn - 1);
  assert_int_equal(x.agent_status, TLS_DONE);
  part(&x);
  unlink(path);
  assert_null(tls_client_new(path, &e));         /* a file that is not there is noticed before any connection */
  assert_non_null(strstr(e.text, path));
  authority_pem_free(pem);
  tls_server_unref(identity);
}

static void a_pin_of_the_leaf_itself_is_enough(void **state) {
  (void)state;
  const char *const names[] = {"r1.example.com"};
  struct err e;
  char *chain, *key;
  bool self_signed;
  struct pin leaf_pin = {.kind = PIN_SPKI_SHA256};
  struct ends x;
  assert_int_equal(authority_issue(authority, names, 1, 30, time(NULL), &chain, &key, &e), 0);
  const char *leaf_end = strstr(chain, "-----END CERTIFICATE-----\n") + 26;
  assert_int_equal(authority_pin_of_chain(chain, (size_t)(leaf_end - chain), leaf_pin.spki_sha256, &self_signed, &e),
                   0);
  assert_false(self_signed);
  struct tls_server *identity = tls_server_new(chain, strlen(chain), key, strlen(key), NULL, &e);
  shake_hands(&x, identity, domain, &leaf_pin, NULL, link_alpn, sizeof link_alpn - 1);
  if (x.agent_status == TLS_FAILED) fail_msg("%s", x.agent_error.text);
  part(&x);
  tls_server_unref(identity);
  authority_pem_free(chain);
  authority_pem_free(key);
}

static void a_server_that_selects_no_link_protocol_is_refused(void **state) {
  (void)state;
  struct tls_server *identity = identity_for(authority, 30);
  struct ends x;
  shake_hands(&x, identity, domain, &pin, NULL, (const uint8_t *)"\x02h2", 3);
  assert_int_equal(x.agent_status, TLS_FAILED);
  assert_int_equal(x.agent_error.code, ERR_CLOSED);
  part(&x);
  tls_server_unref(identity);
}

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(both_ends_take_over_with_one_exporter),
    cmocka_unit_test(a_certificate_without_the_pinned_key_is_not_trusted),
    cmocka_unit_test(a_certificate_for_another_name_is_not_trusted),
    cmocka_unit_test(an_expired_certificate_is_not_trusted),
    cmocka_unit_test(a_certificate_from_the_future_is_not_trusted),
    cmocka_unit_test(an_unknown_authority_is_not_trusted),
    cmocka_unit_test(a_file_of_authorities_takes_the_place_of_the_systems),
    cmocka_unit_test(a_pin_of_the_leaf_itself_is_enough),
    cmocka_unit_test(a_server_that_selects_no_link_protocol_is_refused),
  };
  return cmocka_run_group_tests(tests, make_authority, drop_authority);
}
