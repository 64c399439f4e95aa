/* Words to a place that does not take them, read back from what stands for stderr. */
#include "cm.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/words.h"

#define NOTE "adit: lines left out here, which could not be written or nobody read: "

static int ends[2], real_stderr;
static char read_back[4 << 20];

static void lead_to(int fd) { assert_return_code(dup2(fd, STDERR_FILENO), 0); }

static int catch_stderr(void **state) {
  (void)state;
  real_stderr = dup(STDERR_FILENO);
  if (pipe2(ends, O_CLOEXEC) != 0) return -1;
  lead_to(ends[1]);
  return 0;
}

static int restore_stderr(void **state) {
  (void)state;
  words_settle();
  lead_to(real_stderr);
  close(real_stderr);
  close(ends[0]);
  close(ends[1]);
  return 0;
}

static void put(const char *text) { words_put(WORDS_ERR, text, strlen(text)); }

/* Reads until what has come ends so. */
static const char *read_until(const char *end) {
  size_t n = 0;
  while (n < strlen(end) || memcmp(read_back + n - strlen(end), end, strlen(end)) != 0) {
    struct pollfd p = {.fd = ends[0], .events = POLLIN};
    assert_int_equal(poll(&p, 1, 20000), 1);
    ssize_t got = read(ends[0], read_back + n, sizeof read_back - 1 - n);
    assert_true(got > 0);
    n += (size_t)got;
  }
  read_back[n] = 0;
  return read_back;
}

static void who_sleeps_holds_nobody_up_and_is_told_how_much_he_missed(void **state) {
  (void)state;
  char line[100];
  unsigned said = 0, next = 0, lost = 0;
  for (size_t bytes = 0; bytes < 3 * WORDS_WAITING_MAX_BYTES; bytes += sizeof line - 1, said++) {
    (void)snprintf(line, sizeof line, "%0*u\n", (int)sizeof line - 2, said);
    put(line);
  }
  assert_in_range(words_waiting(WORDS_ERR), WORDS_WAITING_MAX_BYTES / 2, 2 * WORDS_WAITING_MAX_BYTES);
  while (next < said) {
    for (const char *at = read_until("\n"), *end; (end = strchr(at, '\n')) != NULL; at = end + 1) {
      if (sscanf(at, NOTE "%u", &lost) == 1) next += lost;
      else assert_int_equal(strtoul(at, NULL, 10), (next += 1) - 1);
    }
  }
  assert_true(lost > 0);
  put("it goes on\n");
  assert_string_equal(read_until("on\n"), "it goes on\n");
}

static void what_cannot_be_written_is_told_once_it_can_be(void **state) {
  (void)state;
  int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
  lead_to(full);
  for (int i = 0; i < 3; i++) {
    put("lost\n");
    words_settle();
  }
  lead_to(ends[1]);
  close(full);
  put("heard\n");
  put("again\n");
  assert_string_equal(read_until("again\n"), NOTE "3\nheard\nagain\n");
}

static void what_is_closed_or_gone_ends_nobody(void **state) {
  (void)state;
  int gone[2];
  assert_int_equal(pipe2(gone, O_CLOEXEC), 0);
  lead_to(gone[1]);
  close(gone[0]);
  put("to nobody\n");
  words_settle();
  close(STDERR_FILENO);
  put("to nothing\n");
  words_settle();
  lead_to(ends[1]);
  close(gone[1]);
  put("heard\n");
  assert_string_equal(read_until("heard\n"), NOTE "2\nheard\n");
}

static void a_descriptor_that_does_not_block_is_waited_for(void **state) {
  (void)state;
  static char most[200000];
  memset(most, 'x', sizeof most - 2);
  most[sizeof most - 2] = '\n';
  assert_return_code(fcntl(ends[1], F_SETFL, O_NONBLOCK), 0);
  put(most);
  assert_string_equal(read_until("x\n"), most);
}

/* A file that may become no longer, for which there is a signal, too. */
static void a_line_that_was_cut_stands_alone(void **state) {
  (void)state;
  char path[] = "/tmp/adit-words-XXXXXX", text[300] = "";
  int fd = mkostemp(path, O_CLOEXEC | O_APPEND);
  struct rlimit before, small;
  assert_true(fd >= 0);
  (void)unlink(path);
  assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
  small = (struct rlimit){.rlim_cur = 8, .rlim_max = before.rlim_max};
  lead_to(fd);
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
  put("all of this line\n");
  words_settle();
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
  put("heard\n");
  words_settle();
  assert_true(pread(fd, text, sizeof text - 1, 0) > 0);
  close(fd);
  assert_string_equal(text, "all of t\n" NOTE "1\nheard\n");
}

#define WORDS_TEST(f) cmocka_unit_test_setup_teardown(f, catch_stderr, restore_stderr)

int main(void) {
  const struct CMUnitTest tests[] = {
      WORDS_TEST(who_sleeps_holds_nobody_up_and_is_told_how_much_he_missed),
      WORDS_TEST(what_cannot_be_written_is_told_once_it_can_be),
      WORDS_TEST(what_is_closed_or_gone_ends_nobody), WORDS_TEST(a_descriptor_that_does_not_block_is_waited_for),
      WORDS_TEST(a_line_that_was_cut_stands_alone)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
