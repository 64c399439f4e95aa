/* Where a user's files are. */
#include "cm.h"

#include <stdlib.h>

#include "base/home.h"

static void the_environment_says_where(void **state) {
  (void)state;
  char path[64];
  setenv("HOME", "/home/u", 1);
  setenv("XDG_CONFIG_HOME", "/x", 1);
  setenv("XDG_STATE_HOME", "/y", 1);
  assert_int_equal(home_config_file(path, sizeof path, NULL), 0);
  assert_string_equal(path, "/x/adit/config");
  assert_int_equal(home_embedded_dir(path, sizeof path, NULL), 0);
  assert_string_equal(path, "/y/adit/embedded");
}

static void a_relative_folder_counts_for_nothing(void **state) {
  (void)state;
  char path[64];
  setenv("HOME", "/home/u", 1);
  setenv("XDG_CONFIG_HOME", "relative", 1);
  setenv("XDG_STATE_HOME", "", 1);
  assert_int_equal(home_config_file(path, sizeof path, NULL), 0);
  assert_string_equal(path, "/home/u/.config/adit/config");
  assert_int_equal(home_embedded_dir(path, sizeof path, NULL), 0);
  assert_string_equal(path, "/home/u/.local/state/adit/embedded");
}

static void without_a_home_the_error_says_what_to_set(void **state) {
  (void)state;
  char path[64];
  struct err e = {0};
  setenv("HOME", "", 1);
  setenv("XDG_CONFIG_HOME", "", 1);        /* which XDG has mean that it is not set */
  assert_int_equal(home_config_file(path, sizeof path, &e), ERR_USAGE);
  assert_string_equal(e.text,
                      "HOME: it is set but empty, as of a secret or setting that is missing (set it, or unset it)");
  unsetenv("HOME");
  unsetenv("XDG_CONFIG_HOME");
  unsetenv("XDG_STATE_HOME");
  assert_int_equal(home_config_file(path, sizeof path, &e), ERR_NOT_NOW);
  assert_string_equal(e.text, "configuration: no home folder (set HOME or XDG_CONFIG_HOME)");
  assert_int_equal(home_embedded_dir(path, sizeof path, &e), ERR_NOT_NOW);
  assert_string_equal(e.text, "state folder: no home folder (set HOME or XDG_STATE_HOME)");
  setenv("HOME", "/a-home-folder-with-a-name-that-is-longer-than-the-caller-has-room-for", 1);
  assert_int_equal(home_config_file(path, sizeof path, &e), ERR_LIMIT);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(the_environment_says_where),
      cmocka_unit_test(a_relative_folder_counts_for_nothing),
                                     cmocka_unit_test(without_a_home_the_error_says_what_to_set)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
