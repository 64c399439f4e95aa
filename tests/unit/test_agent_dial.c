/* Dialling, against listeners of our own on the loopback. */
#include "cm.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/dial.h"
#include "loop/net.h"

enum { DEADLINE_MS = 20000 };

static int refused_option = -1;    /* of IPPROTO_TCP or SOL_SOCKET: fails with EPERM */

/* In the libc's place. */
int setsockopt(int fd, int level, int name, const void *value, socklen_t n) {
  if (name == refused_option) {
    errno = EPERM;
    return -1;
  }
  return (int)syscall(SYS_setsockopt, fd, level, name, value, n);
}

struct outcome {
  bool ended;
  int fd;
  struct err err;
};

static void on_end(void *user, int fd, const struct addr *to, const struct err *e) {
  (void)to;
  struct outcome *o = user;
  *o = (struct outcome){.ended = true, .fd = fd, .err = *e};
}

struct rig {
  struct loop *loop;
  struct descriptors descriptors;
  struct outcome outcome;
  struct addr at;
  int listener;
};

static int set_up(void **state) {
  struct rig *r = calloc(1, sizeof *r);
  struct err e = {0};
  r->loop = loop_new(&e);
  descriptors_init(&r->descriptors);
  assert_int_equal(addr_parse("127.0.0.1:1", &r->at, &e), 0);
  addr_set_port(&r->at, 0);
  r->listener = net_listen_tcp(&r->at, 16, false, &e);
  assert_int_equal(net_local(r->listener, &r->at), 0);
  *state = r;
  return 0;
}

static int tear_down(void **state) {
  struct rig *r = *state;
  refused_option = -1;
  net_close(r->listener);
  loop_free(r->loop);
  descriptors_free(&r->descriptors);
  free(r);
  return 0;
}

static struct dial *dial(struct rig *r) {
  struct dial *d = dial_start(r->loop, &r->descriptors, &r->at, 1, DEADLINE_MS, on_end, &r->outcome);
  assert_non_null(d);
  return d;
}

static int accept_one(const struct rig *r) {
  struct pollfd p = {.fd = r->listener, .events = POLLIN};
  struct addr peer;
  assert_int_equal(poll(&p, 1, DEADLINE_MS), 1);
  int fd = net_accept(r->listener, &peer);
  assert_true(fd >= 0);
  return fd;
}

static void until_ended(struct rig *r) {
  while (!r->outcome.ended) (void)loop_turn(r->loop, DEADLINE_MS);
}

static void one_who_accepts_answers_and_resets_at_once_was_reached(void **state) {
  struct rig *r = *state;
  char in[8];
  dial_hear_resets(dial(r));
  int app = accept_one(r);
  assert_int_equal(net_send(app, "busy", 4), 4);
  net_reset(app);
  until_ended(r);
  assert_true(r->outcome.fd >= 0);
  assert_int_equal(r->outcome.err.code, ERR_CLOSED);
  assert_int_equal(net_recv(r->outcome.fd, in, sizeof in), 4);
  descriptors_remove(&r->descriptors, r->outcome.fd);
  net_close(r->outcome.fd);
}

/* Of a relay's addresses one may lead to a balancer with nobody behind it. */
static void where_resets_are_not_heard_the_next_address_is_tried(void **state) {
  struct rig *r = *state;
  struct err e = {0};
  struct addr both[2] = {r->at, r->at};
  addr_set_port(&both[1], 0);
  int other = net_listen_tcp(&both[1], 16, false, &e);
  assert_int_equal(net_local(other, &both[1]), 0);
  assert_non_null(dial_start(r->loop, &r->descriptors, both, 2, DEADLINE_MS, on_end, &r->outcome));
  net_reset(accept_one(r));
  until_ended(r);
  struct addr to;
  assert_true(r->outcome.fd >= 0);
  assert_int_equal(net_peer(r->outcome.fd, &to), 0);
  assert_true(addr_equal(&to, &both[1]));
  descriptors_remove(&r->descriptors, r->outcome.fd);
  net_close(r->outcome.fd);
  net_close(other);
}

static void a_connection_that_stands_brings_no_error(void **state) {
  struct rig *r = *state;
  dial(r);
  int app = accept_one(r);
  until_ended(r);
  assert_true(r->outcome.fd >= 0);
  assert_int_equal(r->outcome.err.code, 0);
  descriptors_remove(&r->descriptors, r->outcome.fd);
  net_close(r->outcome.fd);
  net_close(app);
}

static void one_of_this_machine_is_reached_without_waiting(void **state) {
  struct rig *r = *state;
  struct addr addrs[2] = {r->at, r->at};
  struct err e = {0};
  bool was_reset;
  addr_set_port(&addrs[0], 0);
  int other = net_listen_tcp(&addrs[0], 16, false, &e);
  assert_int_equal(net_local(other, &addrs[0]), 0);
  net_close(other);                /* nobody listens at the first */
  assert_int_equal(dial_at_once(&r->descriptors, addrs, 1, &was_reset), -1);
  int fd = dial_at_once(&r->descriptors, addrs, 2, &was_reset);
  assert_true(fd >= 0);
  assert_false(was_reset);
  int app = accept_one(r);
  assert_int_equal(net_send(fd, "x", 1), 1);
  net_reset(fd);
  net_close(app);
}

/* Where nobody takes them any more, the kernel drops what comes, as a network would. */
static void one_that_does_not_answer_at_once_is_not_waited_for(void **state) {
  struct rig *r = *state;
  struct err e = {0};
  struct addr at = r->at;
  int fds[4], n = 0;
  bool was_reset;
  addr_set_port(&at, 0);
  int full = net_listen_tcp(&at, 0, false, &e);
  assert_int_equal(net_local(full, &at), 0);
  while (n < 4 && (fds[n] = dial_at_once(&r->descriptors, &at, 1, &was_reset)) >= 0) n++;
  assert_in_range(n, 1, 3);
  while (n > 0) net_reset(fds[--n]);
  net_close(full);
}

static void a_socket_that_takes_no_options_is_told_by_its_own_reason(void **state) {
  struct rig *r = *state;
  refused_option = SO_OOBINLINE;
  dial(r);
  until_ended(r);
  assert_int_equal(r->outcome.fd, -1);
  assert_int_equal(r->outcome.err.code, ERR_IO);
  assert_string_equal(r->outcome.err.text, strerror(EPERM));
}

/* --- Unix sockets --- */

/* A loopback address may lead elsewhere (a firewall's redirection), where somebody can vanish without a word. */
static void keepalive_misses_whoever_vanishes_behind_a_loopback_address_too(void **state) {
  struct rig *r = *state;
  int alive = 0;
  socklen_t n = sizeof alive;
  (void)dial(r);
  until_ended(r);
  assert_true(r->outcome.fd >= 0);
  assert_int_equal(getsockopt(r->outcome.fd, SOL_SOCKET, SO_KEEPALIVE, &alive, &n), 0);
  assert_int_equal(alive, 1);
  descriptors_remove(&r->descriptors, r->outcome.fd);
  net_close(r->outcome.fd);
}

static int listen_unix(const char *path, int type, int backlog) {
  struct sockaddr_un a = {.sun_family = AF_UNIX};
  size_t n = strlen(path);
  memcpy(a.sun_path, path, n);
  if (path[0] == '@') a.sun_path[0] = 0;
  int fd = socket(AF_UNIX, type | SOCK_NONBLOCK, 0);
  assert_int_equal(
      bind(fd, (struct sockaddr *)&a, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + (path[0] != '@'))), 0);
  if (type == SOCK_STREAM) assert_int_equal(listen(fd, backlog), 0);
  return fd;
}

static void dial_unix(struct rig *r, const char *path, uint64_t deadline_ms) {
  struct addr at = addr_unix(path);
  r->outcome = (struct outcome){0};
  assert_non_null(dial_start(r->loop, &r->descriptors, &at, 1, deadline_ms, on_end, &r->outcome));
  assert_false(r->outcome.ended);
}

static void expect_connected(struct rig *r, int listener) {
  char in[8];
  until_ended(r);
  assert_true(r->outcome.fd >= 0);
  int app = accept(listener, NULL, NULL);
  assert_true(app >= 0);
  assert_int_equal(net_send(app, "hello", 5), 5);
  assert_int_equal(net_recv(r->outcome.fd, in, sizeof in), 5);
  descriptors_remove(&r->descriptors, r->outcome.fd);
  net_close(r->outcome.fd);
  close(app);
}

static void a_unix_socket_is_reached_by_its_path(void **state) {
  struct rig *r = *state;
  char folder[] = "/tmp/adit-dial-XXXXXX", path[64];
  assert_non_null(mkdtemp(folder));
  (void)snprintf(path, sizeof path, "%s/app.sock", folder);
  int listener = listen_unix(path, SOCK_STREAM, 4);
  dial_unix(r, path, DEADLINE_MS);
  expect_connected(r, listener);
  close(listener);
  dial_unix(r, path, DEADLINE_MS);
  until_ended(r);
  assert_int_equal(r->outcome.err.code, ERR_CLOSED);
  assert_string_equal(r->outcome.err.text, "it refused the connection (start it, or check the path)");
  unlink(path);
  dial_unix(r, path, DEADLINE_MS);
  until_ended(r);
  assert_int_equal(r->outcome.err.code, ERR_CLOSED);
  assert_string_equal(r->outcome.err.text, "there is no such socket (start it, or check the path)");
  int datagrams = listen_unix(path, SOCK_DGRAM, 0);
  dial_unix(r, path, DEADLINE_MS);
  until_ended(r);
  assert_int_equal(r->outcome.err.code, ERR_UNSUPPORTED);
  close(datagrams);
  unlink(path);
  rmdir(folder);
}

static void an_abstract_one_by_its_name(void **state) {
  struct rig *r = *state;
  char name[40];
  (void)snprintf(name, sizeof name, "@adit-dial-%d", (int)getpid());
  int listener = listen_unix(name, SOCK_STREAM, 4);
  dial_unix(r, name, DEADLINE_MS);
  expect_connected(r, listener);
  close(listener);
}

/* Where TCP would drop the SYN and send it again, connect(2) says EAGAIN. */
static void where_too_many_wait_to_be_accepted_it_is_tried_again(void **state) {
  struct rig *r = *state;
  char name[40];
  (void)snprintf(name, sizeof name, "@adit-busy-%d", (int)getpid());
  struct addr at = addr_unix(name);
  int listener = listen_unix(name, SOCK_STREAM, 0), first = net_connect(&at, NULL);
  assert_true(first >= 0);
  assert_int_equal(net_connect(&at, NULL), NET_AGAIN);
  dial_unix(r, name, 30);
  until_ended(r);
  assert_int_equal(r->outcome.err.code, ERR_TIMEOUT);
  dial_unix(r, name, DEADLINE_MS);
  (void)loop_turn(r->loop, DEADLINE_MS);
  assert_false(r->outcome.ended);
  int app = accept(listener, NULL, NULL);
  assert_true(app >= 0);
  close(app);
  close(first);
  expect_connected(r, listener);
  close(listener);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(one_who_accepts_answers_and_resets_at_once_was_reached, set_up, tear_down),
      cmocka_unit_test_setup_teardown(where_resets_are_not_heard_the_next_address_is_tried, set_up, tear_down),
      cmocka_unit_test_setup_teardown(a_connection_that_stands_brings_no_error, set_up, tear_down),
      cmocka_unit_test_setup_teardown(one_of_this_machine_is_reached_without_waiting, set_up, tear_down),
      cmocka_unit_test_setup_teardown(one_that_does_not_answer_at_once_is_not_waited_for, set_up, tear_down),
      cmocka_unit_test_setup_teardown(a_socket_that_takes_no_options_is_told_by_its_own_reason, set_up, tear_down),
      cmocka_unit_test_setup_teardown(keepalive_misses_whoever_vanishes_behind_a_loopback_address_too, set_up,
                                      tear_down),
      cmocka_unit_test_setup_teardown(a_unix_socket_is_reached_by_its_path, set_up, tear_down),
      cmocka_unit_test_setup_teardown(an_abstract_one_by_its_name, set_up, tear_down),
      cmocka_unit_test_setup_teardown(where_too_many_wait_to_be_accepted_it_is_tried_again, set_up, tear_down),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
