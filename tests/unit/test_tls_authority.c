/* The relay's own authority, the certificates under it, and the server identities made of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "tls/authority.h"
#include "tls/tls_server.h"

static const char domain[] = "r1.example.com";
static const char *const own_names[] = {"r1.example.com", "*.r1.example.com"};

static struct authority *make(void) {
  struct err e;
  struct authority *a = authority_make(domain, time(NULL), &e);
  assert_non_null(a);
  return a;
}

static X509 *parse(const char *pem) {
  BIO *bio = BIO_new_mem_buf(pem, -1);
  X509 *cert = PEM_read_bio_X509(bio, NULL, NULL, NULL);
  BIO_free(bio);
  assert_non_null(cert);
  return cert;
}

/* What a client that trusts only this authority says of a leaf for `name`. */
static int verdict(const struct authority *a, const char *name) {
  struct err e;
  char *chain, *key, *ca_pem;
  const char *const names[] = {name};
  assert_int_equal(authority_issue(a, names, 1, 30, time(NULL), &chain, &key, &e), 0);
  assert_int_equal(authority_cert_pem(a, &ca_pem, &e), 0);
  X509 *leaf = parse(chain), *ca = parse(ca_pem);
  X509_STORE *store = X509_STORE_new();
  X509_STORE_CTX *ctx = X509_STORE_CTX_new();
  X509_STORE_add_cert(store, ca);
  X509_STORE_CTX_init(ctx, store, leaf, NULL);
  X509_STORE_CTX_set_purpose(ctx, X509_PURPOSE_SSL_SERVER);
  X509_VERIFY_PARAM_set_flags(X509_STORE_CTX_get0_param(ctx), X509_V_FLAG_X509_STRICT);
  int ok = X509_verify_cert(ctx), error = X509_STORE_CTX_get_error(ctx);
  X509_STORE_CTX_free(ctx);
  X509_STORE_free(store);
  X509_free(leaf);
  X509_free(ca);
  authority_pem_free(chain);
  authority_pem_free(key);
  authority_pem_free(ca_pem);
  return ok == 1 ? X509_V_OK : error;
}

static void its_certificates_hold_within_its_domain_only(void **state) {
  (void)state;
  struct authority *a = make();
  assert_int_equal(verdict(a, "r1.example.com"), X509_V_OK);
  assert_int_equal(verdict(a, "*.r1.example.com"), X509_V_OK);
  assert_int_equal(verdict(a, "label.r1.example.com"), X509_V_OK);
  assert_int_equal(verdict(a, "example.com"), X509_V_ERR_PERMITTED_VIOLATION);
  assert_int_equal(verdict(a, "r2.example.com"), X509_V_ERR_PERMITTED_VIOLATION);
  assert_int_equal(verdict(a, "evilr1.example.com"), X509_V_ERR_PERMITTED_VIOLATION);
  authority_unref(a);
}

static void its_constraints_are_critical_and_its_serials_differ(void **state) {
  (void)state;
  struct err e;
  struct authority *a = make(), *b = make();
  char *pem_a, *pem_b;
  assert_int_equal(authority_cert_pem(a, &pem_a, &e), 0);
  assert_int_equal(authority_cert_pem(b, &pem_b, &e), 0);
  X509 *cert_a = parse(pem_a), *cert_b = parse(pem_b);
  int critical = 0;
  NAME_CONSTRAINTS *constraints = X509_get_ext_d2i(cert_a, NID_name_constraints, &critical, NULL);
  assert_non_null(constraints);
  assert_int_equal(critical, 1);
  assert_int_equal(sk_GENERAL_SUBTREE_num(constraints->excludedSubtrees), 2);
  NAME_CONSTRAINTS_free(constraints);
  BASIC_CONSTRAINTS *basic = X509_get_ext_d2i(cert_a, NID_basic_constraints, &critical, NULL);
  assert_non_null(basic);
  assert_int_equal(critical, 1);
  assert_true(basic->ca != 0);
  BASIC_CONSTRAINTS_free(basic);
  assert_int_not_equal(ASN1_INTEGER_cmp(X509_get0_serialNumber(cert_a), X509_get0_serialNumber(cert_b)), 0);
  X509_free(cert_a);
  X509_free(cert_b);
  authority_pem_free(pem_a);
  authority_pem_free(pem_b);
  authority_unref(a);
  authority_unref(b);
}

static void it_survives_pem_with_the_same_pin(void **state) {
  (void)state;
  struct err e;
  struct authority *a = make(), *other = make();
  char *cert, *key, *other_key;
  uint8_t pin[SHA256_BYTES], again[SHA256_BYTES];
  bool self_signed = false;
  assert_int_equal(authority_cert_pem(a, &cert, &e), 0);
  assert_int_equal(authority_key_pem(a, &key, &e), 0);
  assert_int_equal(authority_key_pem(other, &other_key, &e), 0);
  struct authority *b = authority_from_pem(cert, strlen(cert), key, strlen(key), &e);
  assert_non_null(b);
  assert_int_equal(authority_pin(a, pin), 0);
  assert_int_equal(authority_pin(b, again), 0);
  assert_memory_equal(pin, again, sizeof pin);
  assert_int_equal(authority_pin_of_chain(cert, strlen(cert), again, &self_signed, &e), 0);
  assert_memory_equal(pin, again, sizeof pin);
  assert_true(self_signed);
  assert_null(authority_from_pem(cert, strlen(cert), other_key, strlen(other_key), &e));
  assert_null(authority_from_pem("junk", 4, key, strlen(key), &e));
  assert_null(authority_from_pem(cert, strlen(cert), "junk", 4, &e));
  authority_pem_free(cert);
  authority_pem_free(key);
  authority_pem_free(other_key);
  authority_unref(a);
  authority_unref(b);
  authority_unref(other);
}

static void it_covers_its_own_domain(void **state) {
  (void)state;
  struct authority *a = make();
  assert_true(authority_covers(a, "r1.example.com"));
  assert_true(authority_covers(a, "R1.Example.com"));
  assert_false(authority_covers(a, "example.com"));
  assert_false(authority_covers(a, "x.r1.example.com"));
  authority_unref(a);
}

static void it_is_timely_from_its_beginning_until_it_nears_its_end(void **state) {
  (void)state;
  struct err e;
  const int64_t made_s = 1800000000, day_s = 24 * 3600;
  struct authority *a = authority_make(domain, made_s, &e);
  assert_non_null(a);
  assert_int_equal(authority_not_before(a), made_s - 3600);
  assert_false(authority_is_timely(a, made_s - 3601));
  assert_true(authority_is_timely(a, made_s - 3600));
  assert_true(authority_is_timely(a, made_s + 3561 * day_s));
  assert_false(authority_is_timely(a, made_s + 3562 * day_s));
  authority_unref(a);
}

/* Whoever pins the key, or trusts the certificate before, knows it as the same. */
static void renewed_it_has_its_key_and_name_and_new_times(void **state) {
  (void)state;
  struct err e;
  char *old_pem, *new_pem;
  uint8_t pin[SHA256_BYTES], again[SHA256_BYTES];
  struct authority *a = authority_make(domain, 2400000000, &e), *b = authority_renew(a, 1800000000, &e);
  assert_non_null(b);
  assert_true(authority_is_timely(b, 1800000000));
  assert_false(authority_is_timely(a, 1800000000));
  assert_true(authority_covers(b, domain));
  assert_int_equal(authority_pin(a, pin), 0);
  assert_int_equal(authority_pin(b, again), 0);
  assert_memory_equal(pin, again, sizeof pin);
  assert_int_equal(authority_cert_pem(a, &old_pem, &e), 0);
  assert_int_equal(authority_cert_pem(b, &new_pem, &e), 0);
  X509 *before = parse(old_pem), *after = parse(new_pem);
  assert_int_equal(X509_NAME_cmp(X509_get_subject_name(before), X509_get_subject_name(after)), 0);
  assert_int_not_equal(ASN1_INTEGER_cmp(X509_get0_serialNumber(before), X509_get0_serialNumber(after)), 0);
  assert_int_equal(X509_self_signed(after, 1), 1);
  X509_free(before);
  X509_free(after);
  authority_pem_free(old_pem);
  authority_pem_free(new_pem);
  authority_unref(a);
  authority_unref(b);
}

static void names_that_are_no_names_are_refused(void **state) {
  (void)state;
  struct err e;
  char *chain, *key;
  const char *const smuggled[] = {"a.r1.example.com,IP:1.2.3.4"};
  assert_null(authority_make("r1.example.com,permitted;DNS:com", time(NULL), &e));
  assert_null(authority_make("", time(NULL), &e));
  struct authority *a = make();
  assert_true(authority_issue(a, smuggled, 1, 30, time(NULL), &chain, &key, &e) < 0);
  assert_null(chain);
  assert_null(key);
  assert_true(authority_issue(a, smuggled, 0, 30, time(NULL), &chain, &key, &e) < 0);
  authority_unref(a);
}

static void a_name_too_long_for_a_common_name_is_issued(void **state) {
  (void)state;
  struct err e;
  const char longest[] = "a123456789012345678901234567890123456789.b123456789012345678901234567890.r1.example.com";
  struct authority *a = authority_make(domain, time(NULL), &e);
  assert_int_equal(verdict(a, longest), X509_V_OK);
  authority_unref(a);
}

static void a_server_identity_is_checked_when_it_is_made(void **state) {
  (void)state;
  struct err e;
  struct authority *a = make();
  char *chain, *key, *other_chain, *other_key;
  assert_int_equal(authority_issue(a, own_names, 2, 30, time(NULL), &chain, &key, &e), 0);
  assert_int_equal(authority_issue(a, own_names, 1, 30, time(NULL), &other_chain, &other_key, &e), 0);
  struct tls_server *s = tls_server_new(chain, strlen(chain), key, strlen(key), domain, &e);
  assert_non_null(s);
  int64_t left = tls_server_not_after(s) - (int64_t)time(NULL);
  assert_true(left > 29 * 86400 && left <= 30 * 86400);
  tls_server_unref(tls_server_ref(s));
  tls_server_unref(s);
  assert_null(tls_server_new(chain, strlen(chain), key, strlen(key), "r2.example.com", &e));
  assert_non_null(strstr(e.text, "does not cover r2.example.com"));
  assert_null(tls_server_new(other_chain, strlen(other_chain), other_key, strlen(other_key), domain, &e));
  assert_non_null(strstr(e.text, "does not cover *.r1.example.com"));
  assert_null(tls_server_new(chain, strlen(chain), other_key, strlen(other_key), domain, &e));
  assert_non_null(strstr(e.text, "private key"));
  assert_null(tls_server_new("", 0, key, strlen(key), domain, &e));
  assert_null(tls_server_new(chain, strlen(chain) / 4, key, strlen(key), domain, &e));
  assert_null(tls_server_new(chain, strlen(chain), "", 0, domain, &e));
  tls_server_unref(NULL);
  authority_pem_free(chain);
  authority_pem_free(key);
  authority_pem_free(other_chain);
  authority_pem_free(other_key);
  authority_unref(a);
}

static void a_key_with_a_passphrase_is_refused_without_asking_for_it(void **state) {
  (void)state;
  struct err e;
  struct authority *a = make();
  char *chain, *plain_key, *data, phrase[] = "secret";
  assert_int_equal(authority_issue(a, own_names, 2, 30, time(NULL), &chain, &plain_key, &e), 0);
  EVP_PKEY *key = EVP_EC_gen("P-256");
  BIO *bio = BIO_new(BIO_s_mem());
  assert_int_equal(PEM_write_bio_PKCS8PrivateKey(bio, key, EVP_aes_128_cbc(), phrase, (int)strlen(phrase), NULL, NULL),
                   1);
  long n = BIO_get_mem_data(bio, &data);
  assert_null(tls_server_new(chain, strlen(chain), data, (size_t)n, domain, &e));
  assert_non_null(strstr(e.text, "passphrase"));
  BIO_free(bio);
  EVP_PKEY_free(key);
  authority_pem_free(chain);
  authority_pem_free(plain_key);
  authority_unref(a);
}

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(its_certificates_hold_within_its_domain_only),
    cmocka_unit_test(its_constraints_are_critical_and_its_serials_differ),
    cmocka_unit_test(it_survives_pem_with_the_same_pin),
    cmocka_unit_test(it_covers_its_own_domain),
    cmocka_unit_test(it_is_timely_from_its_beginning_until_it_nears_its_end),
    cmocka_unit_test(renewed_it_has_its_key_and_name_and_new_times),
    cmocka_unit_test(names_that_are_no_names_are_refused),
    cmocka_unit_test(a_name_too_long_for_a_common_name_is_issued),
    cmocka_unit_test(a_server_identity_is_checked_when_it_is_made),
    cmocka_unit_test(a_key_with_a_passphrase_is_refused_without_asking_for_it),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
