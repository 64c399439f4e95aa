/* The record layer against the trace of RFC 8448 section 3, and against what it must refuse. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "base/secret.h"
#include "base/text.h"
#include "tls/record.h"

/* RFC 8448 3: the application traffic secrets and every record under them, in the order of the trace. */
static const char client_secret[] = "9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5";
static const char server_secret[] = "a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643";
static const char server_ticket_record[] =
  "17030300de3a6b8f90414a97d6959c3487680de5134a2b240e6cffac116e95d41d6af8f6b580dcf3d11d63c758db289a015940252f55713e"
  "061dc13e078891a38efbcf5753ad8ef170ad3c7353d16d9da773b9ca7f2b9fa1b6c0d4a3d03f75e09c30ba1e62972ac46f75f7b981be6343"
  "9b2999ce13064615139891d5e4c5b406f16e3fc181a77ca475840025db2f0a77f81b5ab05b94c01346755f69232c86519d86cbeeac87aac3"
  "47d143f9605d64f650db4d023e70e952ca49fe5137121c74bc2697687e248746d6df353005f3bce18696129c8153556b3b6c6779b37bf159"
  "85684f";
static const char client_data_record[] =
  "1703030043a23f7054b62c94d0affafe8228ba55cbefacea42f914aa66bcab3f2b9819a8a5b46b395bd54a9a20441e2b62974e1f5a6292a2"
  "977014bd1e3deae63aeebb21694915e4";
static const char server_data_record[] =
  "17030300432e937e11ef4ac740e538ad36005fc4a46932fc3225d05f82aa1b36e30efaf97d90e6dffc602dcb501a59a8fcc49c4bf2e5f0a2"
  "1c0047c2abf332540dd032e167c2955d";
static const char client_alert_record[] = "1703030013c9872760655666b74d7ff1153efd6db6d0b0e3";
static const char server_alert_record[] = "1703030013b58fd67166ebf599d24720cfbe7efa7a8864a9";

static const struct tls_suite *suite_of(uint16_t id) {
  const struct tls_suite *suite = tls_suite_find(id);
  assert_non_null(suite);
  return suite;
}

static void keys_of(struct record_keys *k, const char *secret_hex, bool encrypt) {
  uint8_t secret[32];
  assert_int_equal(hex_decode(secret_hex, secret, sizeof secret), 0);
  assert_int_equal(record_keys_init(k, suite_of(0x1301), secret, 0, encrypt), 0);
}

static size_t bytes_of(const char *hex, uint8_t *out) {
  assert_int_equal(hex_decode(hex, out, strlen(hex) / 2), 0);
  return strlen(hex) / 2;
}

/* Opens the RFC's record, then seals what was inside to the very same bytes. */
static void check_record(struct record_keys *open, struct record_keys *seal, const char *hex, enum record_type type,
                         size_t n) {
  uint8_t record[512], again[512], alert, *plain;
  enum record_type got_type;
  size_t len = bytes_of(hex, record), got;
  assert_int_equal(record_open(open, record, len, &got_type, &plain, &got, &alert), 0);
  assert_int_equal(got_type, type);
  assert_int_equal(got, n);
  if (type == RECORD_APPLICATION_DATA) {
    for (size_t i = 0; i < n; i++) assert_int_equal(plain[i], i);
  }
  memcpy(again + RECORD_HEADER_BYTES, plain, n);
  assert_int_equal(record_seal(seal, type, again, n), 0);
  (void)bytes_of(hex, record);
  assert_memory_equal(again, record, len);
}

/* As with the first record. */
static void make_keys(struct record_keys *k) {
  uint8_t record[RECORD_HEADER_BYTES + 64] = {RECORD_APPLICATION_DATA, 3, 3, 0, 64}, *plain, alert;
  enum record_type type;
  size_t n;
  uint64_t sequence = k->sequence;
  if (k->encrypt) assert_int_equal(record_seal(k, RECORD_APPLICATION_DATA, record, 1), 0);
  else assert_int_equal(record_open(k, record, sizeof record, &type, &plain, &n, &alert), ERR_AUTH);
  k->sequence = sequence;
}

static void keys_are_derived_as_in_rfc_8448(void **state) {
  (void)state;
  struct record_keys k;
  uint8_t iv[12], secret[32], key[16], expected[16];
  keys_of(&k, client_secret, false);
  make_keys(&k);
  bytes_of("5b78923dee08579033e523d9", iv);
  assert_memory_equal(k.iv, iv, sizeof iv);
  record_keys_free(&k);
  keys_of(&k, server_secret, true);
  make_keys(&k);
  bytes_of("cf782b88dd83549aadf1e984", iv);
  assert_memory_equal(k.iv, iv, sizeof iv);
  record_keys_free(&k);
  bytes_of(client_secret, secret);
  bytes_of("17422dda596ed5d9acd890e3c63f5051", expected);
  assert_int_equal(hkdf_expand_label(HASH_SHA256, secret, "key", NULL, 0, key, sizeof key), 0);
  assert_memory_equal(key, expected, sizeof key);
}

static void the_records_of_rfc_8448_open_and_are_sealed_to_the_same_bytes(void **state) {
  (void)state;
  struct record_keys client_in, client_out, server_in, server_out;
  keys_of(&client_in, client_secret, false);
  keys_of(&client_out, client_secret, true);
  keys_of(&server_in, server_secret, false);
  keys_of(&server_out, server_secret, true);
  check_record(&server_in, &server_out, server_ticket_record, RECORD_HANDSHAKE, 205);
  check_record(&client_in, &client_out, client_data_record, RECORD_APPLICATION_DATA, 50);
  check_record(&server_in, &server_out, server_data_record, RECORD_APPLICATION_DATA, 50);
  check_record(&client_in, &client_out, client_alert_record, RECORD_ALERT, 2);
  check_record(&server_in, &server_out, server_alert_record, RECORD_ALERT, 2);
  record_keys_free(&client_in);
  record_keys_free(&client_out);
  record_keys_free(&server_in);
  record_keys_free(&server_out);
}

struct pair {
  struct record_keys seal, open;
};

static void pair_open(struct pair *p, uint16_t id, uint64_t sequence) {
  uint8_t secret[TLS_SECRET_MAX_BYTES];
  memset(secret, 0x5a, sizeof secret);
  assert_int_equal(record_keys_init(&p->seal, suite_of(id), secret, sequence, true), 0);
  assert_int_equal(record_keys_init(&p->open, suite_of(id), secret, sequence, false), 0);
}

static void pair_close(struct pair *p) {
  record_keys_free(&p->seal);
  record_keys_free(&p->open);
}

static const uint16_t all_suites[] = {0x1301, 0x1302, 0x1303, 0xc02b, 0xc02c, 0xc02f, 0xc030, 0xcca8, 0xcca9};

static void every_suite_carries_every_size_across_a_key_update(void **state) {
  (void)state;
  static uint8_t record[RECORD_PLAIN_MAX + RECORD_OVERHEAD_MAX];
  const size_t sizes[] = {0, 1, 15, 16, 17, 4096, RECORD_PLAIN_MAX};
  for (size_t s = 0; s < ARRAY_LEN(all_suites); s++) {
    struct pair p;
    pair_open(&p, all_suites[s], 7);
    const struct tls_suite *suite = p.seal.suite;
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
      enum record_type type;
      uint8_t *plain, alert;
      size_t n;
      memset(record + suite->lead, 0x33, sizes[i]);
      assert_int_equal(record_seal(&p.seal, RECORD_APPLICATION_DATA, record, sizes[i]), 0);
      assert_int_equal(record_length(record, 5), sizes[i] + suite->overhead);
      assert_int_equal(record_open(&p.open, record, sizes[i] + suite->overhead, &type, &plain, &n, &alert), 0);
      assert_int_equal(n, sizes[i]);
      assert_int_equal(type, RECORD_APPLICATION_DATA);
      for (size_t at = 0; at < n; at++) assert_int_equal(plain[at], 0x33);
      if (i == 3 && suite->version == TLS_VERSION_13) {
        assert_int_equal(record_keys_update(&p.seal), 0);
        assert_int_equal(record_keys_update(&p.open), 0);
        assert_int_equal(p.seal.sequence, 0);
      }
    }
    pair_close(&p);
  }
}

static void keys_that_rest_go_on_with_the_next_number(void **state) {
  (void)state;
  uint8_t record[64 + RECORD_OVERHEAD_MAX];
  for (size_t s = 0; s < ARRAY_LEN(all_suites); s++) {
    struct pair p;
    pair_open(&p, all_suites[s], 7);
    const struct tls_suite *suite = p.seal.suite;
    for (uint64_t i = 0; i < 4; i++) {
      enum record_type type;
      uint8_t *plain, alert;
      size_t n;
      assert_int_equal(p.seal.sequence, 7 + i);
      memset(record + suite->lead, (int)i, 64);
      assert_int_equal(record_seal(&p.seal, RECORD_APPLICATION_DATA, record, 64), 0);
      assert_int_equal(record_open(&p.open, record, 64 + suite->overhead, &type, &plain, &n, &alert), 0);
      assert_int_equal(n, 64);
      assert_int_equal(plain[63], i);
      if (i % 2 == 0) record_keys_rest(&p.seal);
      if (i > 0) record_keys_rest(&p.open);
    }
    assert_null(p.open.aead);
    pair_close(&p);
  }
}

/* Seals an inner plaintext of our choice, so that padding, and the lack of a type, can be shown. */
static size_t seal_inner(struct record_keys *k, uint8_t *record, size_t inner_n) {
  uint8_t nonce[12];
  make_keys(k);
  memcpy(nonce, k->iv, sizeof nonce);
  for (int i = 0; i < 8; i++) nonce[11 - i] ^= (uint8_t)(k->sequence >> (8 * i));
  k->sequence++;
  size_t body = inner_n + AEAD_TAG_BYTES;
  const uint8_t header[] = {23, 3, 3, (uint8_t)(body >> 8), (uint8_t)body};
  memcpy(record, header, sizeof header);
  uint8_t *inner = record + sizeof header;
  assert_int_equal(aead_seal(k->aead, nonce, record, 5, inner, inner_n, inner, inner + inner_n), 0);
  return sizeof header + body;
}

static int open_alert(struct record_keys *k, uint8_t *record, size_t len, uint8_t *alert) {
  enum record_type type;
  uint8_t *plain;
  size_t n;
  return record_open(k, record, len, &type, &plain, &n, alert);
}

static void padding_is_accepted_up_to_the_limit_of_the_inner_plaintext(void **state) {
  (void)state;
  static uint8_t record[RECORD_CIPHER_MAX + 100];
  struct pair p;
  enum record_type type;
  uint8_t *plain, alert;
  size_t n;
  pair_open(&p, 0x1301, 0);
  memset(record, 0, sizeof record);
  memcpy(record + 5, "abc\x17", 4);
  size_t len = seal_inner(&p.seal, record, RECORD_PLAIN_MAX + 1);
  assert_int_equal(record_open(&p.open, record, len, &type, &plain, &n, &alert), 0);
  assert_int_equal(n, 3);
  assert_memory_equal(plain, "abc", 3);
  memset(record, 0, sizeof record);
  memcpy(record + 5, "abc\x17", 4);
  len = seal_inner(&p.seal, record, RECORD_PLAIN_MAX + 2);
  assert_int_equal(open_alert(&p.open, record, len, &alert), ERR_SYNTAX);
  assert_int_equal(alert, ALERT_RECORD_OVERFLOW);
  pair_close(&p);
}

static void an_inner_plaintext_of_zeros_is_an_unexpected_message(void **state) {
  (void)state;
  uint8_t record[100] = {0}, alert;
  struct pair p;
  pair_open(&p, 0x1303, 0);
  size_t len = seal_inner(&p.seal, record, 20);
  assert_int_equal(open_alert(&p.open, record, len, &alert), ERR_SYNTAX);
  assert_int_equal(alert, ALERT_UNEXPECTED_MESSAGE);
  memset(record, 0, sizeof record);
  len = seal_inner(&p.seal, record, 0);
  assert_int_equal(open_alert(&p.open, record, len, &alert), ERR_SYNTAX);
  assert_int_equal(alert, ALERT_UNEXPECTED_MESSAGE);
  pair_close(&p);
}

static void a_changed_bit_anywhere_is_a_bad_record_mac_and_opens_nothing(void **state) {
  (void)state;
  for (size_t at = 1; at < 30; at++) {
    uint8_t record[64], alert = 0;
    struct pair p;
    if (at == 3 || at == 4) continue;  /* the length: the caller cuts the record by it */
    pair_open(&p, 0x1301, 0);
    memcpy(record + 5, "secret plaintext", 16);
    assert_int_equal(record_seal(&p.seal, RECORD_APPLICATION_DATA, record, 16), 0);
    record[at] ^= 0x40;
    assert_int_equal(open_alert(&p.open, record, 16 + RECORD_OVERHEAD_BYTES, &alert), ERR_AUTH);
    assert_int_equal(alert, ALERT_BAD_RECORD_MAC);
    assert_null(memmem(record, sizeof record, "secret", 6));
    pair_close(&p);
  }
}

static void a_changed_bit_of_a_tls12_record_is_found(void **state) {
  (void)state;
  for (size_t s = 3; s < ARRAY_LEN(all_suites); s++) {
    for (size_t at = 0; at < 16 + RECORD_OVERHEAD_MAX; at++) {
      uint8_t record[64], alert = 0;
      struct pair p;
      pair_open(&p, all_suites[s], 3);
      size_t n = 16u + p.seal.suite->overhead;
      bool version = at == 1 || at == 2;
      memcpy(record + p.seal.suite->lead, "secret plaintext", 16);
      assert_int_equal(record_seal(&p.seal, RECORD_APPLICATION_DATA, record, 16), 0);
      record[at] ^= 1;             /* of the type: it is a handshake's then */
      if (at != 3 && at != 4 && at < n) {
        assert_int_equal(open_alert(&p.open, record, n, &alert), version ? ERR_SYNTAX : ERR_AUTH);
        assert_int_equal(alert, version ? ALERT_PROTOCOL_VERSION : ALERT_BAD_RECORD_MAC);
        assert_null(memmem(record, n, "secret", 6));
      }
      pair_close(&p);
    }
  }
}

/* RFC 5288 3: the explicit nonce goes on from where it began, also past its end. */
static void the_nonces_of_tls12_are_all_different(void **state) {
  (void)state;
  uint8_t secret[TLS_SECRET_MAX_BYTES], record[64], nonce[8] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe};
  struct record_keys k;
  memset(secret, 0xff, sizeof secret);
  secret[16 + 11] = 0xfe;
  assert_int_equal(record_keys_init(&k, suite_of(0xc02b), secret, 0, true), 0);
  for (int i = 0; i < 600; i++) {
    assert_int_equal(record_seal(&k, RECORD_APPLICATION_DATA, record, 1), 0);
    assert_memory_equal(record + RECORD_HEADER_BYTES, nonce, sizeof nonce);
    for (int at = 7; at >= 0 && ++nonce[at] == 0;) at--;
  }
  record_keys_free(&k);
}

static void a_record_twice_is_a_bad_record_mac(void **state) {
  (void)state;
  uint8_t record[64], copy[64], alert = 0;
  struct pair p;
  pair_open(&p, 0x1301, 0);
  memcpy(record + 5, "once", 4);
  assert_int_equal(record_seal(&p.seal, RECORD_APPLICATION_DATA, record, 4), 0);
  memcpy(copy, record, sizeof copy);
  assert_int_equal(open_alert(&p.open, record, 4 + RECORD_OVERHEAD_BYTES, &alert), 0);
  assert_int_equal(open_alert(&p.open, copy, 4 + RECORD_OVERHEAD_BYTES, &alert), ERR_AUTH);
  pair_close(&p);
}

static void the_sequence_number_never_wraps(void **state) {
  (void)state;
  uint8_t record[64], alert = 0;
  struct pair p;
  pair_open(&p, 0x1301, UINT64_MAX - 1);
  assert_int_equal(record_seal(&p.seal, RECORD_APPLICATION_DATA, record, 1), 0);
  assert_int_equal(open_alert(&p.open, record, 1 + RECORD_OVERHEAD_BYTES, &alert), 0);
  assert_int_equal(record_seal(&p.seal, RECORD_APPLICATION_DATA, record, 1), ERR_NOT_NOW);
  assert_int_equal(open_alert(&p.open, record, 1 + RECORD_OVERHEAD_BYTES, &alert), ERR_AUTH);
  pair_close(&p);
}

static void a_record_of_another_type_or_too_short_is_refused(void **state) {
  (void)state;
  uint8_t change[] = {20, 3, 3, 0, 1, 1}, brief[] = {23, 3, 3, 0, 3, 1, 2, 3}, alert = 0;
  struct pair p;
  for (size_t s = 0; s < ARRAY_LEN(all_suites); s++) {
    pair_open(&p, all_suites[s], 0);
    assert_int_equal(open_alert(&p.open, change, sizeof change, &alert), ERR_SYNTAX);
    assert_int_equal(alert, ALERT_UNEXPECTED_MESSAGE);
    assert_int_equal(open_alert(&p.open, brief, sizeof brief, &alert), ERR_AUTH);
    assert_int_equal(alert, ALERT_BAD_RECORD_MAC);
    pair_close(&p);
  }
}

static void an_unknown_suite_is_not_found(void **state) {
  (void)state;
  assert_null(tls_suite_find(0x1304));
  assert_null(tls_suite_find(0));
}

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(keys_are_derived_as_in_rfc_8448),
    cmocka_unit_test(the_records_of_rfc_8448_open_and_are_sealed_to_the_same_bytes),
    cmocka_unit_test(every_suite_carries_every_size_across_a_key_update),
    cmocka_unit_test(keys_that_rest_go_on_with_the_next_number),
    cmocka_unit_test(padding_is_accepted_up_to_the_limit_of_the_inner_plaintext),
    cmocka_unit_test(an_inner_plaintext_of_zeros_is_an_unexpected_message),
    cmocka_unit_test(a_changed_bit_anywhere_is_a_bad_record_mac_and_opens_nothing),
    cmocka_unit_test(a_changed_bit_of_a_tls12_record_is_found),
    cmocka_unit_test(the_nonces_of_tls12_are_all_different),
    cmocka_unit_test(a_record_twice_is_a_bad_record_mac),
    cmocka_unit_test(the_sequence_number_never_wraps),
    cmocka_unit_test(a_record_of_another_type_or_too_short_is_refused),
    cmocka_unit_test(an_unknown_suite_is_not_found),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
