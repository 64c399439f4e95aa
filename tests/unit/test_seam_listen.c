/* Who comes as soon as a socket listens: listen(2) does not return before somebody has connected. */
#include "cm.h"

#include <netinet/tcp.h>
#include <poll.h>

#include "loop/net.h"

static bool somebody_comes;        /* while it is in listen(2) */
static int client;

static void client_connect(int listener) {
  struct addr at;
  assert_int_equal(net_local(listener, &at), 0);
  client = net_connect(&at, NULL);
  struct pollfd p = {.fd = client, .events = POLLOUT};
  assert_int_equal(poll(&p, 1, 5000), 1);
}

int __real_listen(int fd, int backlog);
int __wrap_listen(int fd, int backlog);
int __wrap_listen(int fd, int backlog) {
  int r = __real_listen(fd, backlog);
  if (somebody_comes) client_connect(fd);
  return r;
}

static void assert_is_set_up(int fd) {
  struct linger l = {0};
  int no_delay = 0;
  socklen_t n = sizeof l;
  assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_LINGER, &l, &n), 0);
  assert_true(l.l_onoff != 0 && l.l_linger == 0);
  n = sizeof no_delay;
  assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &no_delay, &n), 0);
  assert_int_equal(no_delay, 1);
}

static void assert_first_accepted_is_set_up(bool early) {
  struct addr at, peer;
  struct err e;
  assert_int_equal(addr_parse("127.0.0.1:1", &at, &e), 0);
  addr_set_port(&at, 0);
  somebody_comes = early;
  int listener = net_listen_streams(&at, 16, false, &e);
  if (!early) client_connect(listener);
  int fd = net_accept(listener, &peer);
  assert_true(fd >= 0);
  assert_int_equal(net_accepted_setup(fd, &peer), 0);
  assert_is_set_up(fd);
  net_close(fd);
  net_close(client);
  net_close(listener);
}

/* What the first one tells net_accepted_setup, that relies on for all others. */
static void who_connects_before_listen_has_returned_is_set_up_as_all_others(void **state) {
  (void)state;
  assert_first_accepted_is_set_up(false);
  assert_first_accepted_is_set_up(true);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(who_connects_before_listen_has_returned_is_set_up_as_all_others),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
