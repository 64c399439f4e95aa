/* The parser of the first ClientHello, on messages built here field by field. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "base/cursor.h"
#include "tls/client_hello.h"
#include "tls/suite.h"

struct hello {                     /* what goes into a message; all optional */
  const char *sni;
  size_t sni_n;                    /* 0: strlen */
  const char *alpn;                /* wire format */
  size_t alpn_n;
  bool tls13, sni_twice, no_extensions, trailing_byte;
  uint16_t empty[3];               /* extensions of these types without a body, until 0 */
  size_t padding;
};

static void write_sni(struct writer *w, const struct hello *h) {
  write_u16(w, 0);
  size_t extension = write_open_vec(w, 2), list = write_open_vec(w, 2);
  write_u8(w, 0);
  write_vec16(w, h->sni, h->sni_n > 0 ? h->sni_n : strlen(h->sni));
  write_close_vec(w, list, 2);
  write_close_vec(w, extension, 2);
}

static void write_extensions(struct writer *w, const struct hello *h) {
  size_t all = write_open_vec(w, 2);
  if (h->sni != NULL) write_sni(w, h);
  if (h->sni_twice) write_sni(w, h);
  if (h->alpn != NULL) {
    write_u16(w, 16);
    size_t extension = write_open_vec(w, 2);
    write_vec16(w, h->alpn, h->alpn_n);
    write_close_vec(w, extension, 2);
  }
  for (size_t i = 0; i < ARRAY_LEN(h->empty) && h->empty[i] != 0; i++) {
    write_u16(w, h->empty[i]);
    write_u16(w, 0);
  }
  if (h->tls13) write_bytes(w, "\x00\x2b\x00\x05\x04\x03\x04\x03\x03", 9);
  if (h->padding > 0) {
    write_u16(w, 21);
    size_t extension = write_open_vec(w, 2);
    memset(write_skip(w, h->padding), 0, h->padding);
    write_close_vec(w, extension, 2);
  }
  write_close_vec(w, all, 2);
}

/* The handshake message. */
static size_t build(const struct hello *h, uint8_t *out, size_t cap) {
  struct writer w = writer_of(out, cap);
  write_u8(&w, 1);
  size_t body = write_open_vec(&w, 3);
  write_u16(&w, 0x0303);
  memset(write_skip(&w, 32), 7, 32);
  write_vec8(&w, NULL, 0);
  write_vec16(&w, "\x13\x01", 2);
  write_vec8(&w, "\x00", 1);
  if (!h->no_extensions) write_extensions(&w, h);
  if (h->trailing_byte) write_u8(&w, 0);
  write_close_vec(&w, body, 3);
  assert_false(w.bad);
  return w.len;
}

static uint8_t message[70000], wire[140000];

/* As records of at most `piece` bytes. */
static size_t frame(const uint8_t *p, size_t n, size_t piece) {
  size_t len = 0;
  while (n > 0) {
    size_t take = size_min(n, piece);
    const uint8_t header[] = {22, 3, 1, (uint8_t)(take >> 8), (uint8_t)take};
    memcpy(wire + len, header, sizeof header);
    memcpy(wire + len + sizeof header, p, take);
    len += sizeof header + take;
    p += take;
    n -= take;
  }
  return len;
}

/* Feeds no more than is wanted, in pieces; returns what client_hello_feed did last. */
static int feed(struct client_hello *ch, size_t len, size_t piece, uint8_t *alert) {
  int rc = 0;
  client_hello_init(ch);
  for (size_t at = 0; at < len && rc == 0 && !ch->complete;) {
    size_t take = size_min(size_min(piece, client_hello_want(ch)), len - at);
    assert_true(take > 0);
    rc = client_hello_feed(ch, wire + at, take, alert);
    at += take;
  }
  return rc;
}

static void accepted(struct client_hello *ch, const struct hello *h) {
  uint8_t alert;
  size_t len = frame(message, build(h, message, sizeof message), RECORD_PLAIN_MAX);
  assert_int_equal(feed(ch, len, 100000, &alert), 0);
  assert_true(ch->complete);
}

static void refused(const struct hello *h, uint8_t expected) {
  struct client_hello ch;
  uint8_t alert = 0;
  size_t len = frame(message, build(h, message, sizeof message), RECORD_PLAIN_MAX);
  assert_true(feed(&ch, len, 100000, &alert) < 0);
  assert_int_equal(alert, expected);
  assert_false(ch.complete);
  client_hello_free(&ch);
}

static void a_hello_is_understood_in_any_cut_over_segments_and_records(void **state) {
  (void)state;
  const struct hello h = {.sni = "AbC.Example.COM.", .alpn = "\x02h2\x08http/1.1", .alpn_n = 12, .tls13 = true};
  const size_t record_pieces[] = {1, 6, 7, 50, RECORD_PLAIN_MAX}, segments[] = {1, 3, 100000};
  size_t n = build(&h, message, sizeof message);
  for (size_t i = 0; i < ARRAY_LEN(record_pieces); i++) {
    for (size_t j = 0; j < ARRAY_LEN(segments); j++) {
      struct client_hello ch;
      uint8_t alert;
      size_t len = frame(message, n, record_pieces[i]);
      assert_int_equal(feed(&ch, len, segments[j], &alert), 0);
      assert_true(ch.complete);
      assert_int_equal(client_hello_want(&ch), 0);
      assert_true(ch.has_sni);
      assert_string_equal(ch.sni, "abc.example.com");
      assert_true(ch.offers_tls13);
      assert_true(client_hello_offers_alpn(&ch, "h2"));
      assert_true(client_hello_offers_alpn(&ch, "http/1.1"));
      assert_false(client_hello_offers_alpn(&ch, "http/1"));
      assert_int_equal(ch.raw.len, len);
      assert_memory_equal(buf_data(&ch.raw), wire, len);
      client_hello_free(&ch);
    }
  }
}

static void a_hello_without_extensions_names_nothing(void **state) {
  (void)state;
  struct client_hello ch;
  accepted(&ch, &(struct hello){.no_extensions = true});
  assert_false(ch.has_sni);
  assert_false(ch.has_alpn);
  assert_false(ch.offers_tls13);
  client_hello_free(&ch);
}

static void a_name_that_is_no_dns_name_is_empty(void **state) {
  (void)state;
  static const struct { const char *name; size_t n; } names[] = {
    {"a\0b.example.com", 15}, {"under_score!.example", 0}, {"..", 0}, {".", 0}, {"a..b", 0}, {"-a.example", 0}};
  for (size_t i = 0; i < ARRAY_LEN(names); i++) {
    struct client_hello ch;
    accepted(&ch, &(struct hello){.sni = names[i].name, .sni_n = names[i].n});
    assert_true(ch.has_sni);
    assert_string_equal(ch.sni, "");
    client_hello_free(&ch);
  }
}

static void a_second_server_name_extension_is_an_illegal_parameter(void **state) {
  (void)state;
  refused(&(struct hello){.sni = "a.example", .sni_twice = true}, ALERT_ILLEGAL_PARAMETER);
}

static void no_extension_comes_twice_whether_anybody_knows_it_or_not(void **state) {
  (void)state;
  struct client_hello ch;
  accepted(&ch, &(struct hello){.sni = "a.example", .tls13 = true, .empty = {0x0a0a, 0x1a1a, 0xffff}});
  client_hello_free(&ch);
  refused(&(struct hello){.sni = "a.example", .tls13 = true, .empty = {0x0a0a, 0x1a1a, 0x0a0a}},
          ALERT_ILLEGAL_PARAMETER);
  refused(&(struct hello){.sni = "a.example", .tls13 = true, .empty = {0xffff, 0xffff}}, ALERT_ILLEGAL_PARAMETER);
  refused(&(struct hello){.sni = "a.example", .empty = {23, 35, 23}}, ALERT_ILLEGAL_PARAMETER);
}

static void malformed_messages_are_decode_errors(void **state) {
  (void)state;
  refused(&(struct hello){.sni = "a.example", .trailing_byte = true}, ALERT_DECODE_ERROR);
  refused(&(struct hello){.alpn = "\x00", .alpn_n = 1}, ALERT_DECODE_ERROR);
  refused(&(struct hello){.alpn = "\x05h2", .alpn_n = 3}, ALERT_DECODE_ERROR);
  refused(&(struct hello){.alpn = "", .alpn_n = 0}, ALERT_DECODE_ERROR);
}

static void every_truncation_of_the_message_is_a_decode_error(void **state) {
  (void)state;
  const struct hello h = {.sni = "a.example", .alpn = "\x02h2", .alpn_n = 3, .tls13 = true};
  size_t n = build(&h, message, sizeof message);
  for (size_t cut = 4; cut < n; cut++) {
    struct client_hello ch;
    uint8_t alert = 0;
    message[1] = 0;
    message[2] = (uint8_t)((cut - 4) >> 8);
    message[3] = (uint8_t)(cut - 4);
    int rc = feed(&ch, frame(message, cut, RECORD_PLAIN_MAX), 100000, &alert);
    /* The cut right before the extensions is a whole message of before TLS 1.3. */
    if (cut == 4 + 2 + 32 + 1 + 4 + 2) {
      assert_int_equal(rc, 0);
    } else {
      assert_int_equal(rc, ERR_SYNTAX);
      assert_int_equal(alert, ALERT_DECODE_ERROR);
    }
    client_hello_free(&ch);
  }
}

static void bytes_after_the_message_in_its_record_are_unexpected(void **state) {
  (void)state;
  struct client_hello ch;
  uint8_t alert = 0;
  size_t n = build(&(struct hello){.sni = "a.example"}, message, sizeof message);
  message[n] = 0;
  assert_int_equal(feed(&ch, frame(message, n + 1, RECORD_PLAIN_MAX), 100000, &alert), ERR_SYNTAX);
  assert_int_equal(alert, ALERT_UNEXPECTED_MESSAGE);
  client_hello_free(&ch);
}

static void bytes_after_completion_are_refused(void **state) {
  (void)state;
  struct client_hello ch;
  uint8_t alert = 0;
  accepted(&ch, &(struct hello){.sni = "a.example"});
  assert_int_equal(client_hello_feed(&ch, wire, 1, &alert), ERR_SYNTAX);
  client_hello_free(&ch);
}

static void the_bytes_are_bounded_and_not_the_records(void **state) {
  (void)state;
  struct client_hello ch;
  uint8_t alert = 0;
  accepted(&ch, &(struct hello){.sni = "a.example", .padding = 30000});
  client_hello_free(&ch);
  refused(&(struct hello){.sni = "a.example", .padding = 33000}, ALERT_RECORD_OVERFLOW);
  size_t most = CLIENT_HELLO_MAX_BYTES / (RECORD_HEADER_BYTES + 1);
  size_t bare = build(&(struct hello){.sni = "a.example"}, message, sizeof message);
  for (size_t over = 0; over <= 1; over++) {
    const struct hello h = {.sni = "a.example", .padding = most - bare - 4 + over};
    size_t n = build(&h, message, sizeof message);
    assert_int_equal(n, most + over);
    assert_int_equal(feed(&ch, frame(message, n, 1), 100000, &alert), over ? ERR_LIMIT : 0);
    assert_int_equal(ch.complete, !over);
    if (over) assert_int_equal(alert, ALERT_RECORD_OVERFLOW);
    client_hello_free(&ch);
  }
}

static void refused_header(const uint8_t header[5], uint8_t expected) {
  struct client_hello ch;
  uint8_t alert = 0;
  client_hello_init(&ch);
  assert_true(client_hello_feed(&ch, header, 5, &alert) < 0);
  assert_int_equal(alert, expected);
  client_hello_free(&ch);
}

static void records_that_are_not_a_handshake_are_refused_by_their_header(void **state) {
  (void)state;
  refused_header((const uint8_t[]){23, 3, 3, 0, 9}, ALERT_UNEXPECTED_MESSAGE);
  refused_header((const uint8_t[]){22, 3, 1, 0, 0}, ALERT_UNEXPECTED_MESSAGE);
  refused_header((const uint8_t[]){22, 2, 1, 0, 9}, ALERT_PROTOCOL_VERSION);
  refused_header((const uint8_t[]){22, 3, 1, 0x40, 0x01}, ALERT_RECORD_OVERFLOW);
}

static void another_handshake_message_is_unexpected(void **state) {
  (void)state;
  struct client_hello ch;
  uint8_t alert = 0;
  build(&(struct hello){.sni = "a.example"}, message, sizeof message);
  message[0] = 2;
  assert_int_equal(feed(&ch, frame(message, 60, RECORD_PLAIN_MAX), 100000, &alert), ERR_SYNTAX);
  assert_int_equal(alert, ALERT_UNEXPECTED_MESSAGE);
  client_hello_free(&ch);
}

static void a_long_alpn_offer_is_cut_at_an_entry(void **state) {
  (void)state;
  static char list[3000];
  struct client_hello ch;
  for (size_t i = 0; i < sizeof list; i += 100) {
    memset(list + i, 'a', 100);
    list[i] = 99;
  }
  accepted(&ch, &(struct hello){.alpn = list, .alpn_n = sizeof list});
  assert_int_equal(ch.alpn_n, 1000);
  client_hello_free(&ch);
}

static void a_plain_alert_is_seven_bytes(void **state) {
  (void)state;
  uint8_t out[PLAIN_ALERT_BYTES];
  tls_plain_alert(ALERT_UNRECOGNIZED_NAME, out);
  assert_memory_equal(out, "\x15\x03\x03\x00\x02\x02\x70", sizeof out);
}

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(a_hello_is_understood_in_any_cut_over_segments_and_records),
    cmocka_unit_test(a_hello_without_extensions_names_nothing),
    cmocka_unit_test(a_name_that_is_no_dns_name_is_empty),
    cmocka_unit_test(a_second_server_name_extension_is_an_illegal_parameter),
    cmocka_unit_test(no_extension_comes_twice_whether_anybody_knows_it_or_not),
    cmocka_unit_test(malformed_messages_are_decode_errors),
    cmocka_unit_test(every_truncation_of_the_message_is_a_decode_error),
    cmocka_unit_test(bytes_after_the_message_in_its_record_are_unexpected),
    cmocka_unit_test(bytes_after_completion_are_refused),
    cmocka_unit_test(the_bytes_are_bounded_and_not_the_records),
    cmocka_unit_test(records_that_are_not_a_handshake_are_refused_by_their_header),
    cmocka_unit_test(another_handshake_message_is_unexpected),
    cmocka_unit_test(a_long_alpn_offer_is_cut_at_an_entry),
    cmocka_unit_test(a_plain_alert_is_seven_bytes),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
