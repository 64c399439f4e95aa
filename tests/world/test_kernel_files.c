/* Descriptors, pipes, splice, eventfds, signalfds, epoll and poll of the simulated kernel: what Linux says of the
   same. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../unit/cm.h"
#include "ask.h"
#include "base/base.h"

enum { PAGE_BYTES = 4096 };
static char bytes[1 << 20];

static void pipe_of(int fds[2]) {
  if (pipe2(fds, O_NONBLOCK | O_CLOEXEC) != 0) say("no pipe");
}

static ssize_t move(int in, int out, size_t n) {
  return splice(in, NULL, out, NULL, n, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
}

static void say_held(int fd) {
  int n = -1;
  int r = ioctl(fd, FIONREAD, &n);
  if (r < 0) say_result("holds", r);
  else say("holds: %d", n);
}

/* Descriptors */

static void ask_numbers_of_descriptors(void) {
  int fds[2], first = dup(0);
  pipe_of(fds);
  say("%d %d", fds[0] - first, fds[1] - first);
  say("dup: %d", dup(fds[0]) - first);
  close(fds[0]);
  say("the lowest: %d", dup(fds[1]) - first);
  say("from there on: %d", fcntl(fds[1], F_DUPFD_CLOEXEC, first + 10) - first);
  say("dup2: %d", dup2(fds[1], first + 20) - first);
  say("dup2 to itself: %d", dup2(fds[1], fds[1]) - first);
  SAY(dup(first + 15));
  SAY(dup(-1));
  SAY(dup2(first + 15, first + 16));
  SAY(close(first + 15));
  SAY(fcntl(first + 15, F_GETFD));
  SAY(fcntl(first + 15, F_GETFL));
  SAY(fcntl(fds[1], F_DUPFD_CLOEXEC, -1));
  for (int fd = first; fd <= first + 20; fd++) close(fd);
}
SAME(numbers_of_descriptors)

static void ask_calls_on_what_is_none(void) {
  int fds[2], none = dup(0), event = eventfd(0, EFD_NONBLOCK);
  struct epoll_event e = {.events = EPOLLIN};
  struct stat st;
  socklen_t n = 0;
  pipe_of(fds);
  close(none);
  SAY(read(none, bytes, 1));
  SAY(write(none, bytes, 1));
  SAY(recv(none, bytes, 1, 0));
  SAY(send(none, bytes, 1, 0));
  SAY(listen(none, 1));
  SAY(accept4(none, NULL, NULL, 0));
  SAY(shutdown(none, SHUT_WR));
  SAY(fstat(none, &st));
  SAY(ioctl(none, FIONREAD, &n));
  SAY(move(none, fds[1], 1));
  SAY(epoll_wait(none, &e, 1, 0));
  SAY(epoll_wait(event, &e, 1, 0));
  SAY(epoll_ctl(none, EPOLL_CTL_ADD, event, &e));
  SAY(recv(event, bytes, 1, 0));
  SAY(send(event, bytes, 8, 0));
  SAY(getsockopt(event, SOL_SOCKET, SO_ERROR, bytes, &n));
  SAY(listen(event, 1));
  SAY(move(event, event, 1));
  SAY(socket(AF_UNIX, 77, 0));
  struct pollfd polled[] = {{.fd = none, .events = POLLIN}, {.fd = -1, .events = POLLIN, .revents = 7}};
  SAY(poll(polled, 2, 0));
  say_events("none", (uint32_t)(uint16_t)polled[0].revents);
  say_events("left out", (uint32_t)(uint16_t)polled[1].revents);
  close_both(fds);
  close(event);
}
SAME(calls_on_what_is_none)

static void ask_flags(void) {
  int fds[2], copy;
  pipe_of(fds);
  copy = dup(fds[0]);
  say("%x", (unsigned)fcntl(fds[0], F_GETFL) & (O_ACCMODE | O_NONBLOCK));
  say("%x", (unsigned)fcntl(fds[1], F_GETFL) & (O_ACCMODE | O_NONBLOCK));
  SAY(fcntl(fds[0], F_SETFL, 0));
  say("shared: %x", (unsigned)fcntl(copy, F_GETFL) & (O_ACCMODE | O_NONBLOCK));
  SAY(read(fds[1], bytes, 1));
  SAY(write(fds[0], bytes, 1));
  struct stat a, b, c;
  SAY(fstat(fds[0], &a));
  SAY(fstat(copy, &b));
  SAY(fstat(1, &c));
  say("same: %d, other: %d, pipe: %d", a.st_ino == b.st_ino && a.st_dev == b.st_dev, a.st_ino != c.st_ino,
      S_ISFIFO(a.st_mode));
  close_both(fds);
  close(copy);
  local_pair_of(SOCK_STREAM, fds);
  SAY(fstat(fds[0], &a));
  SAY(fstat(fds[1], &b));
  say("same: %d, socket: %d", a.st_ino == b.st_ino, S_ISSOCK(a.st_mode));
  close_both(fds);
}
SAME(flags)

/* Pipes */

static void ask_a_pipe(void) {
  int fds[2];
  pipe_of(fds);
  say_poll("empty", fds[0]);
  say_poll("empty", fds[1]);
  SAY(read(fds[0], bytes, 1));
  SAY(write(fds[1], "hello", 5));
  SAY(write(fds[1], "", 0));
  say_held(fds[0]);
  say_held(fds[1]);
  say_poll("some", fds[0]);
  say_bytes("read", bytes, read(fds[0], bytes, 3));
  say_bytes("read", bytes, read(fds[0], bytes, 100));
  SAY(read(fds[0], bytes, 0));
  SAY(write(fds[1], "last", 4));
  close(fds[1]);
  say_poll("ended", fds[0]);
  say_bytes("read", bytes, read(fds[0], bytes, 100));
  SAY(read(fds[0], bytes, 100));
  say_poll("ended", fds[0]);
  close(fds[0]);
  pipe_of(fds);
  close(fds[0]);
  say_poll("no reader", fds[1]);
  SAY(write(fds[1], "x", 1));
  close(fds[1]);
}
SAME(a_pipe)

static void ask_a_pipe_that_is_full(void) {
  int fds[2];
  pipe_of(fds);
  SAY(fcntl(fds[0], F_GETPIPE_SZ));
  SAY(write(fds[1], bytes, sizeof bytes));
  say_poll("full", fds[1]);
  SAY(write(fds[1], "x", 1));
  SAY(read(fds[0], bytes, 1));
  say_poll("one less", fds[1]);
  SAY(write(fds[1], "x", 1));
  SAY(read(fds[0], bytes, PAGE_BYTES - 1));
  say_poll("a page less", fds[1]);
  SAY(write(fds[1], bytes, PAGE_BYTES + 1));
  SAY(write(fds[1], bytes, 10));
  say_held(fds[0]);
  SAY(read(fds[0], bytes, sizeof bytes));
  SAY(read(fds[0], bytes, sizeof bytes));
  close_both(fds);
}
SAME(a_pipe_that_is_full)

static void ask_writes_of_many_sizes(void) {
  static const size_t sizes[] = {1, 4095, 1, 4096, 10, 4090, 5000, 3, 4093, 8192, 8193, 60000, 4096, 1, 100};
  int fds[2];
  pipe_of(fds);
  for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
    SAY(write(fds[1], bytes, sizes[i]));
    say_held(fds[0]);
    say_poll("writer", fds[1]);
    if (i % 4 == 3) SAY(read(fds[0], bytes, 3000));
  }
  close_both(fds);
}
SAME(writes_of_many_sizes)

static void ask_the_size_of_a_pipe(void) {
  int fds[2];
  pipe_of(fds);
  SAY(fcntl(fds[1], F_SETPIPE_SZ, 5000));
  SAY(write(fds[1], bytes, sizeof bytes));
  SAY(fcntl(fds[1], F_SETPIPE_SZ, 4096));
  SAY(fcntl(fds[1], F_SETPIPE_SZ, 1 << 18));
  say_poll("larger", fds[1]);
  SAY(write(fds[1], bytes, sizeof bytes));
  say_held(fds[0]);
  SAY(fcntl(fds[1], F_SETPIPE_SZ, 0));
  SAY(read(fds[0], bytes, sizeof bytes));
  SAY(fcntl(fds[1], F_SETPIPE_SZ, 1));
  SAY(fcntl(fds[0], F_GETPIPE_SZ));
  close_both(fds);
}
SAME(the_size_of_a_pipe)

/* splice */

static void ask_splicing(void) {
  int fds[2], way[2];
  tcp_pair(fds);
  pipe_of(way);
  SAY(move(fds[1], way[1], 1000));
  SAY(move(way[0], fds[1], 1000));
  SAY(send(fds[0], "0123456789", 10, 0));
  settle();
  SAY(move(fds[1], way[1], 4));
  SAY(move(fds[1], way[1], 1000));
  SAY(move(fds[1], way[1], 1000));
  say_held(way[0]);
  SAY(move(way[0], fds[1], 3));
  SAY(move(way[0], fds[1], 1000));
  settle();
  say_recv("back", fds[0], 100, 0);
  SAY(shutdown(fds[0], SHUT_WR));
  settle();
  SAY(move(fds[1], way[1], 1000));
  close(way[1]);
  SAY(move(way[0], fds[1], 1000));
  close(way[0]);
  pipe_of(way);
  close(way[0]);
  SAY(move(fds[1], way[1], 1000));
  close(way[1]);
  close_both(fds);
}
SAME(splicing)

static void ask_splicing_what_is_reset(void) {
  for (int ended = 0; ended < 2; ended++) {
    int fds[2], way[2];
    tcp_pair(fds);
    pipe_of(way);
    SAY(send(fds[0], "data", 4, 0));
    if (ended) SAY(shutdown(fds[0], SHUT_WR));
    settle();
    set_linger(fds[0], true, 0);
    close(fds[0]);
    await("reset", fds[1], POLLHUP);
    SAY(move(fds[1], way[1], 1000));
    SAY(move(way[0], fds[1], 1000));
    SAY(move(fds[1], way[1], 1000));
    SAY(move(fds[1], way[1], 1000));
    SAY(move(way[0], fds[1], 1000));
    say_held(way[0]);
    close_both(way);
    close(fds[1]);
  }
}
SAME(splicing_what_is_reset)

static void ask_splicing_into_a_full_pipe(void) {
  int fds[2], way[2];
  tcp_pair(fds);
  pipe_of(way);
  set_option(fds[0], IPPROTO_TCP, TCP_NODELAY, 1);
  SAY(write(way[1], bytes, 1 << 16));
  SAY(send(fds[0], "x", 1, 0));
  settle();
  SAY(move(fds[1], way[1], 10));
  SAY(read(way[0], bytes, 4095));
  SAY(move(fds[1], way[1], 10));
  SAY(read(way[0], bytes, 1));
  SAY(move(fds[1], way[1], 10));
  SAY(move(fds[1], way[1], 10));
  SAY(read(way[0], bytes, sizeof bytes));
  for (int i = 0; i < 17; i++) {   /* a page each */
    SAY(send(fds[0], "x", 1, 0));
    settle();
    SAY(move(fds[1], way[1], 10));
  }
  say_held(way[0]);
  say_poll("full of few", way[1]);
  SAY(write(way[1], "x", 1));
  SAY(read(way[0], bytes, 1));
  SAY(write(way[1], "x", 1));
  SAY(write(way[1], "x", 1));
  SAY(read(way[0], bytes, sizeof bytes));
  close_both(way);
  close_both(fds);
}
SAME(splicing_into_a_full_pipe)

/* eventfd and signalfd */

static void ask_an_eventfd(void) {
  int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  uint64_t n = 3, most = UINT64_MAX - 1, all = UINT64_MAX;
  say_poll("zero", fd);
  SAY(read(fd, &n, sizeof n));
  SAY(write(fd, &n, 4));
  SAY(write(fd, &n, sizeof n));
  SAY(write(fd, &n, sizeof n));
  say_poll("six", fd);
  SAY(read(fd, &n, 4));
  SAY(read(fd, &n, sizeof n));
  say("%d", (int)n);
  SAY(write(fd, &all, sizeof all));
  SAY(write(fd, &most, sizeof most));
  say_poll("full", fd);
  n = 1;
  SAY(write(fd, &n, sizeof n));
  SAY(read(fd, &n, sizeof n));
  say("all: %d", n == most);
  n = 0;
  SAY(write(fd, &n, sizeof n));
  say_poll("nothing added", fd);
  close(fd);
  fd = eventfd(7, EFD_CLOEXEC);
  SAY(read(fd, &n, sizeof n));
  say("%d", (int)n);
  close(fd);
}
SAME(an_eventfd)

static void ask_signals_by_a_descriptor(void) {
  sigset_t set, before;
  struct signalfd_siginfo info[3];
  (void)sigemptyset(&set);
  (void)sigaddset(&set, SIGHUP);
  (void)sigaddset(&set, SIGUSR2);
  (void)pthread_sigmask(SIG_BLOCK, &set, &before);
  int fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
  say_poll("none", fd);
  SAY(read(fd, info, sizeof info));
  (void)raise(SIGUSR2);
  (void)raise(SIGHUP);
  (void)raise(SIGHUP);
  say_poll("two", fd);
  SAY(read(fd, info, 10));
  SAY(read(fd, info, sizeof info) / (ssize_t)sizeof info[0]);
  say("%u %u", info[0].ssi_signo, info[1].ssi_signo);
  SAY(read(fd, info, sizeof info));
  say_poll("none", fd);
  (void)raise(SIGHUP);
  SAY(read(fd, info, sizeof info[0]) == sizeof info[0]);
  (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
  close(fd);
}
SAME(signals_by_a_descriptor)

/* epoll */

static void say_wait(const char *what, int set, int max) {
  struct epoll_event events[8];
  int n = epoll_wait(set, events, max, 0);
  say_result(what, n);
  for (int i = 0; i < n; i++) {
    say("number %d", (int)events[i].data.u64);
    say_events("has", events[i].events);
  }
}

static int add(int set, int fd, uint32_t events, uint64_t number) {
  struct epoll_event e = {.events = events, .data.u64 = number};
  return epoll_ctl(set, EPOLL_CTL_ADD, fd, &e);
}

static int change(int set, int fd, uint32_t events, uint64_t number) {
  struct epoll_event e = {.events = events, .data.u64 = number};
  return epoll_ctl(set, EPOLL_CTL_MOD, fd, &e);
}

static void ask_a_set(void) {
  int set = epoll_create1(EPOLL_CLOEXEC), fds[2];
  local_pair_of(SOCK_STREAM, fds);
  say_poll("empty", set);
  SAY(add(set, fds[1], EPOLLIN, 1));
  SAY(add(set, fds[1], EPOLLIN, 1));
  say_wait("nothing", set, 8);
  SAY(send(fds[0], "x", 1, 0));
  say_poll("some", set);
  say_wait("level", set, 8);
  say_wait("level", set, 8);
  SAY(change(set, fds[1], EPOLLOUT, 2));
  say_wait("other", set, 8);
  SAY(change(set, fds[1], 0, 3));
  say_wait("none", set, 8);
  SAY(change(set, fds[1], EPOLLIN | EPOLLOUT | EPOLLRDHUP, 4));
  say_wait("all", set, 8);
  SAY(recv(fds[1], bytes, 1, 0));
  say_wait("read", set, 8);
  SAY(shutdown(fds[0], SHUT_WR));
  say_wait("ended", set, 8);
  SAY(epoll_ctl(set, EPOLL_CTL_DEL, fds[1], NULL));
  SAY(epoll_ctl(set, EPOLL_CTL_DEL, fds[1], NULL));
  SAY(change(set, fds[1], EPOLLIN, 1));
  SAY(add(set, set, EPOLLIN, 1));
  SAY(add(fds[0], fds[1], EPOLLIN, 1));
  struct epoll_event e;
  SAY(epoll_wait(set, &e, 0, 0));
  close_both(fds);
  close(set);
}
SAME(a_set)

static void ask_an_edge(void) {
  int set = epoll_create1(EPOLL_CLOEXEC), fds[2];
  local_pair_of(SOCK_STREAM, fds);
  SAY(add(set, fds[1], EPOLLIN | EPOLLET, 1));
  SAY(send(fds[0], "x", 1, 0));
  say_wait("edge", set, 8);
  say_wait("told", set, 8);
  SAY(send(fds[0], "x", 1, 0));
  say_wait("edge", set, 8);
  SAY(recv(fds[1], bytes, 1, 0));
  say_wait("told", set, 8);
  SAY(change(set, fds[1], EPOLLIN | EPOLLET, 2));
  say_wait("asked again", set, 8);
  say_wait("told", set, 8);
  SAY(change(set, fds[1], EPOLLIN | EPOLLONESHOT, 3));
  say_wait("once", set, 8);
  SAY(send(fds[0], "x", 1, 0));
  say_wait("once", set, 8);
  SAY(change(set, fds[1], EPOLLIN | EPOLLONESHOT, 4));
  say_wait("once more", set, 8);
  SAY(change(set, fds[1], EPOLLET, 5));
  say_wait("nothing", set, 8);
  close(fds[0]);
  say_wait("closed", set, 8);
  say_wait("told", set, 8);
  close(fds[1]);
  close(set);
}
SAME(an_edge)

static void ask_whose_turn_it_is(void) {
  int set = epoll_create1(EPOLL_CLOEXEC), fds[3];
  uint64_t one = 1;
  for (int i = 0; i < 3; i++) {
    fds[i] = eventfd(0, EFD_NONBLOCK);
    SAY(add(set, fds[i], EPOLLIN, (uint64_t)i));
  }
  for (int i = 2; i >= 0; i--) (void)!write(fds[i], &one, sizeof one);
  say_wait("all", set, 8);
  say_wait("one", set, 1);
  say_wait("two", set, 2);
  say_wait("one", set, 1);
  (void)!read(fds[1], &one, sizeof one);
  say_wait("two", set, 2);
  (void)!write(fds[1], &one, sizeof one);
  say_wait("two", set, 2);
  say_wait("two", set, 2);
  for (int i = 0; i < 3; i++) close(fds[i]);
  say_wait("none", set, 8);
  close(set);
}
SAME(whose_turn_it_is)

static void ask_a_copy_of_what_is_watched(void) {
  int set = epoll_create1(EPOLL_CLOEXEC), fd = eventfd(1, EFD_NONBLOCK), copy = dup(fd);
  SAY(add(set, fd, EPOLLIN, 1));
  SAY(add(set, copy, EPOLLIN, 2));
  say_wait("both", set, 8);
  SAY(epoll_ctl(set, EPOLL_CTL_DEL, copy, NULL));
  close(fd);
  say_wait("still", set, 8);
  SAY(epoll_ctl(set, EPOLL_CTL_DEL, fd, NULL));
  int other = eventfd(0, EFD_NONBLOCK);
  say("the same number: %d", other == fd);
  SAY(add(set, other, EPOLLOUT, 3));
  say_wait("two of one number", set, 8);
  SAY(epoll_ctl(set, EPOLL_CTL_DEL, other, NULL));
  close(copy);
  say_wait("none", set, 8);
  close(other);
  close(set);
}
SAME(a_copy_of_what_is_watched)

static void ask_a_set_in_a_set(void) {
  int outer = epoll_create1(EPOLL_CLOEXEC), inner = epoll_create1(EPOLL_CLOEXEC), fds[2];
  local_pair_of(SOCK_STREAM, fds);
  SAY(add(outer, inner, EPOLLIN, 1));
  SAY(add(inner, fds[1], EPOLLIN, 2));
  say_wait("outer", outer, 8);
  SAY(send(fds[0], "x", 1, 0));
  say_wait("outer", outer, 8);
  say_wait("inner", inner, 8);
  say_wait("outer", outer, 8);
  SAY(recv(fds[1], bytes, 1, 0));
  say_wait("outer", outer, 8);
  say_wait("inner", inner, 8);
  SAY(send(fds[0], "x", 1, 0));
  close(fds[1]);
  say_wait("outer", outer, 8);
  close(fds[0]);
  close(inner);
  close(outer);
}
SAME(a_set_in_a_set)

static void ask_a_wait_that_ends(void) {
  int set = epoll_create1(EPOLL_CLOEXEC), fds[2];
  struct epoll_event e;
  local_pair_of(SOCK_STREAM, fds);
  SAY(add(set, fds[1], EPOLLIN, 1));
  SAY(epoll_wait(set, &e, 1, 5));
  SAY(send(fds[0], "x", 1, 0));
  SAY(epoll_wait(set, &e, 1, -1));
  struct pollfd polled[] = {{.fd = fds[0], .events = POLLIN}, {.fd = fds[1], .events = 0}};
  SAY(poll(polled, 2, 5));
  SAY(poll(NULL, 0, 1));
  close(fds[0]);
  SAY(poll(polled + 1, 1, -1));
  say_events("closed", (uint32_t)(uint16_t)polled[1].revents);
  close(fds[1]);
  close(set);
}
SAME(a_wait_that_ends)

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(numbers_of_descriptors),
      cmocka_unit_test(calls_on_what_is_none),
      cmocka_unit_test(flags),
      cmocka_unit_test(a_pipe),
      cmocka_unit_test(a_pipe_that_is_full),
      cmocka_unit_test(writes_of_many_sizes),
      cmocka_unit_test(the_size_of_a_pipe),
      cmocka_unit_test(splicing),
      cmocka_unit_test(splicing_what_is_reset),
      cmocka_unit_test(splicing_into_a_full_pipe),
      cmocka_unit_test(an_eventfd),
      cmocka_unit_test(signals_by_a_descriptor),
      cmocka_unit_test(a_set),
      cmocka_unit_test(an_edge),
      cmocka_unit_test(whose_turn_it_is),
      cmocka_unit_test(a_copy_of_what_is_watched),
      cmocka_unit_test(a_set_in_a_set),
      cmocka_unit_test(a_wait_that_ends)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
