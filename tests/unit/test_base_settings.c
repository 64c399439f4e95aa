/* Lines of key = value. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/limits.h"
#include "base/settings.h"

struct seen { char text[1024]; };

static int note(void *user, const char *key, const char *value, unsigned line, struct err *e) {
  struct seen *seen = user;
  size_t used = strlen(seen->text);
  if (strcmp(key, "stop") == 0) return err_set(e, ERR_USAGE, "stop: no such setting");
  (void)snprintf(seen->text + used, sizeof seen->text - used, "%u:%s=%s;", line, key, value);
  return 0;
}

static int parse(const char *text, size_t n, struct seen *seen, struct err *e) {
  char *copy = malloc(n + 1);
  assert_non_null(copy);
  memcpy(copy, text, n);
  copy[n] = 0;
  memset(seen, 0, sizeof *seen);
  int code = settings_parse(copy, n, note, seen, e);
  free(copy);
  return code;
}

static void settings_are_trimmed_and_comments_skipped(void **state) {
  (void)state;
  static const char text[] = "a = b\n# c = d\n\t token-file\t=  x y \r\n   \n  # e\ny==z";
  struct seen seen;
  struct err e;
  assert_int_equal(parse(text, sizeof text - 1, &seen, &e), 0);
  assert_string_equal(seen.text, "1:a=b;3:token-file=x y;6:y==z;");
}

static void an_empty_file_is_fine(void **state) {
  (void)state;
  struct seen seen;
  struct err e;
  assert_int_equal(parse("", 0, &seen, &e), 0);
  assert_string_equal(seen.text, "");
}

static void what_is_no_setting_is_refused_with_its_line(void **state) {
  (void)state;
  static const struct { const char *text, *want; } cases[] = {
    {"a = b\nlisten\n", "line 2: no '=' (write: name = value)"},
    {"= b\n", "line 1: no setting's name before '=' (names are those of the options, without dashes)"},
    {"--listen = x\n", "line 1: no setting's name before '=' (names are those of the options, without dashes)"},
    {"Listen = x\n", "line 1: no setting's name before '=' (names are those of the options, without dashes)"},
    {"\n\nlisten =  \n", "line 3: listen has no value (write: name = value)"},
    {"stop = 1\n", "line 1: stop: no such setting"},
  };
  for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
    struct seen seen;
    struct err e;
    assert_true(parse(cases[i].text, strlen(cases[i].text), &seen, &e) < 0);
    assert_string_equal(e.text, cases[i].want);
  }
}

static void nul_bytes_are_refused(void **state) {
  (void)state;
  struct seen seen;
  struct err e;
  assert_int_equal(parse("a = b\0c\n", 8, &seen, &e), ERR_SYNTAX);
  assert_string_equal(e.text, "line 1: a NUL byte (this is not a text file)");
}

static void a_text_that_is_too_long_is_refused(void **state) {
  (void)state;
  char *text = malloc(CONFIG_FILE_MAX_BYTES + 2);
  struct seen seen;
  struct err e;
  assert_non_null(text);
  memset(text, '\n', CONFIG_FILE_MAX_BYTES + 1);
  assert_int_equal(parse(text, CONFIG_FILE_MAX_BYTES + 1, &seen, &e), ERR_LIMIT);
  assert_int_equal(parse(text, CONFIG_FILE_MAX_BYTES, &seen, &e), 0);
  free(text);
}

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(settings_are_trimmed_and_comments_skipped),
    cmocka_unit_test(an_empty_file_is_fine),
    cmocka_unit_test(what_is_no_setting_is_refused_with_its_line),
    cmocka_unit_test(nul_bytes_are_refused),
    cmocka_unit_test(a_text_that_is_too_long_is_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
