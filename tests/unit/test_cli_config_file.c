/* Reading a command's files. */
#include "cm.h"

#include "cli/config_file.h"

static void a_file_longer_than_its_bound_is_not_read(void **state) {
  (void)state;
  char *text;
  size_t n;
  struct err e;
  assert_int_equal(config_read("/dev/zero", 100, &text, &n, &e), ERR_LIMIT);
  assert_string_equal(e.text, "/dev/zero: longer than 100 bytes (is it the right file?)");
}

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(a_file_longer_than_its_bound_is_not_read),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
