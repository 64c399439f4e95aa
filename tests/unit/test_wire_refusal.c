/* Refusals have names and texts for people; ALPN lists hold only what may be selected. */
#include "cm.h"

#include <string.h>

#include "wire/frame.h"

static void every_refusal_has_a_name_and_says_what_to_do(void **state) {
  (void)state;
  for (int r = 0; r <= REFUSE_LAST; r++) {
    const char *name = refusal_name((enum refusal)r), *text = refusal_text((enum refusal)r);
    assert_true(strlen(name) > 0 && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_") == strlen(name));
    assert_non_null(strstr(text, " ("));
    assert_int_equal(text[strlen(text) - 1], ')');
    for (int other = 0; other < r; other++) assert_string_not_equal(name, refusal_name((enum refusal)other));
  }
}

static void a_reason_of_a_later_version_is_not_final(void **state) {
  (void)state;
  assert_string_equal(refusal_name((enum refusal)(REFUSE_LAST + 1)), "unknown");
  assert_string_equal(refusal_name((enum refusal)65535), "unknown");
  assert_false(refusal_is_final((enum refusal)65535));
}

static void what_is_told_is_the_text_that_came_or_ours_with_the_number_of_what_is_unknown(void **state) {
  (void)state;
  char text[256];
  refusal_explain(REFUSE_STATE, "", text, sizeof text);
  assert_string_equal(text, refusal_text(REFUSE_STATE));
  refusal_explain(REFUSE_STATE, "the disk is full", text, sizeof text);
  assert_string_equal(text, "the disk is full");
  refusal_explain((enum refusal)4711, "", text, sizeof text);
  assert_non_null(strstr(text, "4711"));
  assert_non_null(strstr(text, "(update the agent)"));
  refusal_explain((enum refusal)4711, "no more room", text, sizeof text);
  assert_non_null(strstr(text, "no more room"));
  assert_non_null(strstr(text, "4711"));
  refusal_explain((enum refusal)65535, "no more room", text, 8);
  assert_string_equal(text, "no more");
}

static void only_what_passes_by_itself_is_tried_again(void **state) {
  (void)state;
  assert_false(refusal_is_final(REFUSE_DRAINING));
  assert_false(refusal_is_final(REFUSE_INTERNAL));
  assert_false(refusal_is_final(REFUSE_STATE));
  assert_false(refusal_is_final(REFUSE_PORTS_EXHAUSTED));
  assert_true(refusal_is_final(REFUSE_SUPERSEDED));
  assert_true(refusal_is_final(REFUSE_TOKEN_REVOKED));
  assert_true(refusal_is_final(REFUSE_TOKEN_EXPIRED));
}

static void alpn_text_becomes_a_wire_list(void **state) {
  (void)state;
  uint8_t out[ALPN_LIST_MAX_BYTES];
  size_t n;
  assert_int_equal(alpn_parse("http/1.1,h2", out, sizeof out, &n, NULL), 0);
  assert_int_equal(n, 12);
  assert_memory_equal(out, "\x08http/1.1\x02h2", 12);
  assert_int_equal(alpn_check(out, n), 0);
  assert_true(alpn_contains(out, n, "h2"));
  assert_true(alpn_contains(out, n, "http/1.1"));
  assert_false(alpn_contains(out, n, "http/1."));
  assert_false(alpn_contains(out, n, "h"));
}

static void alpn_text_that_cannot_be_is_refused_with_a_reason(void **state) {
  (void)state;
  static const char *const bad[] = {"", ",", "h2,", ",h2", "h2,,x", "h 2", "h2\n", "acme-tls/1", "h2,adit/1",
      "adit-data/1", "\xc3\xa9"};
  uint8_t out[ALPN_LIST_MAX_BYTES];
  size_t n;
  struct err e;
  for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
    assert_true(alpn_parse(bad[i], out, sizeof out, &n, &e) < 0);
    assert_int_equal(n, 0);
    assert_non_null(strchr(e.text, '('));
  }
  assert_int_equal(alpn_parse("http/1.1,h2", out, 11, &n, &e), ERR_LIMIT);
  char text[600];
  memset(text, 'a', sizeof text);
  text[254] = 0;
  assert_int_equal(alpn_parse(text, out, sizeof out, &n, &e), 0);
  text[254] = 'a';
  text[255] = 0;
  assert_int_equal(alpn_parse(text, out, sizeof out, &n, &e), ERR_LIMIT);
  text[255] = 'a';
  text[599] = 0;
  assert_int_equal(alpn_parse(text, out, sizeof out, &n, &e), ERR_LIMIT);
}

static void alpn_lists_from_the_wire_are_checked(void **state) {
  (void)state;
  uint8_t list[300];
  assert_int_equal(alpn_check(NULL, 0), 0);
  assert_int_equal(alpn_check((const uint8_t *)"\x02h2", 3), 0);
  assert_int_equal(alpn_check((const uint8_t *)"\x02h", 2), ERR_SYNTAX);
  assert_int_equal(alpn_check((const uint8_t *)"\x00", 1), ERR_SYNTAX);
  assert_int_equal(alpn_check((const uint8_t *)"\x0a" "acme-tls/1", 11), ERR_SYNTAX);
  assert_int_equal(alpn_check((const uint8_t *)"\x04" "adit", 5), ERR_SYNTAX);
  assert_int_equal(alpn_check((const uint8_t *)"\x03" "adi", 4), 0);
  memset(list, 1, sizeof list);
  assert_int_equal(alpn_check(list, 254), 0);
  assert_int_equal(alpn_check(list, 256), ERR_SYNTAX);
}

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(every_refusal_has_a_name_and_says_what_to_do),
    cmocka_unit_test(a_reason_of_a_later_version_is_not_final),
    cmocka_unit_test(what_is_told_is_the_text_that_came_or_ours_with_the_number_of_what_is_unknown),
    cmocka_unit_test(only_what_passes_by_itself_is_tried_again),
    cmocka_unit_test(alpn_text_becomes_a_wire_list),
    cmocka_unit_test(alpn_text_that_cannot_be_is_refused_with_a_reason),
    cmocka_unit_test(alpn_lists_from_the_wire_are_checked),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
