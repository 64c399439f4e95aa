/* The relay's side of a key process that has been stopped: the test shortens how long an answer is waited for. */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cm.h"
#include "relay/key_process.h"

static pid_t process;

pid_t __real_fork(void);
pid_t __wrap_fork(void);
pid_t __wrap_fork(void) {
  pid_t pid = __real_fork();
  if (pid > 0) process = pid;
  return pid;
}

int __real_setsockopt(int fd, int level, int name, const void *value, socklen_t n);
int __wrap_setsockopt(int fd, int level, int name, const void *value, socklen_t n);
int __wrap_setsockopt(int fd, int level, int name, const void *value, socklen_t n) {
  const struct timeval soon = {.tv_usec = 50000};
  return __real_setsockopt(fd, level, name, name == SO_RCVTIMEO ? &soon : value, n);
}

static void what_does_not_answer_in_time_is_asked_nothing_more(void **state) {
  char dir[] = "/tmp/adit-key-process-XXXXXX", command[sizeof dir + 16];
  const struct ticket wanted = {.relay = "r.test", .label = "label", .expires_s = INT64_MAX};
  uint8_t ticket[TICKET_MAX_BYTES];
  struct key_process *keys;
  struct err e;
  size_t n;
  (void)state;
  assert_non_null(mkdtemp(dir));
  const struct key_process_options o = {.state_dir = dir, .domain = "r.test", .workers_n = 1};
  if (key_process_start(&o, &keys, &e) != 0 || key_process_tickets(keys, &e) != 0) fail_msg("%s", e.text);
  struct pollfd end = {.fd = key_process_fd(keys), .events = POLLIN};
  assert_int_equal(kill(process, SIGSTOP), 0);
  assert_int_equal(poll(&end, 1, 0), 0);
  assert_int_equal(key_process_ticket_make(keys, &wanted, ticket, &n), ERR_TIMEOUT);
  assert_true(key_process_hangs(keys));
  assert_int_equal(poll(&end, 1, 0), 1);
  /* Else what comes would be the answer for the first. */
  assert_int_equal(key_process_ticket_make(keys, &wanted, ticket, &n), ERR_CLOSED);
  assert_int_equal(kill(process, SIGCONT), 0);
  assert_int_equal(waitpid(process, NULL, 0), process);
  key_process_end(keys);
  (void)snprintf(command, sizeof command, "rm -r '%s'", dir);
  assert_int_equal(system(command), 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(what_does_not_answer_in_time_is_asked_nothing_more)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
