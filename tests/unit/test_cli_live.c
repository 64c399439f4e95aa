/* The live line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "cli/live.h"

static void the_line_tells_visitors_bytes_rates_and_link(void **state) {
  (void)state;
  struct live l = {.link = LIVE_UP};
  char line[256];
  live_update(&l, 1000, 2, 17, 0, 0);
  live_update(&l, 3000, 1, 18, 1500000, 400);
  live_format(&l, 200, line, sizeof line);
  assert_string_equal(line, "link up | 1 visitor, 18 in all | to app 1.5 MB, 750.0 kB/s | from app 400 B, 200 B/s");
}

static void an_early_redraw_keeps_the_rates(void **state) {
  (void)state;
  struct live l = {0};
  live_update(&l, 1000, 0, 0, 0, 0);
  live_update(&l, 2000, 1, 1, 1000, 0);
  assert_int_equal(l.to_app_per_s, 1000);
  live_update(&l, 2001, 2, 2, 900000, 0);
  assert_int_equal(l.to_app_per_s, 1000);
  assert_int_equal(l.visitors_now, 2);
}

static void counts_that_shrink_are_no_rate(void **state) {
  (void)state;
  struct live l = {0};
  live_update(&l, 1000, 0, 0, 5000, 5000);
  live_update(&l, 2000, 0, 0, 10, UINT64_MAX);
  assert_int_equal(l.to_app_per_s, 0);
  assert_true(l.from_app_per_s > 0);
}

static void the_line_never_reaches_the_last_column(void **state) {
  (void)state;
  struct live l = {.link = LIVE_RECONNECTING, .visitors_now = UINT64_MAX, .visitors_total = UINT64_MAX,
                   .to_app_bytes = UINT64_MAX, .from_app_bytes = UINT64_MAX, .to_app_per_s = UINT64_MAX};
  char line[256];
  for (unsigned columns = 0; columns < 260; columns++) {
    live_format(&l, columns, line, sizeof line);
    assert_true(strlen(line) == 0 || strlen(line) < columns);
  }
  live_format(&l, 40, line, sizeof line);
  assert_string_equal(line, "link lost, reconnecting");
}

static void a_small_buffer_is_never_overrun(void **state) {
  (void)state;
  struct live l = {.link = LIVE_UP};
  char line[16];
  memset(line, 'x', sizeof line);
  live_format(&l, 200, line, 8);
  assert_string_equal(line, "link up");
  assert_int_equal(line[8], 'x');
  live_format(&l, 200, line, 4);
  assert_string_equal(line, "");
}

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(the_line_tells_visitors_bytes_rates_and_link),
    cmocka_unit_test(an_early_redraw_keeps_the_rates),
    cmocka_unit_test(counts_that_shrink_are_no_rate),
    cmocka_unit_test(the_line_never_reaches_the_last_column),
    cmocka_unit_test(a_small_buffer_is_never_overrun),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
