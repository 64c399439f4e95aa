/* What is done once for the process and may fail. */
#include "cm.h"

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/once.h"
#include "base/secret.h"

enum { THREADS = 8 };

#ifndef SANITIZED                   /* which call it themselves, before anything is ready */
static int atforks_to_fail;
static int atforks;

/* In the libc's place. */
int pthread_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void)) {
  (void)prepare, (void)parent, (void)child;
  if (atforks_to_fail > 0) return atforks_to_fail--;
  atforks++;
  return 0;
}

static void secrets_are_had_again_once_the_handlers_of_fork_could_be_registered(void **state) {
  (void)state;
  atforks_to_fail = 1;
  assert_null(secret_alloc(16));
  for (int i = 0; i < 2; i++) {
    void *secret = secret_alloc(16);
    assert_non_null(secret);
    secret_free(secret, 16);
  }
  assert_int_equal(atforks, 1);
}
#endif

static struct once once;
static _Atomic int runs, failures;
static int in_it[2], go_on[2];     /* pipes */

static int run_with_failures(void) {
  runs++;
  return failures-- > 0 ? ERR_NOMEM : 0;
}

static void a_failure_is_tried_again_and_a_success_is_not(void **state) {
  (void)state;
  once = (struct once){0};
  runs = 0;
  failures = 2;
  assert_int_equal(once_run(&once, run_with_failures), ERR_NOMEM);
  assert_int_equal(once_run(&once, run_with_failures), ERR_NOMEM);
  for (int i = 0; i < 3; i++) assert_int_equal(once_run(&once, run_with_failures), 0);
  assert_int_equal(runs, 3);
}

static void *run_in_thread(void *unused) {
  (void)unused;
  return once_run(&once, run_with_failures) == 0 ? NULL : &once;
}

static void of_many_threads_one_does_it(void **state) {
  (void)state;
  pthread_t threads[THREADS];
  void *failed;
  once = (struct once){0};
  runs = failures = 0;
  for (int i = 0; i < THREADS; i++) assert_int_equal(pthread_create(&threads[i], NULL, run_in_thread, NULL), 0);
  for (int i = 0; i < THREADS; i++) {
    assert_int_equal(pthread_join(threads[i], &failed), 0);
    assert_null(failed);
  }
  assert_int_equal(runs, 1);
}

static int run_slowly(void) {
  char c = 0;
  if (write(in_it[1], &c, 1) != 1 || read(go_on[0], &c, 1) != 1) return ERR_IO;
  return 0;
}

static void *run_slowly_in_thread(void *unused) {
  (void)unused;
  return once_run(&once, run_slowly) == 0 ? NULL : &once;
}

static void a_child_does_not_wait_for_a_thread_of_its_parent(void **state) {
  (void)state;
  pthread_t thread;
  char c = 0;
  int status;
  once = (struct once){0};
  failures = 0;
  assert_int_equal(pipe(in_it), 0);
  assert_int_equal(pipe(go_on), 0);
  assert_int_equal(pthread_create(&thread, NULL, run_slowly_in_thread, NULL), 0);
  assert_int_equal(read(in_it[0], &c, 1), 1);
  pid_t pid = fork();
  if (pid == 0) _exit(once_run(&once, run_with_failures) == 0 ? 0 : 1);
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_int_equal(status, 0);
  assert_int_equal(write(go_on[1], &c, 1), 1);
  assert_int_equal(pthread_join(thread, NULL), 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_failure_is_tried_again_and_a_success_is_not),
      cmocka_unit_test(of_many_threads_one_does_it),
      cmocka_unit_test(a_child_does_not_wait_for_a_thread_of_its_parent),
#ifndef SANITIZED
      cmocka_unit_test(secrets_are_had_again_once_the_handlers_of_fork_could_be_registered),
#endif
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
