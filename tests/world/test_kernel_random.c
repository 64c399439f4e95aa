/* Calls on sockets, a pipe and an epoll set by chance: what Linux says of the same. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../unit/cm.h"
#include "ask.h"
#include "base/base.h"

enum { ROUNDS = 40, CALLS = 60, SENT_MAX = 300, PIPE_BYTES = 1 << 20 };

static struct rig {
  uint32_t random;
  int ends[2], pipe[2], set;
  bool watched[2];
} rig;
static uint32_t round_number;

static uint32_t below(uint32_t n) {
  rig.random ^= rig.random << 13;
  rig.random ^= rig.random >> 17;
  rig.random ^= rig.random << 5;
  return rig.random % n;
}

static void send_some(int fd) {
  char bytes[SENT_MAX];
  size_t n = 1 + below(SENT_MAX);
  for (size_t i = 0; i < n; i++) bytes[i] = (char)('a' + below(26));
  SAY(send(fd, bytes, n, MSG_NOSIGNAL));
}

static void say_unread(int fd) {
  int n = -1;
  int r = ioctl(fd, FIONREAD, &n);
  if (r < 0) say_result("FIONREAD", r);
  else say("FIONREAD: %d", n);
}

static void say_peer(int fd) {
  struct sockaddr_storage a;
  socklen_t n = sizeof a;
  SAY(getpeername(fd, (struct sockaddr *)&a, &n));
}

static void close_end(int i) {
  close(rig.ends[i]);
  rig.ends[i] = -1;
  rig.watched[i] = false;
}

static ssize_t move(int in, int out) {
  return splice(in, NULL, out, NULL, 1 + below(500), SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
}

static void watch(int i) {
  static const uint32_t events[] = {EPOLLIN, EPOLLIN | EPOLLOUT, EPOLLRDHUP, EPOLLIN | EPOLLRDHUP, EPOLLET,
                                    EPOLLET | EPOLLRDHUP, 0};
  struct epoll_event e = {.events = events[below(ARRAY_LEN(events))], .data.u64 = (uint64_t)i};
  SAY(epoll_ctl(rig.set, rig.watched[i] ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, rig.ends[i], &e));
  rig.watched[i] = true;
}

/* In the order of the ends, since which came first is the network's affair. */
static void say_set(void) {
  struct epoll_event events[2];
  int n = epoll_wait(rig.set, events, 2, 0);
  say_result("epoll_wait", n);
  for (uint64_t end = 0; end < 2; end++) {
    for (int i = 0; i < n; i++) {
      if (events[i].data.u64 == end) say_events(end == 0 ? "first" : "second", events[i].events);
    }
  }
}

static void call_one(void) {
  int i = (int)below(2), fd = rig.ends[i];
  say("end %d", i);
  switch (below(24)) {
    case 0: case 1: case 2: case 3: case 4: send_some(fd); break;
    case 5: case 6: case 7: say_recv("recv", fd, 1 + below(400), 0); break;
    case 8: say_recv("peek", fd, 1 + below(400), MSG_PEEK); break;
    case 9: say_error(fd); break;
    case 10: say_peer(fd); break;
    case 11: say_unread(fd); break;
    case 12: case 13: if (fd >= 0) watch(i); break;
    case 14: case 15: case 16: say_set(); break;
    case 17: SAY(move(fd, rig.pipe[1])); break;
    case 18: SAY(move(rig.pipe[0], fd)); break;
    case 19: set_linger(fd, below(2) == 0, 0); break;
    case 20: if (below(3) == 0) SAY(shutdown(fd, below(4) == 0 ? SHUT_RDWR : SHUT_WR)); break;
    case 21: if (below(3) == 0) close_end(i); break;
    default: say_poll("poll", fd); break;
  }
}

static void run_round(void) {
  rig = (struct rig){.random = 88172645U + round_number * 7919U, .set = epoll_create1(EPOLL_CLOEXEC)};
  switch (round_number % 3) {
    case 0: local_pair_of(SOCK_STREAM, rig.ends); break;
    case 1: local_pair_of(SOCK_SEQPACKET, rig.ends); break;
    default:
      tcp_pair(rig.ends);
      for (int i = 0; i < 2; i++) set_option(rig.ends[i], IPPROTO_TCP, TCP_NODELAY, 1);   /* Linux would wait */
      break;
  }
  if (pipe2(rig.pipe, O_NONBLOCK | O_CLOEXEC) != 0 || fcntl(rig.pipe[0], F_SETPIPE_SZ, PIPE_BYTES) < 0) say("no pipe");
  for (int n = 0; n < CALLS; n++) {
    call_one();
    settle();
    for (int i = 0; i < 2; i++) say_poll("now", rig.ends[i]);
  }
  close_both(rig.ends);
  close_both(rig.pipe);
  close(rig.set);
}

static void calls_by_chance(void **state) {
  const char *more = getenv("ADIT_ASK_ROUNDS");
  (void)state;
  for (round_number = 0; round_number < (more != NULL ? (uint32_t)atoi(more) : ROUNDS); round_number++) {
    const char *differs = ask_both(run_round);
    if (differs != NULL) fail_msg("round %u: %s", (unsigned)round_number, differs);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(calls_by_chance)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
