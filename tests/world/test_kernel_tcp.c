/* TCP sockets of the simulated kernel: what Linux says of the same. */
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

#include "../unit/cm.h"
#include "ask.h"
#include "base/base.h"

static void say_count(const char *what, int fd, unsigned long request) {
  int n = -1;
  int r = ioctl(fd, request, &n);
  if (r < 0) say_result(what, r);
  else say("%s: %d", what, n);
}

static void say_peer(int fd) {
  struct sockaddr_in a = {0};
  socklen_t n = sizeof a;
  int r = getpeername(fd, (struct sockaddr *)&a, &n);
  if (r < 0) say_result("peer", r);
  else say("peer: %08x, %u bytes", ntohl(a.sin_addr.s_addr), (unsigned)n);
}

/* All that an end can be asked once it is over. */
static void say_rest(int fd) {
  say_poll("then", fd);
  say_recv("recv", fd, 100, 0);
  say_recv("recv", fd, 100, 0);
  say_error(fd);
  SAY(send(fd, "x", 1, MSG_NOSIGNAL));
  settle();
  SAY(send(fd, "x", 1, 0));
  SAY(shutdown(fd, SHUT_WR));
  settle();
  say_peer(fd);
  say_poll("at last", fd);
}

/* Connecting */

static void ask_a_refused_connection(void) {
  uint16_t port;
  close(tcp_listener(1, &port));
  int fd = tcp_dial(port);
  say_result("connect", -1);
  await("refused", fd, POLLOUT);
  say_peer(fd);
  say_error(fd);
  say_error(fd);
  say_rest(fd);
  close(fd);
}
SAME(a_refused_connection)

static void ask_a_refusal_is_told_by_whatever_asks_first(void) {
  uint16_t port;
  close(tcp_listener(1, &port));
  int fd = tcp_dial(port);
  await("refused", fd, POLLOUT);
  say_recv("recv", fd, 10, 0);
  say_recv("recv", fd, 10, 0);
  close(fd);
  fd = tcp_dial(port);
  await("refused", fd, POLLOUT);
  SAY(send(fd, "x", 1, MSG_NOSIGNAL));
  SAY(send(fd, "x", 1, MSG_NOSIGNAL));
  close(fd);
}
SAME(a_refusal_is_told_by_whatever_asks_first)

static void ask_a_blocking_connection(void) {
  uint16_t port;
  int listener = tcp_listener(1, &port), fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  SAY(connect(fd, (struct sockaddr *)&a, sizeof a));
  SAY(connect(fd, (struct sockaddr *)&a, sizeof a));
  say_peer(fd);
  close(listener);
  close(fd);
  fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  SAY(connect(fd, (struct sockaddr *)&a, sizeof a));
  say_error(fd);
  close(fd);
}
SAME(a_blocking_connection)

static void ask_a_connection_that_stands(void) {
  int fds[2];
  tcp_pair(fds);
  for (int i = 0; i < 2; i++) {
    say_poll("stands", fds[i]);
    say_peer(fds[i]);
    say_error(fds[i]);
    say_recv("recv", fds[i], 1, 0);
    SAY(listen(fds[i], 1));
    SAY(accept4(fds[i], NULL, NULL, 0));
  }
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(tcp_port(fds[1]))};
  SAY(connect(fds[0], (struct sockaddr *)&a, sizeof a));
  close_both(fds);
}
SAME(a_connection_that_stands)

static void ask_a_fresh_socket(void) {
  int fd = tcp_socket();
  say_poll("fresh", fd);
  say_recv("recv", fd, 1, 0);
  SAY(send(fd, "x", 1, MSG_NOSIGNAL));
  SAY(shutdown(fd, SHUT_WR));
  SAY(accept4(fd, NULL, NULL, 0));
  say_peer(fd);
  say_error(fd);
  say_count("FIONREAD", fd, FIONREAD);
  say_count("SIOCOUTQ", fd, SIOCOUTQ);
  say("port %u", tcp_port(fd));
  SAY(listen(fd, 1));
  say("has a port: %d", tcp_port(fd) != 0);
  say_poll("listens", fd);
  say_count("FIONREAD", fd, FIONREAD);
  SAY(accept4(fd, NULL, NULL, 0));
  say_recv("recv", fd, 1, 0);
  SAY(send(fd, "x", 1, MSG_NOSIGNAL));
  SAY(listen(fd, 5));
  close(fd);
}
SAME(a_fresh_socket)

static void ask_addresses_that_are_taken(void) {
  uint16_t port;
  int a = tcp_listener(1, &port), b = tcp_socket(), c = tcp_socket(), d = tcp_socket(), e = tcp_socket();
  SAY(tcp_bind_to(a, INADDR_LOOPBACK, 0));
  SAY(tcp_bind_to(b, INADDR_LOOPBACK, port));
  SAY(tcp_bind_to(b, INADDR_ANY, port));
  set_option(c, SOL_SOCKET, SO_REUSEADDR, 1);
  SAY(tcp_bind_to(c, INADDR_LOOPBACK, port));
  set_option(d, SOL_SOCKET, SO_REUSEPORT, 1);
  SAY(tcp_bind_to(d, INADDR_LOOPBACK, port));
  SAY(tcp_bind_to(e, 0x08080808, 0));
  close(a);
  SAY(tcp_bind_to(d, INADDR_LOOPBACK, port));
  SAY(listen(d, 1));
  set_option(b, SOL_SOCKET, SO_REUSEPORT, 1);
  SAY(tcp_bind_to(b, INADDR_LOOPBACK, port));
  SAY(listen(b, 1));
  SAY(tcp_bind_to(c, INADDR_LOOPBACK, port));
  SAY(tcp_bind_to(e, INADDR_ANY, port));
  close(b), close(c), close(d), close(e);
}
SAME(addresses_that_are_taken)

static void ask_two_that_are_bound_and_one_that_listens(void) {
  int a = tcp_socket(), b = tcp_socket();
  set_option(a, SOL_SOCKET, SO_REUSEADDR, 1);
  set_option(b, SOL_SOCKET, SO_REUSEADDR, 1);
  SAY(tcp_bind_to(a, INADDR_LOOPBACK, 0));
  SAY(tcp_bind_to(b, INADDR_LOOPBACK, tcp_port(a)));
  SAY(listen(a, 1));
  SAY(listen(b, 1));
  close(a), close(b);
}
SAME(two_that_are_bound_and_one_that_listens)

/* Accepting */

static void ask_an_accept_queue_that_is_full(void) {
  uint16_t port;
  int listener = tcp_listener(1, &port), fds[3];
  for (int i = 0; i < 3; i++) {
    fds[i] = tcp_dial(port);
    settle();
    say_poll("dialled", fds[i]);
  }
  say_recv("connecting", fds[2], 1, 0);
  SAY(send(fds[2], "x", 1, MSG_NOSIGNAL));
  say_peer(fds[2]);
  say_count("FIONREAD", fds[2], FIONREAD);
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  SAY(connect(fds[2], (struct sockaddr *)&a, sizeof a));
  for (int i = 0; i < 2; i++) {
    int got = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    say("accepted: %d", got >= 0);
    close(got);
  }
  SAY(accept4(listener, NULL, NULL, SOCK_NONBLOCK));
  await("there is room", fds[2], POLLOUT);
  await("the third", listener, POLLIN);
  close(listener);
  for (int i = 0; i < 3; i++) close(fds[i]);
}
SAME(an_accept_queue_that_is_full)

static void ask_a_listener_that_closes(void) {
  uint16_t port;
  int listener = tcp_listener(4, &port), fd = tcp_dial(port);
  await("stands", fd, POLLOUT);
  SAY(send(fd, "x", 1, 0));
  settle();
  close(listener);
  await("nobody took it", fd, POLLHUP);
  say_rest(fd);
  close(fd);
}
SAME(a_listener_that_closes)

static void ask_one_that_left_before_it_was_accepted(void) {
  uint16_t port;
  for (int reset = 0; reset < 2; reset++) {
    int listener = tcp_listener(4, &port), fd = tcp_dial(port);
    await("stands", fd, POLLOUT);
    set_linger(fd, reset != 0, 0);
    SAY(send(fd, "x", 1, 0));
    settle();
    close(fd);
    settle();
    say_poll("listener", listener);
    struct sockaddr_in from = {0};
    socklen_t n = sizeof from;
    int got = accept4(listener, (struct sockaddr *)&from, &n, SOCK_NONBLOCK);
    say("accepted: %d, from %08x, with a port: %d", got >= 0, ntohl(from.sin_addr.s_addr), from.sin_port != 0);
    say_peer(got);
    say_poll("it", got);
    say_rest(got);
    close(got);
    close(listener);
  }
}
SAME(one_that_left_before_it_was_accepted)

static void ask_one_that_is_accepted_when_it_was_heard(void) {
  uint16_t port;
  int listener = tcp_listener(4, &port);
  set_option(listener, IPPROTO_TCP, TCP_DEFER_ACCEPT, 1);
  int fd = tcp_dial(port);
  await("stands", fd, POLLOUT);
  say_poll("silent", listener);
  SAY(send(fd, "x", 1, 0));
  await("heard", listener, POLLIN);
  int got = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
  say_recv("what it said", got, 10, 0);
  close(fd), close(got);
  fd = tcp_dial(port);
  await("stands", fd, POLLOUT);
  SAY(shutdown(fd, SHUT_WR));
  await("ended", listener, POLLIN);
  close(fd);
  close(listener);
}
SAME(one_that_is_accepted_when_it_was_heard)

static void ask_one_that_says_nothing_is_accepted_after_a_while(void) {
  uint16_t port;
  int listener = tcp_listener(4, &port);
  set_option(listener, IPPROTO_TCP, TCP_DEFER_ACCEPT, 1);
  int fd = tcp_dial(port);
  await("stands", fd, POLLOUT);
  await("silent", listener, POLLIN);
  say("accepted: %d", accept4(listener, NULL, NULL, SOCK_NONBLOCK) >= 0);
  close(fd), close(listener);
}
SAME(one_that_says_nothing_is_accepted_after_a_while)

static void ask_what_an_accepted_one_has_from_its_listener(void) {
  uint16_t port;
  int listener = tcp_listener(1, &port);
  set_linger(listener, true, 0);
  set_option(listener, IPPROTO_TCP, TCP_NODELAY, 1);
  set_option(listener, SOL_SOCKET, SO_KEEPALIVE, 1);
  set_option(listener, SOL_SOCKET, SO_OOBINLINE, 1);
  set_option(listener, IPPROTO_TCP, TCP_KEEPIDLE, 33);
  int fd = tcp_dial(port);
  await("comes", listener, POLLIN);
  int got = accept4(listener, NULL, NULL, SOCK_NONBLOCK), value = 0;
  struct linger l = {0};
  socklen_t n = sizeof l;
  SAY(getsockopt(got, SOL_SOCKET, SO_LINGER, &l, &n));
  say("linger %d %d, %u bytes", l.l_onoff, l.l_linger, (unsigned)n);
  static const int options[][2] = {{IPPROTO_TCP, TCP_NODELAY}, {SOL_SOCKET, SO_KEEPALIVE}, {SOL_SOCKET, SO_OOBINLINE},
                                   {IPPROTO_TCP, TCP_KEEPIDLE}, {SOL_SOCKET, SO_TYPE}, {SOL_SOCKET, SO_DOMAIN}};
  for (size_t i = 0; i < ARRAY_LEN(options); i++) {
    n = sizeof value;
    SAY(getsockopt(got, options[i][0], options[i][1], &value, &n));
    say("%d", value);
  }
  SAY(fcntl(got, F_GETFL) & O_NONBLOCK);
  SAY(setsockopt(got, IPPROTO_TCP, 99999, &value, sizeof value));
  SAY(setsockopt(got, SOL_SOCKET, SO_KEEPALIVE, &value, 1));
  close(fd), close(got), close(listener);
}
SAME(what_an_accepted_one_has_from_its_listener)

/* Ends */

static void ask_half_a_close(void) {
  int fds[2];
  tcp_pair(fds);
  SAY(send(fds[0], "last words", 10, 0));
  SAY(shutdown(fds[0], SHUT_WR));
  say_poll("ended", fds[0]);
  await("its peer", fds[1], POLLRDHUP);
  say_recv("words", fds[1], 100, 0);
  say_recv("end", fds[1], 100, 0);
  say_recv("end", fds[1], 100, MSG_PEEK);
  say_error(fds[1]);
  SAY(send(fds[0], "x", 1, MSG_NOSIGNAL));
  SAY(shutdown(fds[0], SHUT_WR));
  SAY(send(fds[1], "answer", 6, 0));
  await("the answer", fds[0], POLLIN);
  say_recv("answer", fds[0], 100, 0);
  say_count("SIOCOUTQ", fds[0], SIOCOUTQ);
  SAY(shutdown(fds[1], SHUT_WR));
  await("both have ended", fds[0], POLLHUP);
  settle();
  for (int i = 0; i < 2; i++) say_rest(fds[i]);
  close_both(fds);
}
SAME(half_a_close)

static void ask_a_close_with_all_read(void) {
  int fds[2];
  tcp_pair(fds);
  SAY(send(fds[0], "bye", 3, 0));
  close(fds[0]);
  await("its peer", fds[1], POLLRDHUP);
  say_count("FIONREAD", fds[1], FIONREAD);
  say_recv("bye", fds[1], 100, 0);
  say_recv("end", fds[1], 100, 0);
  SAY(send(fds[1], "x", 1, MSG_NOSIGNAL));
  await("nobody is there", fds[1], POLLHUP);
  say_rest(fds[1]);
  close(fds[1]);
}
SAME(a_close_with_all_read)

static void ask_a_write_to_one_that_closed_is_told_by_its_error(void) {
  int fds[2];
  tcp_pair(fds);
  close(fds[0]);
  await("its peer", fds[1], POLLRDHUP);
  SAY(send(fds[1], "x", 1, MSG_NOSIGNAL));
  await("nobody is there", fds[1], POLLHUP);
  say_error(fds[1]);
  SAY(send(fds[1], "x", 1, MSG_NOSIGNAL));
  say_recv("end", fds[1], 100, 0);
  close(fds[1]);
}
SAME(a_write_to_one_that_closed_is_told_by_its_error)

static void ask_a_close_with_something_unread(void) {
  for (int ended = 0; ended < 2; ended++) {
    int fds[2];
    tcp_pair(fds);
    SAY(send(fds[0], "unread", 6, 0));
    if (ended) SAY(shutdown(fds[0], SHUT_WR));
    SAY(send(fds[1], "on its way", 10, 0));
    settle();
    close(fds[1]);
    await("reset", fds[0], POLLHUP);
    say_count("FIONREAD", fds[0], FIONREAD);
    say_rest(fds[0]);
    close(fds[0]);
  }
}
SAME(a_close_with_something_unread)

static void ask_a_reset_by_linger(void) {
  for (int data = 0; data < 2; data++) {
    int fds[2];
    tcp_pair(fds);
    set_linger(fds[0], true, 0);
    if (data) SAY(send(fds[0], "data", 4, 0));
    settle();
    close(fds[0]);
    await("reset", fds[1], POLLHUP);
    say_count("FIONREAD", fds[1], FIONREAD);
    say_rest(fds[1]);
    close(fds[1]);
  }
}
SAME(a_reset_by_linger)

static void ask_a_reset_whose_error_is_asked_for_first(void) {
  int fds[2];
  tcp_pair(fds);
  set_linger(fds[0], true, 0);
  SAY(send(fds[0], "data", 4, 0));
  settle();
  close(fds[0]);
  await("reset", fds[1], POLLHUP);
  say_error(fds[1]);
  say_error(fds[1]);
  say_poll("told", fds[1]);
  say_recv("data", fds[1], 2, 0);
  say_recv("data", fds[1], 100, 0);
  say_recv("end", fds[1], 100, 0);
  close(fds[1]);
}
SAME(a_reset_whose_error_is_asked_for_first)

static void ask_a_reset_behind_an_end(void) {
  for (int ours = 0; ours < 2; ours++) {
    int fds[2];
    tcp_pair(fds);
    SAY(send(fds[0], "data", 4, 0));
    SAY(shutdown(fds[0], SHUT_WR));
    settle();
    if (ours) {
      SAY(send(fds[1], "more", 4, 0));
      settle();
    }
    set_linger(fds[0], true, 0);
    close(fds[0]);
    await("both", fds[1], POLLHUP);
    say_rest(fds[1]);
    close(fds[1]);
  }
}
SAME(a_reset_behind_an_end)

static void ask_a_linger_after_both_ends_is_no_reset(void) {
  int fds[2];
  tcp_pair(fds);
  set_linger(fds[0], true, 0);
  set_linger(fds[1], true, 0);
  SAY(send(fds[1], "data", 4, 0));
  SAY(shutdown(fds[0], SHUT_WR));
  SAY(shutdown(fds[1], SHUT_WR));
  settle();
  say_recv("data", fds[0], 100, 0);
  say_recv("end", fds[0], 100, 0);
  close(fds[0]);
  settle();
  say_rest(fds[1]);
  close(fds[1]);
}
SAME(a_linger_after_both_ends_is_no_reset)

static void ask_a_reset_of_one_that_has_ended_its_side(void) {
  int fds[2];
  tcp_pair(fds);
  SAY(shutdown(fds[0], SHUT_WR));
  settle();
  set_linger(fds[1], true, 0);
  close(fds[1]);
  await("reset", fds[0], POLLHUP);
  say_rest(fds[0]);
  close(fds[0]);
}
SAME(a_reset_of_one_that_has_ended_its_side)

static void ask_no_more_reading(void) {
  int fds[2];
  tcp_pair(fds);
  SAY(shutdown(fds[0], SHUT_RD));
  say_poll("shut", fds[0]);
  say_recv("end", fds[0], 10, 0);
  SAY(send(fds[1], "x", 1, 0));
  settle();
  say_poll("its peer", fds[1]);
  say_recv("what came", fds[0], 10, 0);
  say_recv("end", fds[0], 10, 0);
  SAY(shutdown(fds[0], SHUT_RDWR));
  settle();
  say_poll("shut", fds[0]);
  say_poll("its peer", fds[1]);
  close_both(fds);
}
SAME(no_more_reading)

static void ask_what_is_told_once_to_an_edge(void) {
  int fds[2], set = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event e = {.events = EPOLLET, .data.u64 = 5};
  tcp_pair(fds);
  SAY(epoll_ctl(set, EPOLL_CTL_ADD, fds[1], &e));
  SAY(epoll_wait(set, &e, 1, 0));
  SAY(send(fds[0], "x", 1, 0));
  settle();
  SAY(epoll_wait(set, &e, 1, 0));
  SAY(shutdown(fds[0], SHUT_WR));
  settle();
  SAY(epoll_wait(set, &e, 1, 0));
  set_linger(fds[0], true, 0);
  close(fds[0]);
  settle();
  SAY(epoll_wait(set, &e, 1, 100));
  say_events("edge", e.events);
  SAY(epoll_wait(set, &e, 1, 0));
  say_error(fds[1]);
  SAY(epoll_wait(set, &e, 1, 0));
  e = (struct epoll_event){.events = EPOLLET | EPOLLRDHUP, .data.u64 = 6};
  SAY(epoll_ctl(set, EPOLL_CTL_MOD, fds[1], &e));
  SAY(epoll_wait(set, &e, 1, 0));
  say_events("edge", e.events);
  close(set), close(fds[1]);
}
SAME(what_is_told_once_to_an_edge)

/* Bytes */

static void ask_peeking(void) {
  int fds[2];
  tcp_pair(fds);
  say_recv("nothing", fds[1], 4, MSG_PEEK);
  SAY(send(fds[0], "0123456789", 10, 0));
  settle();
  say_recv("peek", fds[1], 4, MSG_PEEK);
  say_recv("peek", fds[1], 100, MSG_PEEK);
  say_count("FIONREAD", fds[1], FIONREAD);
  say_recv("recv", fds[1], 4, 0);
  say_recv("peek", fds[1], 100, MSG_PEEK | MSG_DONTWAIT);
  say_recv("none", fds[1], 0, 0);
  char a[3], b[10];
  struct iovec iov[] = {{a, 3}, {NULL, 0}, {b, 10}};
  ssize_t n = readv(fds[1], iov, 3);
  say_result("readv", n);
  say_bytes("first", a, 3);
  say_bytes("second", b, n - 3);
  say_poll("empty", fds[1]);
  close_both(fds);
}
SAME(peeking)

static void ask_gathering(void) {
  int fds[2];
  tcp_pair(fds);
  char one[] = "one", two[] = " and two";
  struct iovec iov[] = {{one, 3}, {NULL, 0}, {two, 8}};
  SAY(sendmsg(fds[0], &(struct msghdr){.msg_iov = iov, .msg_iovlen = 3}, MSG_NOSIGNAL));
  SAY(write(fds[0], "!", 1));
  settle();
  char got[32];
  say_bytes("read", got, read(fds[1], got, sizeof got));
  SAY(read(fds[1], got, sizeof got));
  close_both(fds);
}
SAME(gathering)

/* Until there is no room. In a while there may be some again: Linux puts together what it holds. */
static size_t fill(int fd) {
  static char bytes[100000];
  size_t sum = 0;
  ssize_t n;
  for (int full = 0; full < 3; full = n > 0 ? 0 : full + 1) {
    n = send(fd, bytes, sizeof bytes, MSG_NOSIGNAL);
    if (n > 0) sum += (size_t)n;
    else settle();
  }
  say_result("full", n);
  return sum;
}

static size_t drain(int fd, size_t n) {
  static char bytes[100000];
  size_t got = 0;
  for (ssize_t some; got < n; got += some > 0 ? (size_t)some : 0) {
    some = recv(fd, bytes, size_min(sizeof bytes, n - got), 0);
    if (some == 0) break;
    if (some < 0) settle();
  }
  return got;
}

static void ask_a_peer_that_does_not_read(void) {
  int fds[2];
  tcp_pair(fds);
  size_t sent = fill(fds[0]);
  say("all came: %d", drain(fds[1], sent) == sent);
  await("emptied", fds[0], POLLOUT);
  say_recv("nothing more", fds[1], 1, 0);
  close_both(fds);
}
SAME(a_peer_that_does_not_read)

static void ask_what_is_queued_is_delivered_after_a_close(void) {
  int fds[2];
  tcp_pair(fds);
  size_t sent = fill(fds[0]);
  close(fds[0]);
  say("all came: %d", drain(fds[1], sent) == sent);
  await("the end", fds[1], POLLIN);
  say_recv("nothing more", fds[1], 1, 0);
  say_error(fds[1]);
  close(fds[1]);
}
SAME(what_is_queued_is_delivered_after_a_close)

static void ask_what_is_queued_is_lost_by_a_reset(void) {
  int fds[2];
  tcp_pair(fds);
  size_t sent = fill(fds[0]), got = 0;
  static char bytes[100000];
  set_linger(fds[0], true, 0);
  close(fds[0]);
  settle();
  ssize_t n;
  while ((n = recv(fds[1], bytes, sizeof bytes, 0)) > 0) got += (size_t)n;
  say_result("at last", n);
  say("some came: %d, all: %d", got > 0, got == sent);
  close(fds[1]);
}
SAME(what_is_queued_is_lost_by_a_reset)

static void ask_one_that_waits(void) {
  int fds[2];
  tcp_pair(fds);
  const struct timeval limit = {.tv_usec = 20000};
  SAY(fcntl(fds[1], F_SETFL, 0));
  SAY(setsockopt(fds[1], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit));
  say_recv("in vain", fds[1], 1, 0);
  say_recv("without", fds[1], 1, MSG_DONTWAIT);
  SAY(send(fds[0], "x", 1, 0));
  say_recv("comes", fds[1], 1, 0);
  close_both(fds);
}
SAME(one_that_waits)

static void ask_tcp_info(void) {
  int fds[2];
  struct tcp_info info;
  socklen_t n = sizeof info;
  tcp_pair(fds);
  SAY(send(fds[0], "x", 1, 0));
  settle();
  SAY(getsockopt(fds[0], IPPROTO_TCP, TCP_INFO, &info, &n));
  say("state %u, unacked %u, backoff %u, probes %u", info.tcpi_state, info.tcpi_unacked, info.tcpi_backoff,
      info.tcpi_probes);
  SAY(shutdown(fds[0], SHUT_WR));
  settle();
  for (int i = 0; i < 2; i++) {
    n = sizeof info;
    SAY(getsockopt(fds[i], IPPROTO_TCP, TCP_INFO, &info, &n));
    say("ends: %d, was ended: %d", info.tcpi_state == TCP_FIN_WAIT1 || info.tcpi_state == TCP_FIN_WAIT2,
        info.tcpi_state == TCP_CLOSE_WAIT);
  }
  close_both(fds);
}
SAME(tcp_info)

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_refused_connection),
      cmocka_unit_test(a_refusal_is_told_by_whatever_asks_first),
      cmocka_unit_test(a_blocking_connection),
      cmocka_unit_test(a_connection_that_stands),
      cmocka_unit_test(a_fresh_socket),
      cmocka_unit_test(addresses_that_are_taken),
      cmocka_unit_test(two_that_are_bound_and_one_that_listens),
      cmocka_unit_test(an_accept_queue_that_is_full),
      cmocka_unit_test(a_listener_that_closes),
      cmocka_unit_test(one_that_left_before_it_was_accepted),
      cmocka_unit_test(one_that_is_accepted_when_it_was_heard),
      cmocka_unit_test(one_that_says_nothing_is_accepted_after_a_while),
      cmocka_unit_test(what_an_accepted_one_has_from_its_listener),
      cmocka_unit_test(half_a_close),
      cmocka_unit_test(a_close_with_all_read),
      cmocka_unit_test(a_write_to_one_that_closed_is_told_by_its_error),
      cmocka_unit_test(a_close_with_something_unread),
      cmocka_unit_test(a_reset_by_linger),
      cmocka_unit_test(a_reset_whose_error_is_asked_for_first),
      cmocka_unit_test(a_reset_behind_an_end),
      cmocka_unit_test(a_linger_after_both_ends_is_no_reset),
      cmocka_unit_test(a_reset_of_one_that_has_ended_its_side),
      cmocka_unit_test(no_more_reading),
      cmocka_unit_test(what_is_told_once_to_an_edge),
      cmocka_unit_test(peeking),
      cmocka_unit_test(gathering),
      cmocka_unit_test(a_peer_that_does_not_read),
      cmocka_unit_test(what_is_queued_is_delivered_after_a_close),
      cmocka_unit_test(what_is_queued_is_lost_by_a_reset),
      cmocka_unit_test(one_that_waits),
      cmocka_unit_test(tcp_info)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
