/* PROXY headers: read exactly, never a byte past the end, and refused when anything is out of place. */
#include "cm.h"

#include <string.h>

#include "wire/proxy.h"

static const uint8_t signature[] = "\r\n\r\n\0\r\nQUIT\n";

/* Reads as a socket would be read: exactly as many bytes as asked for. Asserts that it never asks past the header. */
static int read_exactly(const void *bytes, size_t n, struct proxy_header *h) {
  size_t have = 0;
  for (;;) {
    uint8_t *copy = test_malloc(have + 1);
    memcpy(copy + 1, bytes, have);
    int want = proxy_read(copy + 1, have, h);
    test_free(copy);
    if (want <= 0) return want;
    assert_true((size_t)want > have);
    if ((size_t)want > n) return 1; /* cut */
    have = (size_t)want;
  }
}

static void assert_addr(const struct addr *a, const char *text) {
  char out[64];
  addr_format(a, out, sizeof out);
  assert_string_equal(out, text);
}

static void v1_lines_are_read_to_their_last_byte(void **state) {
  (void)state;
  static const struct { const char *line, *source, *destination; } good[] = {
    {"PROXY TCP4 192.0.2.1 198.51.100.2 50000 443\r\n", "192.0.2.1:50000", "198.51.100.2:443"},
    {"PROXY TCP4 1.1.1.1 1.1.1.1 1 1\r\n", "1.1.1.1:1", "1.1.1.1:1"},
    {"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255:65535", "255.255.255.255:65535"},
    {"PROXY TCP6 :: :: 1 1\r\n", "[::]:1", "[::]:1"},
    {"PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
     "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535", "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"},
  };
  for (size_t i = 0; i < ARRAY_LEN(good); i++) {
    struct proxy_header h;
    size_t n = strlen(good[i].line);
    assert_int_equal(read_exactly(good[i].line, n, &h), 0);
    assert_int_equal(h.total, n);
    assert_false(h.local);
    assert_addr(&h.source, good[i].source);
    assert_addr(&h.destination, good[i].destination);
    for (size_t cut = 0; cut < n; cut++) assert_true(read_exactly(good[i].line, cut, &h) != 0);
  }
}

static void v1_unknown_has_no_addresses(void **state) {
  (void)state;
  static const char *const good[] = {
    "PROXY UNKNOWN\r\n", "PROXY UNKNOWN \r\n",
    "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"};
  for (size_t i = 0; i < ARRAY_LEN(good); i++) {
    struct proxy_header h;
    assert_int_equal(read_exactly(good[i], strlen(good[i]), &h), 0);
    assert_int_equal(h.total, strlen(good[i]));
    assert_true(h.local);
    assert_int_equal(addr_len(&h.source), 0);
  }
}

static void v1_lines_out_of_form_are_refused(void **state) {
  (void)state;
  static const char *const bad[] = {
    "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "PROXY TCP5 1.1.1.1 1.1.1.1 1 1\r\n", "proxy TCP4 1.1.1.1 1.1.1.1 1 1\r\n",
    "PROXY  TCP4 1.1.1.1 1.1.1.1 1 1\r\n", "PROXY TCP4  1.1.1.1 1.1.1.1 1 1\r\n", "PROXY TCP4 1.1.1.1 1.1.1.1 1 1 \r\n",
    "PROXY TCP4 1.1.1.1 1.1.1.1 1 01\r\n", "PROXY TCP4 1.1.1.1 1.1.1.1 1 65536\r\n",
    "PROXY TCP4 1.1.1.1 1.1.1.1 1 -1\r\n",
    "PROXY TCP4 1.1.1.1 1.1.1.1 11\r\n.................", "PROXY TCP4 ::1 ::1 1 1\r\n..........",
    "PROXY TCP6 1.1.1.1 1.1.1.1 1 1\r\n",
    "PROXY TCP4 1.1.1.1 1.1.1.256 1 1\r\n", "PROXY UNKNOWNX\r\n..", "PROXY TCP4 1.1.1.1 1.1.1.1 1 1\n\r\n",
    "PROXY TCP4 1.1.1.1 1.1.1.1 1 1\rX\n",
    ("PROXY UNKNOWN "
     ".................................................................................................\r\n")};
  for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
    struct proxy_header h;
    assert_int_equal(read_exactly(bad[i], strlen(bad[i]), &h), ERR_SYNTAX);
  }
  struct proxy_header h;
  assert_int_equal(read_exactly("PROXY TCP4 1.1.1.1\0 1.1.1.1 1 1\r\n", 34, &h), ERR_SYNTAX);
}

static void the_first_wrong_byte_is_enough(void **state) {
  (void)state;
  struct proxy_header h;
  assert_int_equal(proxy_read((const uint8_t *)"\x16", 1, &h), ERR_SYNTAX);
  assert_int_equal(proxy_read((const uint8_t *)"POST ", 5, &h), ERR_SYNTAX);
  assert_int_equal(proxy_read((const uint8_t *)"\r\n\r\n\r", 5, &h), ERR_SYNTAX);
  assert_int_equal(proxy_read((const uint8_t *)"", 0, &h), 15);
}

static size_t v2(uint8_t *out, uint8_t command, uint8_t family, const void *body, size_t n) {
  memcpy(out, signature, 12);
  out[12] = command;
  out[13] = family;
  out[14] = (uint8_t)(n >> 8);
  out[15] = (uint8_t)n;
  if (n > 0) memcpy(out + 16, body, n);
  return 16 + n;
}

static void v2_headers_are_read_to_their_last_byte(void **state) {
  (void)state;
  uint8_t out[600], tlvs[40] = {192, 0, 2, 1, 198, 51, 100, 2, 0xc3, 0x50, 1, 0xbb, 4, 0, 1, 0};
  struct proxy_header h;
  size_t n = v2(out, 0x21, 0x11, tlvs, 16);
  assert_int_equal(read_exactly(out, n, &h), 0);
  assert_int_equal(h.total, n);
  assert_addr(&h.source, "192.0.2.1:50000");
  assert_addr(&h.destination, "198.51.100.2:443");
  for (size_t cut = 0; cut < n; cut++) assert_int_equal(read_exactly(out, cut, &h), 1);
  uint8_t six[36] = {[15] = 1, [31] = 2, [33] = 7, [35] = 8};
  n = v2(out, 0x21, 0x21, six, 36);
  assert_int_equal(read_exactly(out, n, &h), 0);
  assert_addr(&h.source, "[::1]:7");
  assert_addr(&h.destination, "[::2]:8");
}

static void v2_without_a_usable_address_is_local(void **state) {
  (void)state;
  uint8_t out[600], body[216] = {0};
  static const struct { uint8_t command, family; size_t n; } local[] = {
    {0x20, 0, 0}, {0x20, 0x11, 12}, {0x20, 0x11, 0}, {0x21, 0, 0}, {0x21, 0x31, 216}, {0x21, 0x12, 12}};
  for (size_t i = 0; i < ARRAY_LEN(local); i++) {
    struct proxy_header h;
    size_t n = v2(out, local[i].command, local[i].family, body, local[i].n);
    assert_int_equal(read_exactly(out, n, &h), 0);
    assert_int_equal(h.total, n);
    assert_true(h.local);
  }
}

static void v2_out_of_form_or_too_long_is_refused(void **state) {
  (void)state;
  uint8_t out[600], body[536] = {0};
  struct proxy_header h;
  static const struct { uint8_t command, family; size_t n; } bad[] = {
    {0x22, 0x11, 12}, {0x11, 0x11, 12}, {0x31, 0x11, 12}, {0x21, 0x41, 12}, {0x21, 0x13, 12}, {0x21, 0x11, 11},
    {0x21, 0x21, 35},
    {0x21, 0x11, 521}};
  for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
    assert_int_equal(read_exactly(out, v2(out, bad[i].command, bad[i].family, body, bad[i].n), &h), ERR_SYNTAX);
  }
  assert_int_equal(read_exactly(out, v2(out, 0x21, 0x11, body, 520), &h), 0);
  assert_int_equal(h.total, PROXY_HEADER_MAX_BYTES);
}

static void what_we_write_we_read(void **state) {
  (void)state;
  static const struct { const char *source, *destination, *read_source, *read_destination; } cases[] = {
    {"192.0.2.1:50000", "198.51.100.2:443", "192.0.2.1:50000", "198.51.100.2:443"},
    {"[2001:db8::1]:5", "[2001:db8::2]:6", "[2001:db8::1]:5", "[2001:db8::2]:6"},
    {"[::ffff:192.0.2.1]:5", "192.0.2.2:6", "192.0.2.1:5", "192.0.2.2:6"},
    {"192.0.2.1:5", "[2001:db8::2]:6", "[::ffff:192.0.2.1]:5", "[2001:db8::2]:6"}};
  for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
    struct addr a, b;
    uint8_t out[PROXY_HEADER_MAX_BYTES], alpn[255];
    struct proxy_header h;
    memset(alpn, 'x', sizeof alpn);
    assert_int_equal(addr_parse(cases[i].source, &a, NULL), 0);
    assert_int_equal(addr_parse(cases[i].destination, &b, NULL), 0);
    for (size_t alpn_n = 0; alpn_n <= 255; alpn_n += 51) {
      size_t n = proxy_write_v2(&a, &b, alpn, alpn_n, out);
      assert_int_equal(read_exactly(out, n, &h), 0);
      assert_int_equal(h.total, n);
      assert_false(h.local);
      assert_addr(&h.source, cases[i].read_source);
      assert_addr(&h.destination, cases[i].read_destination);
    }
  }
  struct addr unset = {0};
  uint8_t out[PROXY_HEADER_MAX_BYTES];
  struct proxy_header h;
  size_t n = proxy_write_v2(&unset, &unset, NULL, 0, out);
  assert_int_equal(n, 16);
  assert_int_equal(read_exactly(out, n, &h), 0);
  assert_true(h.local);
}

static void alpn_is_written_as_a_tlv(void **state) {
  (void)state;
  struct addr a;
  uint8_t out[PROXY_HEADER_MAX_BYTES];
  assert_int_equal(addr_parse("192.0.2.1:5", &a, NULL), 0);
  assert_int_equal(proxy_write_v2(&a, &a, (const uint8_t *)"h2", 2, out), 16 + 12 + 5);
  assert_memory_equal(out + 28, "\1\0\2h2", 5);
}

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(v1_lines_are_read_to_their_last_byte),
    cmocka_unit_test(v1_unknown_has_no_addresses),
    cmocka_unit_test(v1_lines_out_of_form_are_refused),
    cmocka_unit_test(the_first_wrong_byte_is_enough),
    cmocka_unit_test(v2_headers_are_read_to_their_last_byte),
    cmocka_unit_test(v2_without_a_usable_address_is_local),
    cmocka_unit_test(v2_out_of_form_or_too_long_is_refused),
    cmocka_unit_test(what_we_write_we_read),
    cmocka_unit_test(alpn_is_written_as_a_tlv),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
