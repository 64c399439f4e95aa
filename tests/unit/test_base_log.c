/* Log lines, read back from a pipe that stands for stderr. */
#include "cm.h"

#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "base/words.h"

static int log_pipe[2], real_stderr;

static int catch_stderr(void **state) {
  (void)state;
  real_stderr = dup(STDERR_FILENO);
  if (pipe2(log_pipe, O_CLOEXEC | O_NONBLOCK) != 0) return -1;
  dup2(log_pipe[1], STDERR_FILENO);
  return 0;
}

static int restore_stderr(void **state) {
  (void)state;
  dup2(real_stderr, STDERR_FILENO);
  close(real_stderr);
  close(log_pipe[0]);
  close(log_pipe[1]);
  log_setup(LOG_INFO, false);
  return 0;
}

/* What has been logged, "" for nothing. */
static const char *logged(void) {
  static char text[70000];
  words_settle();
  ssize_t n = read(log_pipe[0], text, sizeof text - 1);
  text[n > 0 ? n : 0] = 0;
  return text;
}

static void a_line_has_time_level_event_and_pairs(void **state) {
  (void)state;
  log_setup(LOG_INFO, false);
  log_event(LOG_INFO, "tunnel_open", "label", "abc", "port", LOG_U64(80), "plain", LOG_BOOL(false), "why",
            "a b\"\n=", "empty", "", "none", NULL, NULL);
  const char *line = logged();
  assert_int_equal(strspn(line, "0123456789-:.TZ"), 24);
  assert_int_equal(line[10], 'T');
  assert_int_equal(line[19], '.');
  assert_int_equal(line[23], 'Z');
  assert_string_equal(line + 24,
                      " info tunnel_open label=abc port=80 plain=false why=\"a b\\\"\\x0a=\" empty=\"\" none=\"\"\n");
}

static void the_same_as_json(void **state) {
  (void)state;
  log_setup(LOG_DEBUG, true);
  log_event(LOG_DEBUG, "x", "k", "a\"\\\n\xff", "n", LOG_U64(UINT64_MAX), "digits", "1", "yes", LOG_BOOL(true), NULL);
  const char *line = logged();
  assert_memory_equal(line, "{\"time\":\"20", 11);
  assert_string_equal(line + 9 + 24, "\",\"level\":\"debug\",\"event\":\"x\",\"k\":\"a\\\"\\\\\\u000a\\u00ff\","
                                     "\"n\":18446744073709551615,\"digits\":\"1\",\"yes\":true}\n");
}

static void lower_levels_are_left_out(void **state) {
  (void)state;
  log_setup(LOG_WARN, false);
  assert_false(log_enabled(LOG_INFO));
  assert_true(log_enabled(LOG_ERROR));
  log_event(LOG_INFO, "quiet", NULL);
  assert_string_equal(logged(), "");
  log_setup(LOG_OFF, false);
  log_event(LOG_ERROR, "quiet", NULL);
  assert_string_equal(logged(), "");
}

static void a_long_line_loses_whole_pairs_and_says_so(void **state) {
  (void)state;
  char value[9000];
  memset(value, 'v', sizeof value - 1);
  value[sizeof value - 1] = 0;
  log_setup(LOG_INFO, true);
  log_event(LOG_INFO, "big", "first", "1", "long", value, "after", "2", NULL);
  const char *line = logged();
  assert_non_null(strstr(line, "\"first\":\"1\",\"truncated\":true}\n"));
}

static void level_names_parse(void **state) {
  (void)state;
  enum log_level level;
  assert_int_equal(log_level_parse("warn", &level), 0);
  assert_int_equal(level, LOG_WARN);
  assert_int_equal(log_level_parse("off", &level), 0);
  assert_int_equal(level, LOG_OFF);
  assert_int_equal(log_level_parse("WARN", &level), ERR_SYNTAX);
  assert_int_equal(log_level_parse("", &level), ERR_SYNTAX);
}

static void *log_some(void *arg) {
  for (int i = 0; i < 100; i++) log_event(LOG_INFO, "line", "from", (const char *)arg, NULL);
  return NULL;
}

static void lines_of_several_threads_do_not_mix(void **state) {
  (void)state;
  static char names[3][21] = {"aaaaaaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbbbbbb", "cccccccccccccccccccc"};
  pthread_t threads[3];
  log_setup(LOG_INFO, false);
  for (size_t i = 0; i < 3; i++) assert_int_equal(pthread_create(&threads[i], NULL, log_some, names[i]), 0);
  for (size_t i = 0; i < 3; i++) pthread_join(threads[i], NULL);
  const char *at = logged();
  size_t count = 0, length = 24 + strlen(" info line from=") + 20 + 1;
  for (; strlen(at) >= length; at += length, count++) {
    assert_memory_equal(at + 24, " info line from=", 16);
    assert_int_equal(strspn(at + 40, (const char[]){at[40], 0}), 20);
    assert_int_equal(at[60], '\n');
  }
  assert_int_equal(count, 300);
  assert_string_equal(at, "");
}

#define LOG_TEST(f) cmocka_unit_test_setup_teardown(f, catch_stderr, restore_stderr)

int main(void) {
  const struct CMUnitTest tests[] = {
      LOG_TEST(a_line_has_time_level_event_and_pairs), LOG_TEST(the_same_as_json), LOG_TEST(lower_levels_are_left_out),
      LOG_TEST(a_long_line_loses_whole_pairs_and_says_so), LOG_TEST(level_names_parse),
      LOG_TEST(lines_of_several_threads_do_not_mix)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
