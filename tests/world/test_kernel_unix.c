/* Unix sockets of the simulated kernel, and descriptors in messages: what Linux says of the same. */
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "../unit/cm.h"
#include "ask.h"
#include "base/base.h"

#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83
#endif

enum { FILES = 4 };
static char bytes[1 << 20];

/* Ends */

static void ask_a_pair(void) {
  static const int types[] = {SOCK_STREAM, SOCK_SEQPACKET};
  for (size_t i = 0; i < ARRAY_LEN(types); i++) {
    int fds[2];
    local_pair_of(types[i], fds);
    say_poll("stands", fds[0]);
    say_recv("nothing", fds[1], 10, 0);
    SAY(send(fds[0], "one", 3, 0));
    SAY(send(fds[0], "two", 3, 0));
    say_poll("some", fds[1]);
    say_recv("peek", fds[1], 4, MSG_PEEK);
    say_recv("recv", fds[1], 2, MSG_TRUNC);
    say_recv("recv", fds[1], 100, 0);
    say_recv("recv", fds[1], 100, 0);
    SAY(send(fds[0], "last", 4, 0));
    close(fds[0]);
    say_poll("closed", fds[1]);
    say_recv("last", fds[1], 100, 0);
    say_recv("end", fds[1], 100, 0);
    SAY(send(fds[1], "x", 1, MSG_NOSIGNAL));
    SAY(send(fds[1], "x", 1, 0));
    SAY(shutdown(fds[1], SHUT_WR));
    say_error(fds[1]);
    say_poll("closed", fds[1]);
    close(fds[1]);
  }
}
SAME(a_pair)

static void ask_a_close_with_something_unread(void) {
  static const int types[] = {SOCK_STREAM, SOCK_SEQPACKET};
  for (size_t i = 0; i < 2 * ARRAY_LEN(types); i++) {
    int fds[2];
    local_pair_of(types[i / 2], fds);
    SAY(send(fds[0], "unread", 6, 0));
    SAY(send(fds[1], "answer", 6, 0));
    close(fds[1]);
    say_poll("reset", fds[0]);
    if (i % 2 == 1) SAY(send(fds[0], "x", 1, MSG_NOSIGNAL));
    say_recv("answer", fds[0], 100, 0);
    say_recv("reset", fds[0], 100, 0);
    say_recv("end", fds[0], 100, 0);
    say_error(fds[0]);
    say_poll("told", fds[0]);
    close(fds[0]);
  }
}
SAME(a_close_with_something_unread)

static void ask_all_ways_to_shut(void) {
  static const int hows[] = {SHUT_RD, SHUT_WR, SHUT_RDWR};
  for (size_t i = 0; i < ARRAY_LEN(hows); i++) {
    int fds[2];
    local_pair_of(SOCK_STREAM, fds);
    SAY(send(fds[1], "before", 6, 0));
    SAY(shutdown(fds[0], hows[i]));
    for (int end = 0; end < 2; end++) {
      say_poll("shut", fds[end]);
      SAY(send(fds[end], "x", 1, MSG_NOSIGNAL));
      say_recv("recv", fds[end], 100, 0);
      say_recv("recv", fds[end], 100, 0);
    }
    close_both(fds);
  }
}
SAME(all_ways_to_shut)

static void ask_a_pair_that_is_full(void) {
  int fds[2];
  size_t sent = 0, got = 0;
  ssize_t n;
  local_pair_of(SOCK_STREAM, fds);
  while ((n = send(fds[0], bytes, 10000, 0)) > 0) sent += (size_t)n;
  say_result("full", n);
  say_poll("full", fds[0]);
  while ((n = recv(fds[1], bytes, sizeof bytes, 0)) > 0) got += (size_t)n;
  say("all came: %d", sent == got);
  say_poll("emptied", fds[0]);
  close_both(fds);
}
SAME(a_pair_that_is_full)

static void ask_a_send_that_waits_in_vain(void) {
  int fds[2];
  const struct timeval limit = {.tv_usec = 20000};
  local_pair_of(SOCK_STREAM, fds);
  SAY(fcntl(fds[0], F_SETFL, 0));
  SAY(setsockopt(fds[0], SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit));
  ssize_t n = send(fds[0], bytes, sizeof bytes, 0);
  say("some: %d", n > 0 && n < (ssize_t)sizeof bytes);
  SAY(send(fds[0], "x", 1, 0));
  SAY(send(fds[0], "x", 1, MSG_DONTWAIT));
  close_both(fds);
}
SAME(a_send_that_waits_in_vain)

static void ask_options(void) {
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0), value = 1;
  socklen_t n = sizeof value;
  SAY(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, sizeof value));
  SAY(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, &n));
  SAY(setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &value, sizeof value));
  SAY(setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &value, sizeof value));
  n = sizeof value;
  SAY(getsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &value, &n));
  say("%d", value);
  n = sizeof value;
  SAY(getsockopt(fd, SOL_SOCKET, SO_PASSRIGHTS, &value, &n));
  say("%d", value);
  set_linger(fd, true, 0);
  say_poll("fresh", fd);
  say_recv("fresh", fd, 1, 0);
  SAY(send(fd, "x", 1, MSG_NOSIGNAL));
  SAY(accept4(fd, NULL, NULL, 0));
  SAY(listen(fd, 1));
  SAY(shutdown(fd, SHUT_WR));
  close(fd);
  fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0);
  say_poll("fresh", fd);
  say_recv("fresh", fd, 1, 0);
  SAY(send(fd, "x", 1, MSG_NOSIGNAL));
  close(fd);
  int fds[2];
  local_pair_of(SOCK_STREAM, fds);
  struct ucred who = {0};
  n = sizeof who;
  SAY(getsockopt(fds[0], SOL_SOCKET, SO_PEERCRED, &who, &n));
  say("us: %d %d", who.pid == getpid(), who.uid == geteuid());
  close_both(fds);
}
SAME(options)

/* Names */

static socklen_t abstract(struct sockaddr_un *a) {
  *a = (struct sockaddr_un){.sun_family = AF_UNIX};
  return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 +
                     (size_t)snprintf(a->sun_path + 1, sizeof a->sun_path - 1, "adit-ask-%d", getpid()));
}

static int dial_name(int type, const struct sockaddr_un *a, socklen_t n) {
  int fd = socket(AF_UNIX, type | SOCK_NONBLOCK, 0);
  say_result("connect", connect(fd, (const struct sockaddr *)a, n));
  return fd;
}

static void ask_a_listener(void) {
  struct sockaddr_un a, got;
  socklen_t n = abstract(&a), got_n = sizeof got;
  close(dial_name(SOCK_STREAM, &a, n));
  int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
  SAY(bind(listener, (struct sockaddr *)&a, n));
  SAY(bind(listener, (struct sockaddr *)&a, n));
  close(dial_name(SOCK_STREAM, &a, n));
  SAY(accept4(listener, NULL, NULL, 0));
  SAY(listen(listener, 1));
  say_poll("listens", listener);
  SAY(accept4(listener, NULL, NULL, 0));
  close(dial_name(SOCK_SEQPACKET, &a, n));
  int fds[3], other = socket(AF_UNIX, SOCK_STREAM, 0);
  SAY(bind(other, (struct sockaddr *)&a, n));
  for (int i = 0; i < 3; i++) fds[i] = dial_name(SOCK_STREAM, &a, n);
  say_poll("refused", fds[2]);
  say_poll("waits", fds[0]);
  say_poll("listener", listener);
  SAY(send(fds[0], "early", 5, 0));
  int accepted = accept4(listener, (struct sockaddr *)&got, &got_n, SOCK_NONBLOCK);
  say("accepted: %d, %u bytes, family %d", accepted >= 0, (unsigned)got_n, got.sun_family);
  say_recv("early", accepted, 10, 0);
  got_n = sizeof got;
  SAY(getpeername(fds[0], (struct sockaddr *)&got, &got_n));
  say("its name: %d", got_n == n && memcmp(&got, &a, n) == 0);
  got_n = sizeof got;
  SAY(getsockname(accepted, (struct sockaddr *)&got, &got_n));
  say("its name: %d", got_n == n && memcmp(&got, &a, n) == 0);
  SAY(connect(fds[2], (struct sockaddr *)&a, n));
  SAY(connect(fds[2], (struct sockaddr *)&a, n));
  close(listener);
  for (int i = 1; i < 3; i++) {
    say_poll("nobody took it", fds[i]);
    say_recv("reset", fds[i], 10, 0);
    say_recv("end", fds[i], 10, 0);
  }
  close(accepted);
  for (int i = 0; i < 3; i++) close(fds[i]);
  close(dial_name(SOCK_STREAM, &a, n));
  SAY(bind(other, (struct sockaddr *)&a, n));
  close(other);
}
SAME(a_listener)

static void ask_datagrams(void) {
  struct sockaddr_un a;
  socklen_t n = abstract(&a);
  int from = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0), to = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
  SAY(sendto(from, "x", 1, 0, (struct sockaddr *)&a, n));
  SAY(send(from, "x", 1, 0));
  say_recv("nothing", to, 10, 0);
  SAY(bind(to, (struct sockaddr *)&a, n));
  SAY(sendto(from, "ready", 5, 0, (struct sockaddr *)&a, n));
  SAY(sendto(from, "going", 5, 0, (struct sockaddr *)&a, n));
  say_poll("came", to);
  say_recv("first", to, 3, 0);
  say_recv("second", to, 10, 0);
  say_recv("nothing", to, 10, 0);
  close(to);
  SAY(sendto(from, "x", 1, 0, (struct sockaddr *)&a, n));
  close(from);
}
SAME(datagrams)

/* Descriptors */

union control {
  struct cmsghdr header;
  char bytes[CMSG_SPACE(FILES * sizeof(int))];
};

static ssize_t send_files(int fd, const char *text, const int *fds, size_t n) {
  union control control = {0};
  struct iovec iov = {.iov_base = (void *)(uintptr_t)text, .iov_len = strlen(text)};
  struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes,
                     .msg_controllen = CMSG_SPACE(n * sizeof(int))};
  *CMSG_FIRSTHDR(&m) = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS,
                                        .cmsg_len = CMSG_LEN(n * sizeof(int))};
  memcpy(CMSG_DATA(CMSG_FIRSTHDR(&m)), fds, n * sizeof(int));
  return sendmsg(fd, &m, MSG_NOSIGNAL);
}

/* With room for so many bytes of control message; the descriptors that come are closed when what they are was told. */
static void receive_files(int fd, size_t n, size_t room) {
  union control control = {0};
  struct iovec iov = {.iov_base = bytes, .iov_len = n};
  struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = room > 0 ? control.bytes : NULL,
                     .msg_controllen = room};
  ssize_t got = recvmsg(fd, &m, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  say_bytes("recvmsg", bytes, got);
  if (got < 0) return;
  say("control: %zu bytes, flags %x", m.msg_controllen, (unsigned)m.msg_flags);
  const struct cmsghdr *h = m.msg_controllen > 0 ? CMSG_FIRSTHDR(&m) : NULL;
  if (h == NULL) return;
  size_t fds_n = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
  say("%zu descriptors", fds_n);
  for (size_t i = 0; i < fds_n; i++) {
    int it;
    memcpy(&it, CMSG_DATA(h) + i * sizeof it, sizeof it);
    SAY(write(it, "hello", 5));
    close(it);
  }
}

static void ask_descriptors_in_messages(void) {
  static const size_t rooms[] = {CMSG_SPACE(FILES * sizeof(int)), CMSG_SPACE(3 * sizeof(int)),
                                 CMSG_LEN(3 * sizeof(int)), CMSG_SPACE(sizeof(int)), CMSG_LEN(sizeof(int)), CMSG_LEN(0),
                                 4, 0};
  for (size_t i = 0; i < ARRAY_LEN(rooms); i++) {
    int fds[2], way[2];
    local_pair_of(SOCK_STREAM, fds);
    (void)!pipe2(way, O_NONBLOCK);
    SAY(send_files(fds[0], "three", (int[]){way[1], way[1], way[1]}, 3));
    close(way[1]);
    say_poll("one is on its way", way[0]);
    receive_files(fds[1], 100, rooms[i]);
    say_bytes("read", bytes, read(way[0], bytes, 100));
    say_poll("all are closed", way[0]);
    close(way[0]);
    close_both(fds);
  }
}
SAME(descriptors_in_messages)

static void ask_descriptors_that_nobody_takes(void) {
  for (int how = 0; how < 4; how++) {
    int fds[2], way[2];
    local_pair_of(SOCK_STREAM, fds);
    (void)!pipe2(way, O_NONBLOCK);
    SAY(send_files(fds[0], "one", &way[1], 1));
    close(way[1]);
    if (how == 0) say_recv("recv", fds[1], 100, 0);
    if (how == 1) say_bytes("read", bytes, read(fds[1], bytes, 100));
    if (how == 2) close(fds[1]);
    say_poll("the pipe", way[0]);
    close(fds[0]);
    if (how != 2) close(fds[1]);
    say_poll("the pipe", way[0]);
    close(way[0]);
  }
}
SAME(descriptors_that_nobody_takes)

static void ask_descriptors_with_the_first_byte(void) {
  int fds[2], way[2];
  local_pair_of(SOCK_STREAM, fds);
  (void)!pipe2(way, O_NONBLOCK);
  size_t room = CMSG_SPACE(FILES * sizeof(int));
  SAY(send(fds[0], "before", 6, 0));
  SAY(send_files(fds[0], "with", &way[1], 1));
  SAY(send(fds[0], "after", 5, 0));
  SAY(send_files(fds[0], "more", &way[1], 1));
  receive_files(fds[1], 8, room);
  receive_files(fds[1], 100, room);
  receive_files(fds[1], 100, room);
  receive_files(fds[1], 100, room);
  receive_files(fds[1], 100, room);
  close_both(fds);
  close_both(way);
}
SAME(descriptors_with_the_first_byte)

static void ask_descriptors_that_are_refused(void) {
  int fds[2], way[2], none = dup(0), no = 0;
  local_pair_of(SOCK_STREAM, fds);
  (void)!pipe2(way, O_NONBLOCK);
  close(none);
  SAY(send_files(fds[0], "bad", &none, 1));
  SAY(send_files(fds[0], "bad", (int[]){way[1], none}, 2));
  SAY(setsockopt(fds[1], SOL_SOCKET, SO_PASSRIGHTS, &no, sizeof no));
  SAY(send_files(fds[0], "unwanted", &way[1], 1));
  say_poll("nothing came", fds[1]);
  SAY(send_files(fds[1], "other way", &way[1], 1));
  receive_files(fds[0], 100, CMSG_SPACE(sizeof(int)));
  close_both(fds);
  local_pair_of(SOCK_SEQPACKET, fds);
  SAY(send_files(fds[0], "packet", way, 2));
  receive_files(fds[1], 3, CMSG_SPACE(2 * sizeof(int)));
  receive_files(fds[1], 3, CMSG_SPACE(2 * sizeof(int)));
  close_both(fds);
  close_both(way);
}
SAME(descriptors_that_are_refused)

static void ask_a_socket_that_was_handed_on(void) {
  int fds[2], pair[2];
  union control control = {0};
  local_pair_of(SOCK_STREAM, fds);
  tcp_pair(pair);
  SAY(send(pair[1], "early", 5, 0));
  SAY(send_files(fds[0], "x", pair, 1));
  close(pair[0]);
  settle();
  say_poll("not closed", pair[1]);
  struct iovec iov = {.iov_base = bytes, .iov_len = 1};
  struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control};
  SAY(recvmsg(fds[1], &m, 0));
  int it;
  memcpy(&it, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof it);
  await("it", it, POLLIN);
  say_recv("early", it, 100, 0);
  say("non-blocking: %d", (fcntl(it, F_GETFL) & O_NONBLOCK) != 0);
  SAY(send(it, "late", 4, 0));
  close(it);
  await("closed", pair[1], POLLRDHUP);
  say_recv("late", pair[1], 100, 0);
  close(pair[1]);
  close_both(fds);
}
SAME(a_socket_that_was_handed_on)

static void ask_counts(void) {
  int fds[2], n = -1;
  local_pair_of(SOCK_STREAM, fds);
  SAY(send(fds[0], "0123456789", 10, 0));
  SAY(ioctl(fds[1], FIONREAD, &n));
  say("%d", n);
  say_recv("some", fds[1], 4, 0);
  SAY(ioctl(fds[1], FIONREAD, &n));
  say("%d", n);
  SAY(ioctl(fds[0], SIOCOUTQ, &n));
  say("unread: %d", n > 0);
  say_recv("the rest", fds[1], 100, 0);
  SAY(ioctl(fds[0], SIOCOUTQ, &n));
  say("unread: %d", n > 0);
  close_both(fds);
}
SAME(counts)

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_pair),
      cmocka_unit_test(a_close_with_something_unread),
      cmocka_unit_test(all_ways_to_shut),
      cmocka_unit_test(a_pair_that_is_full),
      cmocka_unit_test(a_send_that_waits_in_vain),
      cmocka_unit_test(options),
      cmocka_unit_test(a_listener),
      cmocka_unit_test(datagrams),
      cmocka_unit_test(descriptors_in_messages),
      cmocka_unit_test(descriptors_that_nobody_takes),
      cmocka_unit_test(descriptors_with_the_first_byte),
      cmocka_unit_test(descriptors_that_are_refused),
      cmocka_unit_test(a_socket_that_was_handed_on),
      cmocka_unit_test(counts)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
