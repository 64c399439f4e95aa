/* Whoever makes a descriptor tells when there are none, and the text that goes to people says what helps. */
#include "cm.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/shortage.h"
#include "loop/loop.h"
#include "loop/net.h"

static int heard_n, heard_last;

static void heard(void *user, int error) {
  assert_ptr_equal(user, &heard_n);
  heard_n++;
  heard_last = error;
  errno = 0;                       /* as a listener's own calls may */
}

static int set_up(void **state) {
  (void)state;
  heard_n = heard_last = 0;
  shortage_listen(heard, &heard_n);
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  shortage_listen(NULL, NULL);
  return 0;
}

static void assert_heard_once(int error) {
  assert_int_equal(heard_n, 1);
  assert_int_equal(heard_last, error);
  heard_n = 0;
}

/* No new descriptor can be had between these two. */
static struct rlimit limit;
static void exhaust(void) {
  int next = dup(0);
  assert_true(next >= 0);
  close(next);
  assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
  const struct rlimit none = {.rlim_cur = (rlim_t)next, .rlim_max = limit.rlim_max};
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
}
static void recover(void) { assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0); }

static void everything_that_makes_a_descriptor_tells_of_the_want(void **state) {
  (void)state;
  struct addr at, peer;
  struct err listened = {0}, connected = {0}, looped = {0};
  uint16_t port;
  int fds[2];
  assert_int_equal(addr_parse("127.0.0.1:1", &at, &listened), 0);
  addr_set_port(&at, 0);
  int listener = net_listen_tcp(&at, 1, false, &listened);
  assert_true(listener >= 0);
  assert_int_equal(net_listen_port(listener, &port), 0);
  addr_set_port(&at, port);
  int client = net_connect(&at, &connected);
  assert_true(client >= 0);

  exhaust();
  assert_int_equal(net_accept(listener, &peer), ERR_LIMIT);
  assert_heard_once(EMFILE);
  assert_int_equal(net_connect(&at, &connected), ERR_LIMIT);
  assert_heard_once(EMFILE);
  assert_int_equal(net_pipe(fds), ERR_LIMIT);
  assert_heard_once(EMFILE);
  assert_true(net_listen_tcp(&at, 1, false, &listened) < 0);
  assert_heard_once(EMFILE);
  assert_null(loop_new(&looped));
  assert_heard_once(EMFILE);
  recover();

  assert_non_null(strstr(connected.text, "LimitNOFILE="));
  assert_non_null(strstr(listened.text, "LimitNOFILE="));
  assert_non_null(strstr(looped.text, "LimitNOFILE="));
  net_close(listener);
  net_close(client);
}

static void a_shortage_has_its_own_remedy_and_other_failures_the_given_one(void **state) {
  (void)state;
  static const int shortages[] = {EMFILE, ENFILE, ENOMEM, ENOBUFS};
  struct err e;
  for (size_t i = 0; i < ARRAY_LEN(shortages); i++) {
    errno = shortages[i];
    assert_int_equal(err_set_errno_remedy(&e, "check its path", "%s", "file"), ERR_IO);
    assert_int_equal(errno, shortages[i]);
    assert_heard_once(shortages[i]);
    assert_non_null(strstr(e.text, shortage_remedy(shortages[i])));
    assert_null(strstr(e.text, "check its path"));
  }
  errno = EMFILE;
  assert_int_equal(err_set_errno_remedy(NULL, "check its path", "file"), ERR_IO);
  assert_heard_once(EMFILE);
  errno = ENOENT;
  assert_int_equal(err_set_errno_remedy(&e, "check its path", "%s", "file"), ERR_IO);
  assert_string_equal(e.text, "file: No such file or directory (check its path)");
  errno = ENOENT;
  assert_int_equal(err_set_errno(&e, "%s", "file"), ERR_IO);
  assert_string_equal(e.text, "file: No such file or directory");
  assert_int_equal(heard_n, 0);
}

static void *note_elsewhere(void *unused) {
  (void)unused;
  assert_true(shortage_note(EMFILE));
  return NULL;
}

static void each_thread_hears_of_its_own_only(void **state) {
  (void)state;
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, note_elsewhere, NULL), 0);
  pthread_join(thread, NULL);
  assert_int_equal(heard_n, 0);
  assert_false(shortage_note(EAGAIN));
  assert_int_equal(heard_n, 0);
  assert_true(shortage_note(ENFILE));
  assert_heard_once(ENFILE);
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
int main(void) {
  const struct CMUnitTest tests[] = {T(everything_that_makes_a_descriptor_tells_of_the_want),
                                     T(a_shortage_has_its_own_remedy_and_other_failures_the_given_one),
                                     T(each_thread_hears_of_its_own_only)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
