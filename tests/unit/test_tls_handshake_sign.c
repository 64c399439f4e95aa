/* The key signs handshakes, and nothing that is none. */
#include "cm.h"

#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <string.h>

#include "base/err.h"
#include "tls/handshake_sign.h"

enum { TLS13_N = 64 + 34 + 32, TLS12_N = 64 + 4 + 32 };

static void fill_tls13(uint8_t text[TLS13_N]) {
  memset(text, ' ', 64);
  memcpy(text + 64, "TLS 1.3, server CertificateVerify", 34);
  memset(text + 98, 7, 32);
}

static void fill_tls12(uint8_t text[TLS12_N]) {
  memset(text, 9, TLS12_N);
  memcpy(text + 64, "\x03\x00\x1d\x20", 4);
}

/* ServerKeyExchange with a key of P-256, as it comes from EVP. */
static size_t fill_tls12_p256(uint8_t *text) {
  EVP_PKEY *key = EVP_EC_gen("P-256");
  size_t n = 0;
  memset(text, 9, 64);
  memcpy(text + 64, "\x03\x00\x17\x41", 4);
  assert_int_equal(EVP_PKEY_get_octet_string_param(key, "encoded-pub-key", text + 68, 65, &n), 1);
  EVP_PKEY_free(key);
  return 68 + n;
}

static int sign(EVP_PKEY *key, enum sign_hash hash, enum sign_padding padding, const uint8_t *text, size_t n) {
  uint8_t signature[SIGNATURE_MAX_BYTES];
  size_t signature_n = sizeof signature;
  return sign_handshake(key, &(struct sign_scheme){hash, padding}, text, n, signature, &signature_n);
}

static void handshakes_of_both_versions_are_signed(void **unused) {
  (void)unused;
  uint8_t one[TLS13_N], other[TLS12_N];
  EVP_PKEY *ec = EVP_EC_gen("P-256"), *rsa = EVP_RSA_gen(2048);
  fill_tls13(one);
  fill_tls12(other);
  assert_int_equal(sign(ec, SIGN_SHA256, SIGN_NO_PADDING, one, sizeof one), 0);
  assert_int_equal(sign(ec, SIGN_SHA256, SIGN_NO_PADDING, other, sizeof other), 0);
  assert_int_equal(sign(rsa, SIGN_SHA256, SIGN_PSS, one, sizeof one), 0);
  assert_int_equal(sign(rsa, SIGN_SHA384, SIGN_PKCS1, other, sizeof other), 0);
  EVP_PKEY_free(rsa);
  EVP_PKEY_free(ec);
}

static void everything_else_is_refused(void **unused) {
  (void)unused;
  uint8_t text[SIGN_TEXT_MAX_BYTES] = "a certificate of an attacker's own";
  EVP_PKEY *key = EVP_EC_gen("P-256");
  assert_int_equal(sign(key, SIGN_SHA256, SIGN_NO_PADDING, text, sizeof text), ERR_USAGE);
  assert_int_equal(sign(key, SIGN_SHA256, SIGN_NO_PADDING, text, 32), ERR_USAGE);
  assert_int_equal(sign(key, SIGN_SHA256, SIGN_NO_PADDING, text, 0), ERR_USAGE);
  fill_tls13(text);
  text[80] = 'c';                  /* a client's, say */
  assert_int_equal(sign(key, SIGN_SHA256, SIGN_NO_PADDING, text, TLS13_N), ERR_USAGE);
  fill_tls13(text);
  assert_int_equal(sign(key, SIGN_SHA256, SIGN_NO_PADDING, text, TLS13_N - 1), ERR_USAGE);
  fill_tls12(text);
  text[64] = 1;                    /* an explicit curve */
  assert_int_equal(sign(key, SIGN_SHA256, SIGN_NO_PADDING, text, TLS12_N), ERR_USAGE);
  fill_tls12(text);
  assert_int_equal(sign(key, SIGN_SHA256, SIGN_NO_PADDING, text, TLS12_N + 1), ERR_USAGE);
  EVP_PKEY_free(key);
}

static void a_key_exchange_of_another_group_or_with_no_point_of_its_curve_is_refused(void **unused) {
  (void)unused;
  uint8_t text[SIGN_TEXT_MAX_BYTES];
  EVP_PKEY *key = EVP_EC_gen("P-256");
  size_t n = fill_tls12_p256(text);
  assert_int_equal(n, 133);
  assert_int_equal(sign(key, SIGN_SHA256, SIGN_NO_PADDING, text, n), 0);
  text[n - 1] ^= 1;
  assert_int_equal(sign(key, SIGN_SHA256, SIGN_NO_PADDING, text, n), ERR_USAGE);
  text[n - 1] ^= 1;
  text[66] = 24;                   /* its length is P-256's */
  assert_int_equal(sign(key, SIGN_SHA256, SIGN_NO_PADDING, text, n), ERR_USAGE);
  memset(text, 9, sizeof text);
  memcpy(text + 64, "\x03\x00\x1e\x38", 4);     /* X448: room for more than there is with any of ours */
  assert_int_equal(sign(key, SIGN_SHA256, SIGN_NO_PADDING, text, 64 + 4 + 56), ERR_USAGE);
  memcpy(text + 64, "\x03\x00\x1d\xff", 4);
  assert_int_equal(sign(key, SIGN_SHA256, SIGN_NO_PADDING, text, 64 + 4 + 255), ERR_USAGE);
  EVP_PKEY_free(key);
}

static void a_scheme_of_another_kind_of_key_is_refused(void **unused) {
  (void)unused;
  uint8_t text[TLS13_N];
  EVP_PKEY *key = EVP_EC_gen("P-256");
  fill_tls13(text);
  assert_int_equal(sign(key, SIGN_SHA256, SIGN_PSS, text, sizeof text), ERR_USAGE);
  assert_int_equal(sign(key, SIGN_HASHES, SIGN_NO_PADDING, text, sizeof text), ERR_USAGE);
  EVP_PKEY_free(key);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(handshakes_of_both_versions_are_signed),
      cmocka_unit_test(everything_else_is_refused),
      cmocka_unit_test(a_key_exchange_of_another_group_or_with_no_point_of_its_curve_is_refused),
      cmocka_unit_test(a_scheme_of_another_kind_of_key_is_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
