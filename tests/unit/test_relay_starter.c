/* The starter starts this program again, which then waits for the end of its carrier. */
#include "cm.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/err.h"
#include "relay/carrier.h"
#include "relay/starter.h"

enum { SLOW_TO_FREE_BYTES = 64 << 20 };

static int be_what_was_started(int carrier) {
  pid_t self = getpid();
  char end;
  if (write(carrier, &self, sizeof self) != sizeof self) return EXIT_FAILURE;
  return read(carrier, &end, 1) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

static pid_t parent_of(pid_t pid) {
  char path[64];
  int parent = 0;
  (void)snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
  FILE *f = fopen(path, "re");
  assert_non_null(f);
  assert_int_equal(fscanf(f, "%*d (%*[^)]) %*c %d", &parent), 1);
  (void)fclose(f);
  return parent;
}

/* The last descriptor of a file in memory, which takes its time to be closed. */
static int slow_to_close(void) {
  int fd = memfd_create("slow-to-close", MFD_CLOEXEC);
  assert_true(fd >= 0);
  assert_int_equal(ftruncate(fd, SLOW_TO_FREE_BYTES), 0);
  char *at = mmap(NULL, SLOW_TO_FREE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
  assert_true(at != MAP_FAILED);
  assert_int_equal(munmap(at, SLOW_TO_FREE_BYTES), 0);
  return fd;
}

/* A service manager that is told its process only then notices when it ends. */
static void what_was_let_go_has_another_parent_at_once(void **state) {
  (void)state;
  struct starter s;
  struct err e;
  int fds[2], slow = slow_to_close();
  pid_t started;
  (void)signal(SIGCHLD, SIG_IGN);          /* as a relay has it */
  assert_int_equal(starter_begin(&s, -1, &e), 0);
  assert_int_equal(close(slow), 0);        /* here; the starter has it, too */
  assert_int_equal(carrier_pair(fds), 0);
  assert_int_equal(starter_start(&s, fds[1], -1, &e), 0);
  assert_int_equal(close(fds[1]), 0);
  assert_int_equal(read(fds[0], &started, sizeof started), sizeof started);
  pid_t starter = parent_of(started);
  assert_int_not_equal(starter, getpid());
  starter_let_go(&s);
  assert_int_not_equal(parent_of(started), starter);
  assert_int_equal(close(fds[0]), 0);
}

int main(void) {
  const char *carrier = getenv(STARTER_VARIABLE);
  if (carrier != NULL) return be_what_was_started(atoi(carrier));
  const struct CMUnitTest tests[] = {cmocka_unit_test(what_was_let_go_has_another_parent_at_once)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
