/* JSON as the command line writes and reads it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/json_text.h"
#include "cli/json.h"
#include "cli/tell.h"

static void assert_written(const char *text, const char *want) {
  char *out = NULL;
  size_t n = 0;
  FILE *f = open_memstream(&out, &n);
  json_put_text(f, text);
  (void)fclose(f);
  assert_string_equal(out, want);
  free(out);
}

static void texts_are_escaped(void **state) {
  (void)state;
  assert_written(NULL, "null");
  assert_written("", "\"\"");
  assert_written("a\"b\\c\n\x7f", "\"a\\\"b\\\\c\\u000a\\u007f\"");
  assert_written("gr\xc3\xbc\xc3\x9f", "\"gr\xc3\xbc\xc3\x9f\"");
}

static void bytes_that_are_not_utf8_are_replaced(void **state) {
  (void)state;
  assert_written("\xff", "\"\\ufffd\"");
  assert_written("\xc3", "\"\\ufffd\"");
  assert_written("\xc0\xaf", "\"\\ufffd\\ufffd\"");
  assert_written("\xed\xa0\x80", "\"\\ufffd\\ufffd\\ufffd\"");
  assert_written("\xf4\x90\x80\x80", "\"\\ufffd\\ufffd\\ufffd\\ufffd\"");
}

static void members_and_elements_are_found(void **state) {
  (void)state;
  static const char text[] = " {\"a\": {\"b\" :[1, 2,\"}]\\\"\"]} ,\"n\":42, \"t\":true,\"s\":\"x\\\"\\u00e9y\"} \n";
  struct json top = json_of(text, sizeof text - 1), value;
  struct json list = json_member(json_member(top, "a"), "b");
  const char *at = NULL;
  uint64_t sum = 0;
  size_t count = 0;
  while (json_next(list, &at, NULL, &value)) {
    sum += json_u64(value);
    count++;
  }
  assert_int_equal(count, 3);
  assert_int_equal(sum, 3);
  assert_int_equal(json_u64(json_member(top, "n")), 42);
  assert_true(json_is_true(json_member(top, "t")));
  char s[16];
  json_text(json_member(top, "s"), s, sizeof s);
  assert_string_equal(s, "x\"?y");
  json_text(json_member(top, "s"), s, 3);
  assert_string_equal(s, "x\"");
}

static void what_is_malformed_or_missing_is_nothing(void **state) {
  (void)state;
  static const char *const bad[] = {"", " ", "{", "[1,2", "\"abc", "\"abc\\", "{} x", "{\"a\":[}",
                                    "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]"};
  for (size_t i = 0; i < ARRAY_LEN(bad); i++) assert_null(json_of(bad[i], strlen(bad[i])).at);
  static const char *const odd[] = {"{}", "[]", "{\"a\"}", "{\"a\":}", "{a:1}", "{\"a\" 1}", "5", "\"a\""};
  for (size_t i = 0; i < ARRAY_LEN(odd); i++) {
    struct json v = json_member(json_of(odd[i], strlen(odd[i])), "a");
    char s[8] = "x";
    assert_null(v.at);
    assert_int_equal(json_u64(v), 0);
    assert_false(json_is_true(v));
    json_text(v, s, sizeof s);
    assert_string_equal(s, "");
  }
}

static void numbers_that_are_none_read_as_zero(void **state) {
  (void)state;
  static const char *const bad[] = {"-1", "1.5", "99999999999999999999999", "true", "\"7\"", "[]"};
  for (size_t i = 0; i < ARRAY_LEN(bad); i++) assert_int_equal(json_u64(json_of(bad[i], strlen(bad[i]))), 0);
}

static void the_open_event_has_the_promised_form(void **state) {
  (void)state;
  struct tell_open open = {.app = {.text = "localhost:8000", .port = 8000},
                           .url = "https://l.r.test:8443",
                           .host = "l.r.test",
                           .relay = "r.test",
                           .port = 8443};
  char *out = NULL;
  size_t n = 0;
  FILE *f = open_memstream(&out, &n);
  tell_open_json(f, &open, 4.25);
  open.tcp_host = "r.test";
  open.tcp_port = 20001;
  open.relay = NULL;
  open.relay_socket = "unix:/home/me/relay-1.sock";
  open.embedded = true;
  open.app = (struct tell_app){.text = "unix:/run/app.sock", .name = "web"};
  tell_open_json(f, &open, 10);
  (void)fclose(f);
  assert_string_equal(out,
                      "{\"event\":\"open\",\"port\":8000,\"url\":\"https://"
                      "l.r.test:8443\",\"tls_socket\":[\"l.r.test\",8443],\"tcp_socket\":null,\"relay\":\"r.test\","
                      "\"relay_socket\":null,\"embedded\":false,\"open_ms\":4.2,"
                      "\"app\":\"localhost:8000\",\"name\":null}\n"
                      "{\"event\":\"open\",\"port\":null,\"url\":\"https://"
                      "l.r.test:8443\",\"tls_socket\":[\"l.r.test\",8443],\"tcp_socket\":[\"r.test\",20001],\"relay\":"
                      "null,\"relay_socket\":\"unix:/home/me/relay-1.sock\",\"embedded\":true,\"open_ms\":10.0,"
                      "\"app\":\"unix:/run/app.sock\",\"name\":\"web\"}\n");
  free(out);
}

static void shell_words_are_quoted_when_they_must_be(void **state) {
  (void)state;
  static const struct { const char *text, *want; } cases[] = {
    {"/root/.local/state/adit/embedded/authority.pem", "/root/.local/state/adit/embedded/authority.pem"},
    {"/a b/$c", "'/a b/$c'"}, {"it's", "'it'\\''s'"}, {"", "''"},
  };
  for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
    char *out = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&out, &n);
    tell_shell_word(f, cases[i].text);
    (void)fclose(f);
    assert_string_equal(out, cases[i].want);
    free(out);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(texts_are_escaped),
    cmocka_unit_test(bytes_that_are_not_utf8_are_replaced),
    cmocka_unit_test(members_and_elements_are_found),
    cmocka_unit_test(what_is_malformed_or_missing_is_nothing),
    cmocka_unit_test(numbers_that_are_none_read_as_zero),
    cmocka_unit_test(the_open_event_has_the_promised_form),
    cmocka_unit_test(shell_words_are_quoted_when_they_must_be),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
