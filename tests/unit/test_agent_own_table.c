/* What a program does to its descriptors while the client's thread has a table of its own. */
#include "cm.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/bell.h"
#include "agent/events.h"
#include "agent/own_table.h"
#include "base/descriptors.h"

/* A thread that does one thing in its own table, and a pipe each way by which it and the test go on in turns. */
struct apart {
  pthread_t thread;
  int to[2], from[2];
  const int *keep;
  size_t keep_n;
  void (*fn)(struct apart *a);
  bool own;
  int seen;
};

static void *run_apart(void *arg) {
  struct apart *a = arg;
  int keep[OWN_TABLE_KEEP_MAX] = {a->to[0], a->from[1]};
  memcpy(keep + 2, a->keep, a->keep_n * sizeof keep[0]);
  a->own = own_table_begin(keep, a->keep_n + 2);
  a->fn(a);
  return NULL;
}

static void start_apart(struct apart *a) {
  assert_int_equal(pipe2(a->to, O_CLOEXEC), 0);
  assert_int_equal(pipe2(a->from, O_CLOEXEC), 0);
  assert_int_equal(pthread_create(&a->thread, NULL, run_apart, a), 0);
}

static void end_apart(struct apart *a) {
  assert_int_equal(pthread_join(a->thread, NULL), 0);
  for (int i = 0; i < 2; i++) {
    close(a->to[i]);
    close(a->from[i]);
  }
}

static void tell(int fd) { assert_int_equal(write(fd, "", 1), 1); }
static void hear(int fd) {
  char byte;
  assert_int_equal(read(fd, &byte, 1), 1);
}

static bool readable(int fd) {
  struct pollfd p = {.fd = fd, .events = POLLIN};
  return poll(&p, 1, 0) == 1;
}

static void count_numbers(struct apart *a) {
  for (int fd = 0; fd < 1024; fd++) a->seen += fcntl(fd, F_GETFD) >= 0;
}

static void the_thread_has_what_it_keeps_and_no_more(void **state) {
  (void)state;
  int other = open("/dev/null", O_RDONLY | O_CLOEXEC), kept = open("/dev/null", O_RDONLY | O_CLOEXEC);
  struct apart a = {.keep = &kept, .keep_n = 1, .fn = count_numbers};
  start_apart(&a);
  end_apart(&a);
  assert_true(a.own);
  assert_int_equal(a.seen, 3 + 3);   /* standard input, output, error; the pipes' ends, and the one */
  assert_true(fcntl(other, F_GETFD) >= 0 && fcntl(kept, F_GETFD) >= 0);
  close(other);
  close(kept);
}

static void wait_in_it(struct apart *a) {
  tell(a->from[1]);
  hear(a->to[0]);
}

static void the_hosts_output_ends_when_the_host_closes_it(void **state) {
  (void)state;
  int output[2], before = dup(STDOUT_FILENO);
  char byte;
  assert_int_equal(pipe2(output, O_CLOEXEC), 0);
  assert_int_equal(dup2(output[1], STDOUT_FILENO), STDOUT_FILENO);
  close(output[1]);
  struct apart a = {.fn = wait_in_it, .keep = output};
  start_apart(&a);
  hear(a.from[0]);
  assert_int_equal(dup2(before, STDOUT_FILENO), STDOUT_FILENO);
  assert_true(readable(output[0]));
  assert_int_equal(read(output[0], &byte, 1), 0);
  tell(a.to[1]);
  end_apart(&a);
  close(output[0]);
  close(before);
}

static int kept_socket;

static void send_when_told(struct apart *a) {
  wait_in_it(a);
  a->seen = send(kept_socket, "ours", 4, MSG_NOSIGNAL) == 4;
}

static void a_number_that_the_host_gives_away_is_still_the_threads(void **state) {
  (void)state;
  int pair[2], hosts[2];
  char in[8];
  assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
  kept_socket = pair[0];
  struct apart a = {.keep = pair, .keep_n = 1, .fn = send_when_told};
  start_apart(&a);
  hear(a.from[0]);
  assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, hosts), 0);
  assert_int_equal(dup2(hosts[0], pair[0]), pair[0]);
  tell(a.to[1]);
  end_apart(&a);
  assert_true(a.seen);
  assert_int_equal(recv(pair[1], in, sizeof in, 0), 4);
  assert_int_equal(recv(hosts[1], in, sizeof in, 0), -1);
  for (int i = 0; i < 2; i++) {
    close(pair[i]);
    close(hosts[i]);
  }
}

static void what_is_anothers_by_now_is_not_closed(void **state) {
  (void)state;
  int pair[2];
  struct descriptor_mark m;
  assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
  descriptor_mark(pair[0], &m);
  assert_true(descriptor_is(pair[0], &m));
  assert_false(descriptor_is(pair[1], &m));
  assert_int_equal(dup2(pair[1], pair[0]), pair[0]);
  descriptor_close(pair[0], &m);
  assert_true(fcntl(pair[0], F_GETFD) >= 0);
  close(pair[0]);
  descriptor_close(pair[0], &m);
  descriptor_mark(pair[1], &m);
  descriptor_close(pair[1], &m);
  assert_int_equal(fcntl(pair[1], F_GETFD), -1);
}

static void a_bell_is_heard_and_its_end_too(void **state) {
  (void)state;
  struct bell b;
  assert_int_equal(bell_init(&b, NULL), 0);
  for (int i = 0; i < 200; i++) bell_ring(&b);
  assert_true(bell_heard(&b));
  assert_true(bell_heard(&b));
  close(b.ring_fd);
  assert_false(bell_heard(&b));
  assert_int_equal(open("/dev/zero", O_RDWR | O_CLOEXEC), b.ring_fd);   /* the lowest that is free */
  bell_ring(&b);                   /* nobody's */
  close(b.ring_fd);
  close(b.hear_fd);
}

static void events_come_also_where_the_host_has_closed_their_descriptor(void **state) {
  (void)state;
  struct events q;
  struct adit_event in = {.error = 7}, out;
  int hosts[2];
  assert_int_equal(events_init(&q, NULL), 0);
  assert_true(events_fd_is_ours(&q));
  int threads = dup(q.fd);         /* which the client's thread has */
  close(q.fd);
  assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, hosts), 0);
  assert_int_equal(hosts[0], q.fd);
  assert_int_equal(write(hosts[1], "host", 4), 4);
  assert_false(events_fd_is_ours(&q));
  events_push(&q, &in);
  assert_int_equal(events_next(&q, &out, -1), 1);
  assert_int_equal(out.error, 7);
  assert_int_equal(events_next(&q, &out, 1), 0);
  events_free(&q);
  char text[8];
  assert_int_equal(read(hosts[0], text, sizeof text), 4);
  close(threads);
  close(hosts[0]);
  close(hosts[1]);
}

int main(void) {
  const struct CMUnitTest apart[] = {
      cmocka_unit_test(the_thread_has_what_it_keeps_and_no_more),
      cmocka_unit_test(the_hosts_output_ends_when_the_host_closes_it),
      cmocka_unit_test(a_number_that_the_host_gives_away_is_still_the_threads),
  };
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(what_is_anothers_by_now_is_not_closed),
      cmocka_unit_test(a_bell_is_heard_and_its_end_too),
      cmocka_unit_test(events_come_also_where_the_host_has_closed_their_descriptor),
  };
  int failed = descriptors_in_view() ? 0 : cmocka_run_group_tests(apart, NULL, NULL);   /* not under ThreadSanitizer */
  return failed + cmocka_run_group_tests(tests, NULL, NULL);
}
