/* Text forms of bytes, numbers and addresses, and what they must refuse. */
#include "cm.h"

#include <stdbool.h>
#include <string.h>

#include "base/addr.h"
#include "base/limits.h"
#include "base/text.h"

static struct addr addr_of(const char *text) {
  struct addr a;
  struct err e;
  assert_int_equal(addr_parse(text, &a, &e), 0);
  return a;
}

static void a_label_has_its_length_and_alphabet(void **state) {
  (void)state;
  uint8_t bytes[LABEL_RANDOM_BYTES] = {0};
  char label[LABEL_CHARS + 1];
  base32_encode(bytes, sizeof bytes, label);
  assert_string_equal(label, "000000000000000000000000");
  memset(bytes, 0xff, sizeof bytes);
  base32_encode(bytes, sizeof bytes, label);
  assert_string_equal(label, "zzzzzzzzzzzzzzzzzzzzzzzz");
  base32_encode((const uint8_t *)"\x00\x44\x32\x14\xc7", 5, label);
  assert_string_equal(label, "01234567");
}

static void labels_with_anything_else_are_invalid(void **state) {
  (void)state;
  assert_true(label_is_valid("0123456789abcdefghjkmnpq"));
  assert_false(label_is_valid(""));
  assert_false(label_is_valid("0123456789abcdefghjkmnp"));
  assert_false(label_is_valid("0123456789abcdefghjkmnpqr"));
  assert_false(label_is_valid("0123456789abcdefghjkmnpi"));
  assert_false(label_is_valid("0123456789ABCDEFGHJKMNPQ"));
  assert_false(label_is_valid("0123456789ab.defghjkmnpq"));
}

static void hex_round_trip_and_refusals(void **state) {
  (void)state;
  uint8_t out[4];
  char text[9];
  assert_int_equal(hex_decode("00fFa1", out, 3), 0);
  hex_encode(out, 3, text);
  assert_string_equal(text, "00ffa1");
  assert_int_equal(hex_decode("00ff", out, 3), ERR_SYNTAX);
  assert_int_equal(hex_decode("00ffa1b", out, 3), ERR_SYNTAX);
  assert_int_equal(hex_decode("00ffg1", out, 3), ERR_SYNTAX);
  assert_int_equal(hex_decode("", out, 0), 0);
}

/* RFC 4648 section 10, without padding and with the alphabet of section 5 */
static void base64url_round_trip(void **state) {
  (void)state;
  static const struct { const char *plain, *text; } rows[] = {{"", ""}, {"f", "Zg"}, {"fo", "Zm8"}, {"foo", "Zm9v"},
    {"foob", "Zm9vYg"}, {"fooba", "Zm9vYmE"}, {"foobar", "Zm9vYmFy"}, {"\xfb\xff\xfe", "-__-"}};
  for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
    char text[16];
    uint8_t out[8];
    size_t n = strlen(rows[i].plain), chars = base64url_encode((const uint8_t *)rows[i].plain, n, text), got = 99;
    assert_string_equal(text, rows[i].text);
    assert_int_equal(chars, strlen(text));
    assert_int_equal(base64url_decode(text, chars, out, sizeof out, &got), 0);
    assert_int_equal(got, n);
    assert_memory_equal(out, rows[i].plain, n);
  }
}

static void base64url_has_one_spelling_only(void **state) {
  (void)state;
  uint8_t out[8];
  size_t n;
  static const char *const bad[] = {"Z", "Zh", "Zm9", "Zg==", "Zm9v+g", "Zm9v/w", "Zm 8", "Zm9vY"};
  for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
    assert_int_equal(base64url_decode(bad[i], strlen(bad[i]), out, sizeof out, &n), ERR_SYNTAX);
  }
  assert_int_equal(base64url_decode("Zm9vYmFy", 8, out, 5, &n), ERR_LIMIT);
}

/* The text may have been a damaged key. */
static void a_decoder_that_fails_leaves_nothing_of_what_it_read(void **state) {
  (void)state;
  static const uint8_t nothing[6];
  uint8_t out[6] = {0};
  size_t n;
  assert_int_equal(base64url_decode("Zm9vYm=y", 8, out, sizeof out, &n), ERR_SYNTAX);
  assert_memory_equal(out, nothing, sizeof out);
  assert_int_equal(base64url_decode("Zm9vYmE", 7, out, sizeof out, &n), 0);
  memset(out, 0, sizeof out);
  assert_int_equal(base64url_decode("Zm9vYmF", 7, out, sizeof out, &n), ERR_SYNTAX);
  assert_memory_equal(out, nothing, sizeof out);
  assert_int_equal(hex_decode("00ff11223z44", out, sizeof out), ERR_SYNTAX);
  assert_memory_equal(out, nothing, sizeof out);
}

static void times_are_utc_and_always_have_a_text(void **state) {
  (void)state;
  static const struct { int64_t at_s; const char *text; } rows[] = {{0, "1970-01-01T00:00:00Z"},
      {1795771240, "2026-11-27T09:20:40Z"},
    {-1, "1969-12-31T23:59:59Z"}, {253402300800, "an impossible time"}, {INT64_MAX, "an impossible time"}};
  for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
    char text[TIME_TEXT_CHARS + 1];
    text_of_time(rows[i].at_s, text);
    assert_string_equal(text, rows[i].text);
  }
}

static void numbers_are_digits_only_and_bounded(void **state) {
  (void)state;
  uint64_t v;
  assert_int_equal(text_to_u64("18446744073709551615", UINT64_MAX, &v), 0);
  assert_true(v == UINT64_MAX);
  assert_int_equal(text_to_u64("18446744073709551616", UINT64_MAX, &v), ERR_LIMIT);
  assert_int_equal(text_to_u64("11", 10, &v), ERR_LIMIT);
  assert_int_equal(text_to_u64("5", 3, &v), ERR_LIMIT);
  assert_int_equal(text_to_u64("10", 10, &v), 0);
  static const char *const bad[] = {"", "-1", "+1", " 1", "1 ", "0x1", "1.0", "a"};
  for (size_t i = 0; i < ARRAY_LEN(bad); i++) assert_int_equal(text_to_u64(bad[i], 100, &v), ERR_SYNTAX);
}

static void ports_are_from_1_to_65535(void **state) {
  (void)state;
  uint16_t port;
  assert_int_equal(text_to_port("65535", &port), 0);
  assert_int_equal(port, 65535);
  assert_int_equal(text_to_port("65536", &port), ERR_LIMIT);
  assert_int_equal(text_to_port("0", &port), ERR_SYNTAX);
  assert_int_equal(text_to_port("", &port), ERR_SYNTAX);
  assert_int_equal(text_to_port("http", &port), ERR_SYNTAX);
}

static void durations_have_units(void **state) {
  (void)state;
  static const struct { const char *text; uint64_t ms; } rows[] = {{"10s", 10000}, {"250ms", 250},
    {"5m", 300000}, {"2h", 7200000}, {"30d", 2592000000}, {"0", 0}};
  uint64_t ms;
  for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
    assert_int_equal(text_to_duration_ms(rows[i].text, &ms), 0);
    assert_true(ms == rows[i].ms);
  }
  static const char *const bad[] = {"", "10", "00001", "s", "-1s", "1.5h", "10 s", "10S", "1w", "10ss"};
  for (size_t i = 0; i < ARRAY_LEN(bad); i++) assert_int_equal(text_to_duration_ms(bad[i], &ms), ERR_SYNTAX);
  assert_int_equal(text_to_duration_ms("18446744073709551615d", &ms), ERR_LIMIT);
  assert_int_equal(text_to_duration_ms("99999999999999999999", &ms), ERR_LIMIT);
}

static void rates_are_bytes_per_second_in_decimal_units(void **state) {
  (void)state;
  static const struct { const char *text; uint64_t bytes_per_s; } rows[] = {
    {"4096", 4096}, {"7B/s", 7}, {"500kB/s", 500000}, {"500K", 500000}, {"10MB/s", 10000000}, {"10M", 10000000},
    {"10M/s", 10000000},
    {"2GB", 2000000000}, {"18446744073G", 18446744073000000000ULL}};
  static const char *const bad[] = {"", "M", "-1M", "1.5M", "10m", "10Mb", "10Mbit", "10MiB", "10 MB", "10MB/",
      "10MB/m", "10/s/s", "10MBs", "10MM"};
  uint64_t v;
  for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
    assert_int_equal(text_to_rate(rows[i].text, &v), 0);
    assert_true(v == rows[i].bytes_per_s);
  }
  for (size_t i = 0; i < ARRAY_LEN(bad); i++) assert_int_equal(text_to_rate(bad[i], &v), ERR_SYNTAX);
  assert_int_equal(text_to_rate("18446744074G", &v), ERR_LIMIT);
  assert_int_equal(text_to_rate("99999999999999999999", &v), ERR_LIMIT);
}

static void a_rate_is_written_as_it_can_be_read(void **state) {
  (void)state;
  static const struct { uint64_t bytes_per_s; const char *want; } rows[] = {
    {0, "0B/s"}, {1, "1B/s"}, {999, "999B/s"}, {1000, "1kB/s"}, {1500000, "1500kB/s"}, {10000000, "10MB/s"},
    {1000000000000, "1000GB/s"}, {UINT64_MAX, "18446744073709551615B/s"}};
  for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
    char text[32];
    uint64_t back;
    text_of_rate(rows[i].bytes_per_s, text, sizeof text);
    assert_string_equal(text, rows[i].want);
    assert_int_equal(text_to_rate(text, &back), 0);
    assert_true(back == rows[i].bytes_per_s);
  }
}

static void byte_counts_for_people(void **state) {
  (void)state;
  static const struct { uint64_t bytes; const char *text; } rows[] = {{0, "0 B"}, {999, "999 B"}, {1000, "1.0 kB"},
    {1500000, "1.5 MB"}, {999949, "999.9 kB"}, {999960, "1.0 MB"}, {UINT64_MAX, "18.4 EB"}};
  char text[32];
  for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
    text_of_bytes(rows[i].bytes, text, sizeof text);
    assert_string_equal(text, rows[i].text);
  }
}

static void what_a_terminal_would_obey_is_seen(void **state) {
  (void)state;
  static const char *const bad[] = {"\n", "a\033[2J", "\x7f", "a\xc2\x9b[", "\xc2\x80"};
  static const char *const good[] = {"", "plain", "k\xc3\xa4se", "\xc2\xa0", "\xc2", "\xe2\x82\xac"};
  for (size_t i = 0; i < ARRAY_LEN(bad); i++) assert_true(text_has_control(bad[i]));
  for (size_t i = 0; i < ARRAY_LEN(good); i++) assert_false(text_has_control(good[i]));
}

static void escaped_text_is_printable_and_fits(void **state) {
  (void)state;
  char out[32], tiny[6];
  text_escape("a\\b\n\xff\0c", 7, out, sizeof out);
  assert_string_equal(out, "a\\x5cb\\x0a\\xff\\x00c");
  text_escape("ab\n\n", 4, tiny, sizeof tiny);
  assert_string_equal(tiny, "ab"); /* never half an escape */
  text_escape("abcdefgh", 8, tiny, sizeof tiny);
  assert_string_equal(tiny, "abcde");
  text_escape("abc", 3, tiny, 1);
  assert_string_equal(tiny, "");
}

static void addresses_round_trip(void **state) {
  (void)state;
  static const char *const rows[] = {"1.2.3.4:80", "[::1]:80", "0.0.0.0:65535", "[2001:db8::7]:443",
      "[::ffff:1.2.3.4]:9"};
  for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
    struct addr a = addr_of(rows[i]), b;
    char text[64];
    uint8_t wire[19];
    addr_format(&a, text, sizeof text);
    assert_string_equal(text, rows[i]);
    size_t n = addr_encode(&a, wire);
    assert_int_equal(n, rows[i][0] == '[' ? 19 : 7);
    assert_int_equal(addr_decode(wire, n, &b), 0);
    addr_format(&b, text, sizeof text);
    assert_string_equal(text, rows[i]);
    assert_int_equal(addr_decode(wire, n - 1, &b), ERR_SYNTAX);
    wire[0] = 5;
    assert_int_equal(addr_decode(wire, n, &b), ERR_SYNTAX);
  }
  struct addr unset = {0};
  char text[64];
  addr_format(&unset, text, sizeof text);
  assert_string_equal(text, "-");
  assert_int_equal(addr_len(&unset), 0);
}

static void addresses_that_are_not_numeric_are_refused(void **state) {
  (void)state;
  static const char *const bad[] = {"", ":80", "1.2.3.4", "1.2.3.4:", "1.2.3.4:0", "1.2.3.4:65536", "1.2.3:80",
      "::1:80",
    "[::1]", "[::1]80", "[::1:80", "[1.2.3.4]:80", "localhost:80", "1.2.3.4:80 ", "[::g]:80", "[fe80::1%nosuch0]:80"};
  struct addr a;
  for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
    struct err e = {0};
    assert_int_equal(addr_parse(bad[i], &a, &e), ERR_SYNTAX);
    assert_true(e.text[0] != 0);
  }
}

static void mapped_addresses_are_normalised(void **state) {
  (void)state;
  struct addr a = addr_of("[::ffff:127.0.0.9]:80"), n = addr_normalised(&a);
  char text[64];
  addr_format(&n, text, sizeof text);
  assert_string_equal(text, "127.0.0.9:80");
  assert_true(addr_is_loopback(&a));
  a = addr_of("[::1]:1");
  assert_true(addr_is_loopback(&a));
  a = addr_of("128.0.0.1:1");
  assert_false(addr_is_loopback(&a));
}

static bool same_source(const char *x, const char *y) {
  struct addr a = addr_of(x), b = addr_of(y);
  struct source_key ka = addr_source(&a), kb = addr_source(&b);
  return memcmp(&ka, &kb, sizeof ka) == 0;
}

static void a_source_is_a_v4_address_or_a_v6_64(void **state) {
  (void)state;
  assert_true(same_source("1.2.3.4:1", "1.2.3.4:2"));
  assert_true(same_source("1.2.3.4:1", "[::ffff:1.2.3.4]:2"));
  assert_false(same_source("1.2.3.4:1", "1.2.3.5:1"));
  assert_true(same_source("[2001:db8:1:2::1]:1", "[2001:db8:1:2:ffff::9]:1"));
  assert_false(same_source("[2001:db8:1:2::1]:1", "[2001:db8:1:3::1]:1"));
}

static bool block_contains(const char *block, const char *ip) {
  struct cidr c;
  struct err e;
  assert_int_equal(cidr_parse(block, &c, &e), 0);
  struct addr a = addr_of(ip);
  return cidrs_contain(&c, 1, &a);
}

static void blocks_contain_what_shares_their_bits(void **state) {
  (void)state;
  assert_true(block_contains("10.0.0.0/8", "10.255.0.1:1"));
  assert_false(block_contains("10.0.0.0/8", "11.0.0.1:1"));
  assert_true(block_contains("10.0.0.0/8", "[::ffff:10.1.1.1]:1"));
  assert_true(block_contains("192.168.4.0/22", "192.168.7.255:1"));
  assert_false(block_contains("192.168.4.0/22", "192.168.8.0:1"));
  assert_true(block_contains("1.2.3.4", "1.2.3.4:1"));
  assert_false(block_contains("1.2.3.4", "1.2.3.5:1"));
  assert_true(block_contains("0.0.0.0/0", "9.9.9.9:1"));
  assert_false(block_contains("0.0.0.0/0", "[::1]:1"));
  assert_true(block_contains("::/0", "[2001:db8::1]:1"));
  assert_true(block_contains("2001:db8::/33", "[2001:db8:7fff::1]:1"));
  assert_false(block_contains("2001:db8::/33", "[2001:db8:8000::1]:1"));
  assert_false(block_contains("::/0", "1.2.3.4:1"));
  struct addr a = addr_of("1.2.3.4:1");
  assert_false(cidrs_contain(NULL, 0, &a));
}

static void malformed_blocks_are_refused(void **state) {
  (void)state;
  static const char *const bad[] = {"", "/8", "10.0.0.0/", "10.0.0.0/33", "10.0.0/8", "::1/129", "10.0.0.0/-1",
      "10.0.0.0/8/8", "x"};
  struct cidr c;
  for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
    struct err e;
    assert_int_equal(cidr_parse(bad[i], &c, &e), ERR_SYNTAX);
  }
}

static void host_port_takes_names_and_both_families(void **state) {
  (void)state;
  static const struct { const char *text, *host; uint16_t port; } rows[] = {{"example.com:443", "example.com", 443},
    {"localhost", "localhost", 8443}, {"[::1]:80", "::1", 80}, {"[::1]", "::1", 8443}, {"1.2.3.4:5", "1.2.3.4", 5}};
  for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
    struct host_port hp;
    struct err e;
    assert_int_equal(host_port_parse(rows[i].text, 8443, &hp, &e), 0);
    assert_string_equal(hp.host, rows[i].host);
    assert_int_equal(hp.port, rows[i].port);
  }
  struct host_port hp = {.host = "::1", .port = 80};
  char text[300];
  host_port_format(&hp, text, sizeof text);
  assert_string_equal(text, "[::1]:80");
  hp = (struct host_port){.host = "a.b", .port = 1};
  host_port_format(&hp, text, sizeof text);
  assert_string_equal(text, "a.b:1");
}

static void host_port_refuses_the_rest(void **state) {
  (void)state;
  static const char *const bad[] = {"", ":1", "a b:1", "a_b:1", "-a:1", "a-:1", "a..b:1", ".a:1", "a.:1", "::1:80",
      "a:b", "a:0",
    "a:70000", "[a]:1", "[]:1", "[::1", "[::1]x", "http://a:1", "a"};
  struct host_port hp;
  struct err e;
  for (size_t i = 0; i < ARRAY_LEN(bad); i++) assert_int_equal(host_port_parse(bad[i], 0, &hp, &e), ERR_SYNTAX);
}

static void host_names_are_bounded(void **state) {
  (void)state;
  char name[300];
  memset(name, 'a', sizeof name);
  name[63] = 0;
  assert_true(host_name_is_valid(name));
  name[63] = 'a';
  name[64] = 0;
  assert_false(host_name_is_valid(name));
  for (size_t i = 0; i < sizeof name; i++) name[i] = i % 2 == 0 ? 'a' : '.';
  name[253] = 0;
  assert_true(host_name_is_valid(name));
  name[253] = '.';
  name[255] = 0;
  assert_false(host_name_is_valid(name));
  assert_true(host_is_ip("::1") && host_is_ip("1.2.3.4"));
  assert_false(host_is_ip("1.2.3") || host_is_ip("a.b"));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_label_has_its_length_and_alphabet),
      cmocka_unit_test(labels_with_anything_else_are_invalid),
      cmocka_unit_test(hex_round_trip_and_refusals),
      cmocka_unit_test(base64url_round_trip),
      cmocka_unit_test(base64url_has_one_spelling_only),
      cmocka_unit_test(a_decoder_that_fails_leaves_nothing_of_what_it_read),
      cmocka_unit_test(times_are_utc_and_always_have_a_text),
      cmocka_unit_test(numbers_are_digits_only_and_bounded),
      cmocka_unit_test(ports_are_from_1_to_65535),
      cmocka_unit_test(durations_have_units),
      cmocka_unit_test(rates_are_bytes_per_second_in_decimal_units),
      cmocka_unit_test(a_rate_is_written_as_it_can_be_read),
      cmocka_unit_test(byte_counts_for_people),
      cmocka_unit_test(what_a_terminal_would_obey_is_seen),
    cmocka_unit_test(escaped_text_is_printable_and_fits),
      cmocka_unit_test(addresses_round_trip),
      cmocka_unit_test(addresses_that_are_not_numeric_are_refused),
      cmocka_unit_test(mapped_addresses_are_normalised),
      cmocka_unit_test(a_source_is_a_v4_address_or_a_v6_64),
      cmocka_unit_test(blocks_contain_what_shares_their_bits),
      cmocka_unit_test(malformed_blocks_are_refused),
      cmocka_unit_test(host_port_takes_names_and_both_families),
      cmocka_unit_test(host_port_refuses_the_rest),
      cmocka_unit_test(host_names_are_bounded)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
