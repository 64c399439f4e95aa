/* What relay and key process say to each other: it comes through whole, and what nobody would say is refused. */
#include "cm.h"

#include <string.h>

#include "relay/key_wire.h"

static uint8_t frame[KEY_FRAME_HEADER_BYTES + KEY_REQUEST_MAX_BYTES];
static size_t frame_n;

static int read_back(struct key_request *out) {
  assert_int_equal(frame[0] << 16 | frame[1] << 8 | frame[2], frame_n - KEY_FRAME_HEADER_BYTES);
  return key_request_read(frame + KEY_FRAME_HEADER_BYTES, frame_n - KEY_FRAME_HEADER_BYTES, out);
}

static struct ticket some_ticket(void) {
  return (struct ticket){.relay = "r1.test", .owner = {7}, .label = "abcdefghijklmnopqrstuvwx", .tcp_port = 20000,
                         .incarnation = 3, .expires_s = 1900000000};
}

static void assert_ticket_is(const struct ticket *t, const struct ticket *want) {
  assert_string_equal(t->relay, want->relay);
  assert_memory_equal(t->owner, want->owner, sizeof t->owner);
  assert_string_equal(t->label, want->label);
  assert_int_equal(t->tcp_port, want->tcp_port);
  assert_int_equal(t->incarnation, want->incarnation);
  assert_int_equal(t->expires_s, want->expires_s);
}

static void a_request_to_sign_comes_through(void **unused) {
  (void)unused;
  uint8_t text[SIGN_TEXT_MAX_BYTES];
  struct key_request r = {.kind = KEY_SIGN, .handle = 9, .scheme = {SIGN_SHA384, SIGN_PSS}, .text = text,
                          .text_n = sizeof text}, out;
  memset(text, 5, sizeof text);
  assert_int_equal(key_request_write(&r, frame, &frame_n), 0);
  assert_int_equal(read_back(&out), 0);
  assert_int_equal(out.handle, 9);
  assert_int_equal(out.scheme.hash, SIGN_SHA384);
  assert_int_equal(out.scheme.padding, SIGN_PSS);
  assert_int_equal(out.text_n, sizeof text);
  assert_memory_equal(out.text, text, sizeof text);
}

static void requests_about_certificates_and_tickets_come_through(void **unused) {
  (void)unused;
  struct key_request out, issue = {.kind = KEY_ISSUE, .host = "x.r1.test"},
                          make = {.kind = KEY_TICKET_MAKE, .ticket = some_ticket()};
  assert_int_equal(key_request_write(&issue, frame, &frame_n), 0);
  assert_int_equal(read_back(&out), 0);
  assert_string_equal(out.host, "x.r1.test");
  assert_int_equal(key_request_write(&make, frame, &frame_n), 0);
  assert_int_equal(read_back(&out), 0);
  assert_ticket_is(&out.ticket, &make.ticket);
}

static void a_request_that_is_none_is_refused(void **unused) {
  (void)unused;
  struct key_request r = {.kind = KEY_DROP, .handle = 1}, out;
  assert_int_equal(key_request_write(&r, frame, &frame_n), 0);
  for (size_t n = 0; n < frame_n - KEY_FRAME_HEADER_BYTES; n++)
    assert_int_equal(key_request_read(frame + KEY_FRAME_HEADER_BYTES, n, &out), ERR_SYNTAX);
  frame[frame_n++] = 0;            /* something behind it */
  assert_int_equal(key_request_read(frame + KEY_FRAME_HEADER_BYTES, frame_n - KEY_FRAME_HEADER_BYTES, &out),
                   ERR_SYNTAX);
  frame[KEY_FRAME_HEADER_BYTES] = KEY_TICKET_READ + 1;
  assert_int_equal(key_request_read(frame + KEY_FRAME_HEADER_BYTES, frame_n - 1 - KEY_FRAME_HEADER_BYTES, &out),
                   ERR_SYNTAX);
}

static void schemes_that_there_are_not_and_texts_that_are_too_long_are_refused(void **unused) {
  (void)unused;
  uint8_t text[SIGN_TEXT_MAX_BYTES + 1] = {0};
  struct key_request r = {.kind = KEY_SIGN, .scheme = {SIGN_HASHES, SIGN_PSS}, .text = text, .text_n = 1}, out;
  assert_int_equal(key_request_write(&r, frame, &frame_n), 0);
  assert_int_equal(read_back(&out), ERR_SYNTAX);
  r.scheme = (struct sign_scheme){SIGN_SHA256, SIGN_PADDINGS};
  assert_int_equal(key_request_write(&r, frame, &frame_n), 0);
  assert_int_equal(read_back(&out), ERR_SYNTAX);
  r.scheme = (struct sign_scheme){SIGN_SHA256, SIGN_PSS};
  r.text_n = sizeof text;
  assert_int_equal(key_request_write(&r, frame, &frame_n), 0);
  assert_int_equal(read_back(&out), ERR_SYNTAX);
}

static void an_answer_comes_through(void **unused) {
  (void)unused;
  struct buf b;
  struct key_answer a = {.handle = 4, .pin = {.kind = PIN_SPKI_SHA256, .spki_sha256 = {1, 2}},
                         .bytes = (const uint8_t *)"chain", .n = 5, .ticket = some_ticket()}, out;
  buf_init(&b, KEY_FRAME_HEADER_BYTES + KEY_ANSWER_MAX_BYTES);
  assert_int_equal(key_answer_write(&a, &b), 0);
  assert_int_equal(key_answer_read(buf_data(&b) + KEY_FRAME_HEADER_BYTES, b.len - KEY_FRAME_HEADER_BYTES, &out), 0);
  assert_int_equal(out.code, 0);
  assert_int_equal(out.handle, 4);
  assert_memory_equal(&out.pin, &a.pin, sizeof out.pin);
  assert_int_equal(out.n, 5);
  assert_memory_equal(out.bytes, "chain", 5);
  assert_ticket_is(&out.ticket, &a.ticket);
  buf_free(&b);
}

static void a_failure_comes_through_with_its_text(void **unused) {
  (void)unused;
  struct buf b;
  struct key_answer a = {.code = ERR_AUTH, .error = "key.pem: no"}, out;
  buf_init(&b, KEY_FRAME_HEADER_BYTES + KEY_ANSWER_MAX_BYTES);
  assert_int_equal(key_answer_write(&a, &b), 0);
  assert_int_equal(key_answer_read(buf_data(&b) + KEY_FRAME_HEADER_BYTES, b.len - KEY_FRAME_HEADER_BYTES, &out), 0);
  assert_int_equal(out.code, ERR_AUTH);
  assert_string_equal(out.error, "key.pem: no");
  buf_data(&b)[KEY_FRAME_HEADER_BYTES] = 0xff;   /* a code that there is not */
  assert_int_equal(key_answer_read(buf_data(&b) + KEY_FRAME_HEADER_BYTES, b.len - KEY_FRAME_HEADER_BYTES, &out),
                   ERR_SYNTAX);
  buf_free(&b);
}

static size_t whole(struct buf *b, const uint8_t *p, size_t n) {
  size_t length = 99;
  buf_cut(b, 0);
  assert_int_equal(buf_append(b, p, n), 0);
  assert_int_equal(key_frame_whole(b, 4, &length), 0);
  return length;
}

static void a_frame_is_whole_when_all_of_it_is_there_and_of_no_other_length(void **unused) {
  (void)unused;
  static const uint8_t two[] = {0, 0, 4, 'a', 'b', 'c', 'd', 0, 0, 1, 'e'}, empty[] = {0, 0, 0, 1};
  static const uint8_t longer[] = {0, 0, 5};
  struct buf b;
  size_t length;
  buf_init(&b, 64);
  for (size_t n = 1; n < 7; n++) assert_int_equal(whole(&b, two, n), 0);
  for (size_t n = 7; n <= sizeof two; n++) assert_int_equal(whole(&b, two, n), 7);
  buf_consume(&b, 7);
  assert_int_equal(key_frame_whole(&b, 4, &length), 0);
  assert_int_equal(length, 4);
  buf_cut(&b, 0);
  assert_int_equal(buf_append(&b, empty, sizeof empty), 0);
  assert_int_equal(key_frame_whole(&b, 4, &length), ERR_SYNTAX);
  buf_cut(&b, 0);
  assert_int_equal(buf_append(&b, longer, sizeof longer), 0);
  assert_int_equal(key_frame_whole(&b, 4, &length), ERR_SYNTAX);
  buf_free(&b);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_request_to_sign_comes_through),
      cmocka_unit_test(requests_about_certificates_and_tickets_come_through),
      cmocka_unit_test(a_request_that_is_none_is_refused),
      cmocka_unit_test(schemes_that_there_are_not_and_texts_that_are_too_long_are_refused),
      cmocka_unit_test(an_answer_comes_through),
      cmocka_unit_test(a_failure_comes_through_with_its_text),
      cmocka_unit_test(a_frame_is_whole_when_all_of_it_is_there_and_of_no_other_length),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
