/* Preface, OPEN and ACCEPT: what was sealed comes back, and one changed bit is refused. */
#include "cm.h"

#include <string.h>

#include "wire/data.h"

static const struct number_keys keys = {{1}, {2}, {3}}, other_keys = {{9}, {9}, {9}};

static void addr_of(const char *text, struct addr *a) { assert_int_equal(addr_parse(text, a, NULL), 0); }

static struct open_message sample(uint8_t kind, uint16_t suite, size_t secret_n) {
  struct open_message m;
  memset(&m, 0, sizeof m);
  m.tunnel_id = 77;
  m.kind = kind;
  addr_of("[2001:db8::1]:50000", &m.visitor);
  addr_of("192.0.2.1:443", &m.local);
  m.suite = suite;
  m.secret_n = secret_n;
  memset(m.client_secret, 0xc1, secret_n);
  memset(m.server_secret, 0x5e, secret_n);
  if (kind != STREAM_RAW_PLAIN) {
    m.client_sequence = 1;
    m.server_sequence = UINT64_MAX;
    m.fragment_max = 4096;
  }
  memcpy(m.alpn, "http/1.1", 8);
  m.alpn_n = 8;
  return m;
}

static void preface_round_trips(void **state) {
  (void)state;
  uint8_t id[LINK_ID_BYTES] = {0xaa, 0xbb}, out[PREFACE_BYTES];
  struct preface p;
  assert_int_equal(preface_encode(id, 0x0102030405060708u, &keys, out), 0);
  assert_int_equal(out[0], PREFACE_FIRST_BYTE);
  assert_int_equal(preface_decode(out, &p), 0);
  assert_memory_equal(p.link_id, id, sizeof id);
  assert_true(p.number == 0x0102030405060708u);
  assert_int_equal(preface_verify(&p, &keys), 0);
  assert_int_equal(preface_verify(&p, &other_keys), ERR_AUTH);
}

static void preface_with_any_bit_changed_is_refused(void **state) {
  (void)state;
  uint8_t id[LINK_ID_BYTES] = {1}, out[PREFACE_BYTES];
  struct preface p;
  assert_int_equal(preface_encode(id, 5, &keys, out), 0);
  for (size_t bit = 0; bit < sizeof out * 8; bit++) {
    out[bit / 8] ^= (uint8_t)(1 << bit % 8);
    int r = preface_decode(out, &p);
    assert_int_equal(r, bit < 40 ? ERR_SYNTAX : 0);
    if (r == 0) assert_int_equal(preface_verify(&p, &keys), ERR_AUTH);
    out[bit / 8] ^= (uint8_t)(1 << bit % 8);
  }
}

static void first_byte_of_a_data_connection_is_nothing_else(void **state) {
  (void)state;
  int b = PREFACE_FIRST_BYTE;
  assert_true(b != 0x16 && b != 0x80 && b != '\r' && !(b >= 0x20 && b < 0x7f));
}

static void open_round_trips_for_every_kind_and_suite(void **state) {
  (void)state;
  static const struct { uint8_t kind; uint16_t suite; size_t secret_n; } cases[] = {
    {STREAM_TLS13, 0x1301, 32}, {STREAM_TLS13, 0x1302, 48}, {STREAM_TLS12, 0xc02b, 28}, {STREAM_TLS12, 0xc02f, 28},
    {STREAM_TLS12, 0xc02c, 44}, {STREAM_TLS12, 0xc030, 44}, {STREAM_TLS12, 0xcca8, 44}, {STREAM_TLS12, 0xcca9, 44},
    {STREAM_RAW_SEALED, 0x1301, 32}, {STREAM_RAW_PLAIN, 0, 0}};
  for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
    struct open_message a = sample(cases[i].kind, cases[i].suite, cases[i].secret_n), b;
    uint8_t out[OPEN_MAX_BYTES];
    size_t n, total;
    assert_int_equal(open_encode(&a, &keys, out, &n), 0);
    assert_int_equal(open_length(out, &total), 0);
    assert_int_equal(total, n);
    assert_int_equal(open_decode(out, n, &keys, &b), 0);
    assert_memory_equal(&a, &b, sizeof a);
  }
}

static void open_of_the_largest_size_fits(void **state) {
  (void)state;
  struct open_message a = sample(STREAM_TLS13, 0x1302, 48), b;
  uint8_t out[OPEN_MAX_BYTES];
  size_t n;
  addr_of("[2001:db8::2]:443", &a.local);
  memset(a.alpn, 'p', 255);
  a.alpn_n = 255;
  assert_int_equal(open_encode(&a, &keys, out, &n), 0);
  assert_int_equal(open_decode(out, n, &keys, &b), 0);
  assert_memory_equal(&a, &b, sizeof a);
}

static void open_shows_neither_secret_nor_visitor(void **state) {
  (void)state;
  struct open_message a = sample(STREAM_TLS13, 0x1301, 32);
  uint8_t out[OPEN_MAX_BYTES];
  size_t n;
  assert_int_equal(open_encode(&a, &keys, out, &n), 0);
  assert_null(memmem(out, n, a.client_secret, 8));
  assert_null(memmem(out, n, a.server_secret, 8));
  assert_null(memmem(out, n, a.alpn, a.alpn_n));
}

static void open_with_any_bit_changed_is_refused_and_leaves_nothing(void **state) {
  (void)state;
  struct open_message a = sample(STREAM_TLS13, 0x1301, 32), b, nothing;
  uint8_t good[OPEN_MAX_BYTES], in[OPEN_MAX_BYTES];
  size_t n;
  memset(&nothing, 0, sizeof nothing);
  assert_int_equal(open_encode(&a, &keys, good, &n), 0);
  for (size_t bit = 0; bit < n * 8; bit++) {
    memcpy(in, good, n);
    in[bit / 8] ^= (uint8_t)(1 << bit % 8);
    assert_int_equal(open_decode(in, n, &keys, &b), bit < OPEN_HEADER_BYTES * 8 ? ERR_SYNTAX : ERR_AUTH);
    assert_memory_equal(&b, &nothing, sizeof b);
  }
  memcpy(in, good, n);
  assert_int_equal(open_decode(in, n, &other_keys, &b), ERR_AUTH);
}

static void open_cut_or_longer_is_refused(void **state) {
  (void)state;
  struct open_message a = sample(STREAM_TLS13, 0x1301, 32), b;
  uint8_t out[OPEN_MAX_BYTES + 1] = {0};
  size_t n;
  assert_int_equal(open_encode(&a, &keys, out, &n), 0);
  for (size_t cut = 0; cut < n; cut++) assert_int_equal(open_decode(out, cut, &keys, &b), ERR_SYNTAX);
  assert_int_equal(open_decode(out, n + 1, &keys, &b), ERR_SYNTAX);
  assert_int_equal(open_decode(out, n, &keys, &b), 0);
}

static void open_lengths_out_of_bounds_are_refused(void **state) {
  (void)state;
  uint8_t header[OPEN_HEADER_BYTES] = {PREFACE_FIRST_BYTE, 'O', 'P', 'N', 1, 0, AEAD_TAG_BYTES};
  size_t total;
  assert_int_equal(open_length(header, &total), ERR_SYNTAX);
  header[6]++;
  assert_int_equal(open_length(header, &total), 0);
  size_t most = OPEN_BODY_MAX_BYTES + AEAD_TAG_BYTES;
  header[5] = (uint8_t)(most >> 8);
  header[6] = (uint8_t)most;
  assert_int_equal(open_length(header, &total), 0);
  assert_int_equal(total, OPEN_MAX_BYTES);
  header[6]++;
  assert_int_equal(open_length(header, &total), ERR_SYNTAX);
}

static void open_that_contradicts_itself_is_not_written(void **state) {
  (void)state;
  struct open_message bad[11];
  uint8_t out[OPEN_MAX_BYTES];
  size_t n;
  for (size_t i = 0; i < ARRAY_LEN(bad); i++) bad[i] = sample(STREAM_TLS13, 0x1301, 32);
  bad[0].kind = 0;
  bad[1].kind = STREAM_RAW_PLAIN + 1;
  bad[2].suite = 0x1304;
  bad[3].secret_n = 48;
  bad[4].secret_n = 0;
  bad[5].fragment_max = 63;
  bad[6].fragment_max = RECORD_PLAIN_MAX + 1;
  bad[7].kind = STREAM_RAW_PLAIN; /* with secrets */
  bad[8].kind = STREAM_TLS12;      /* with a suite of TLS 1.3 */
  bad[9] = sample(STREAM_TLS13, 0xc02b, 28);
  bad[10] = sample(STREAM_TLS12, 0xc02b, 32);
  for (size_t i = 0; i < ARRAY_LEN(bad); i++) assert_int_equal(open_encode(&bad[i], &keys, out, &n), ERR_USAGE);
}

/* Seals a body that our encoder would not write. */
static void seal_body(uint8_t *out, size_t n) {
  static const uint8_t nonce[12];
  memcpy(out, "\xad" "OPN\1", 5);
  out[5] = (uint8_t)((n + AEAD_TAG_BYTES) >> 8);
  out[6] = (uint8_t)(n + AEAD_TAG_BYTES);
  uint8_t *body = out + OPEN_HEADER_BYTES;
  struct aead *a = aead_new(AEAD_AES_256_GCM, keys.open, true);
  assert_int_equal(aead_seal(a, nonce, out, OPEN_HEADER_BYTES, body, n, body, body + n), 0);
  aead_free(a);
}

static void open_with_a_malformed_body_under_a_good_seal_is_refused(void **state) {
  (void)state;
  struct open_message a = sample(STREAM_TLS13, 0x1301, 32), b;
  uint8_t plain[OPEN_MAX_BYTES], out[OPEN_MAX_BYTES];
  size_t n;
  assert_int_equal(open_encode(&a, &keys, plain, &n), 0);
  assert_int_equal(open_decode(plain, n, &keys, &b), 0); /* decrypts in place */
  size_t body = n - OPEN_HEADER_BYTES - AEAD_TAG_BYTES;
  memcpy(out, plain, sizeof out);
  seal_body(out, body);
  assert_int_equal(open_decode(out, n, &keys, &b), 0);
  for (size_t cut = 1; cut < body; cut++) {
    memcpy(out, plain, sizeof out);
    seal_body(out, cut);
    assert_int_equal(open_decode(out, OPEN_HEADER_BYTES + cut + AEAD_TAG_BYTES, &keys, &b), ERR_SYNTAX);
  }
  memcpy(out, plain, sizeof out);
  out[OPEN_HEADER_BYTES + body] = 0;
  seal_body(out, body + 1); /* a byte after the last field */
  assert_int_equal(open_decode(out, n + 1, &keys, &b), ERR_SYNTAX);
  for (uint8_t kind = 0;; kind = 5) {
    memcpy(out, plain, sizeof out);
    out[OPEN_HEADER_BYTES + 4] = kind;
    seal_body(out, body);
    assert_int_equal(open_decode(out, n, &keys, &b), ERR_SYNTAX);
    if (kind == 5) break;
  }
}

static void accept_round_trips(void **state) {
  (void)state;
  uint8_t out[ACCEPT_BYTES];
  enum accept_status s;
  assert_int_equal(accept_encode(ACCEPT_NO_TUNNEL, &keys, out), 0);
  assert_int_equal(accept_decode(out, &keys, &s), 0);
  assert_int_equal(s, ACCEPT_NO_TUNNEL);
  assert_int_equal(accept_encode(ACCEPT_OK, &keys, out), 0);
  assert_int_equal(accept_decode(out, &keys, &s), 0);
  assert_int_equal(s, ACCEPT_OK);
  assert_int_equal(accept_decode(out, &other_keys, &s), ERR_AUTH);
}

static void accept_with_any_bit_changed_is_refused(void **state) {
  (void)state;
  uint8_t out[ACCEPT_BYTES];
  enum accept_status s;
  assert_int_equal(accept_encode(ACCEPT_OK, &keys, out), 0);
  for (size_t bit = 0; bit < sizeof out * 8; bit++) {
    out[bit / 8] ^= (uint8_t)(1 << bit % 8);
    assert_int_equal(accept_decode(out, &keys, &s), bit < 32 ? ERR_SYNTAX : ERR_AUTH);
    out[bit / 8] ^= (uint8_t)(1 << bit % 8);
  }
  assert_int_equal(accept_encode((enum accept_status)2, &keys, out), 0);
  assert_int_equal(accept_decode(out, &keys, &s), ERR_SYNTAX);
}

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(preface_round_trips),
    cmocka_unit_test(preface_with_any_bit_changed_is_refused),
    cmocka_unit_test(first_byte_of_a_data_connection_is_nothing_else),
    cmocka_unit_test(open_round_trips_for_every_kind_and_suite),
    cmocka_unit_test(open_of_the_largest_size_fits),
    cmocka_unit_test(open_shows_neither_secret_nor_visitor),
    cmocka_unit_test(open_with_any_bit_changed_is_refused_and_leaves_nothing),
    cmocka_unit_test(open_cut_or_longer_is_refused),
    cmocka_unit_test(open_lengths_out_of_bounds_are_refused),
    cmocka_unit_test(open_that_contradicts_itself_is_not_written),
    cmocka_unit_test(open_with_a_malformed_body_under_a_good_seal_is_refused),
    cmocka_unit_test(accept_round_trips),
    cmocka_unit_test(accept_with_any_bit_changed_is_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
