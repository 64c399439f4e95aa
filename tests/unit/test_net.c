/* What the kernel says about connections, and what we make of it. Loopback only. */
#include "cm.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/limits.h"
#include "loop/net.h"

static const char *syncookies;     /* what the kernel is to say of them; NULL: what it says */

/* In the libc's place. */
int open(const char *path, int flags, ...) {
  int p[2];
  if (syncookies == NULL || strcmp(path, "/proc/sys/net/ipv4/tcp_syncookies") != 0)
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, 0600);
  assert_int_equal(pipe(p), 0);
  assert_int_equal(write(p[1], syncookies, strlen(syncookies)), (ssize_t)strlen(syncookies));
  close(p[1]);
  return p[0];
}

struct pair { int listener, client, server; };

static void await(int fd, short events) {
  struct pollfd p = {.fd = fd, .events = events};
  assert_int_equal(poll(&p, 1, 5000), 1);
}

static int listen_with(int (*listens)(const struct addr *, int, bool, struct err *), const char *text, struct addr *a) {
  struct err e;
  uint16_t port = 0;
  assert_int_equal(addr_parse(text, a, &e), 0);
  addr_set_port(a, 0);
  int fd = listens(a, 16, false, &e);
  assert_true(fd >= 0);
  assert_int_equal(net_listen_port(fd, &port), 0);
  assert_true(port != 0);
  addr_set_port(a, port);
  return fd;
}

static int listen_on(const char *text, struct addr *a) { return listen_with(net_listen_tcp, text, a); }

static struct pair connect_pair(const char *text) {
  struct pair p;
  struct addr a, peer, local;
  struct err e;
  p.listener = listen_on(text, &a);
  assert_int_equal(net_accept(p.listener, &peer), NET_AGAIN);
  p.client = net_connect(&a, &e);
  assert_true(p.client >= 0);
  await(p.client, POLLOUT);
  assert_int_equal(net_connect_result(p.client), 0);
  await(p.listener, POLLIN);
  p.server = net_accept(p.listener, &peer);
  assert_true(p.server >= 0);
  assert_int_equal(net_local(p.client, &local), 0);
  assert_int_equal(addr_port(&local), addr_port(&peer));
  assert_int_equal(net_stream_setup(p.client), 0);
  assert_int_equal(net_stream_setup(p.server), 0);
  return p;
}

static void close_pair(struct pair *p) {
  net_close(p->listener);
  net_close(p->client);
  net_close(p->server);
}

static void bytes_pass_both_ways_over_both_families(void **state) {
  (void)state;
  static const char *const addresses[] = {"127.0.0.1:1", "[::1]:1"};
  for (size_t i = 0; i < 2; i++) {
    struct pair p = connect_pair(addresses[i]);
    char in[16];
    assert_int_equal(net_recv(p.server, in, sizeof in), NET_AGAIN);
    const struct iovec out[2] = {{(void *)(uintptr_t)"he", 2}, {(void *)(uintptr_t)"llo", 3}};
    assert_int_equal(net_sendv(p.client, out, 2), 5);
    await(p.server, POLLIN);
    assert_int_equal(net_recv_peek(p.server, in, 2), 2);
    const struct iovec to[2] = {{in, 1}, {in + 1, 15}};
    assert_int_equal(net_readv(p.server, to, 2), 5);
    assert_memory_equal(in, "hello", 5);
    assert_int_equal(net_send(p.server, "back", 4), 4);
    await(p.client, POLLIN);
    assert_int_equal(net_recv(p.client, in, sizeof in), 4);
    close_pair(&p);
  }
}

static void a_clean_end_is_zero_and_the_other_direction_goes_on(void **state) {
  (void)state;
  struct pair p = connect_pair("127.0.0.1:1");
  char in[4];
  assert_int_equal(net_shutdown_write(p.client), 0);
  await(p.server, POLLIN);
  assert_int_equal(net_recv(p.server, in, sizeof in), 0);
  assert_int_equal(net_send(p.server, "x", 1), 1);
  await(p.client, POLLIN);
  assert_int_equal(net_recv(p.client, in, sizeof in), 1);
  close_pair(&p);
}

static void a_reset_is_a_reset_and_not_an_end(void **state) {
  (void)state;
  struct pair p = connect_pair("127.0.0.1:1");
  char in[4];
  net_reset(p.client);
  p.client = -1;
  await(p.server, POLLIN);
  assert_int_equal(net_recv(p.server, in, sizeof in), NET_RESET);
  assert_int_equal(net_send(p.server, "x", 1), NET_RESET); /* and no SIGPIPE, which would end this test */
  close_pair(&p);
}

static void a_reset_after_a_clean_end_is_not_taken_for_the_end(void **state) {
  (void)state;
  for (int spliced = 0; spliced < 2; spliced++) {
    struct pair p = connect_pair("127.0.0.1:1");
    char in[4];
    int pipe_fds[2];
    assert_int_equal(net_pipe(pipe_fds), 0);
    assert_int_equal(net_shutdown_write(p.client), 0);
    await(p.server, POLLIN);
    net_reset(p.client);
    p.client = -1;
    await(p.server, POLLERR);
    ssize_t r = spliced ? net_splice(p.server, pipe_fds[1], 100, false) : net_recv(p.server, in, sizeof in);
    assert_int_equal(r, NET_RESET);
    net_close(pipe_fds[0]);
    net_close(pipe_fds[1]);
    close_pair(&p);
  }
}

static void closing_a_stream_resets_it_unless_linger_is_off(void **state) {
  (void)state;
  struct pair p = connect_pair("127.0.0.1:1");
  char in[4];
  net_close(p.client); /* what the kernel does when a process dies */
  p.client = -1;
  await(p.server, POLLIN);
  assert_int_equal(net_recv(p.server, in, sizeof in), NET_RESET);
  close_pair(&p);

  p = connect_pair("127.0.0.1:1");
  net_linger_off(p.client);
  net_close(p.client);
  p.client = -1;
  await(p.server, POLLIN);
  assert_int_equal(net_recv(p.server, in, sizeof in), 0);
  close_pair(&p);
}

static void splice_moves_bytes_through_a_pipe(void **state) {
  (void)state;
  struct pair p = connect_pair("127.0.0.1:1");
  int pipe_fds[2];
  char in[8];
  assert_int_equal(net_pipe(pipe_fds), 0);
  assert_int_equal(net_splice(p.server, pipe_fds[1], 100, false), NET_AGAIN);
  assert_int_equal(net_splice(pipe_fds[0], p.server, 100, false), NET_AGAIN);
  assert_int_equal(net_send(p.client, "abcd", 4), 4);
  await(p.server, POLLIN);
  assert_int_equal(net_splice(p.server, pipe_fds[1], 100, false), 4);
  assert_int_equal(net_splice(pipe_fds[0], p.server, 4, false), 4);
  await(p.client, POLLIN);
  assert_int_equal(net_recv(p.client, in, sizeof in), 4);
  assert_int_equal(net_shutdown_write(p.client), 0);
  await(p.server, POLLIN);
  assert_int_equal(net_splice(p.server, pipe_fds[1], 100, false), 0);
  net_close(pipe_fds[0]);
  net_close(pipe_fds[1]);
  close_pair(&p);
}

static void a_refused_connection_gives_its_reason(void **state) {
  (void)state;
  struct addr a;
  struct err e;
  net_close(listen_on("127.0.0.1:1", &a)); /* a port where nobody listens any more */
  int fd = net_connect(&a, &e);
  assert_true(fd >= 0);
  await(fd, POLLOUT);
  assert_int_equal(net_connect_result(fd), -ECONNREFUSED);
  net_close(fd);
}

static void what_was_sent_before_a_reset_is_read_although_it_came_before_we_looked(void **state) {
  (void)state;
  for (int ended = 0; ended < 2; ended++) {
    struct addr a, peer;
    struct err e;
    char in[8];
    int listener = listen_on("127.0.0.1:1", &a), fd = net_connect(&a, &e);
    await(listener, POLLIN);
    int server = net_accept(listener, &peer);
    assert_int_equal(net_send(server, "503", 3), 3);
    if (ended) assert_int_equal(net_shutdown_write(server), 0);
    net_reset(server);
    await(fd, POLLERR);
    assert_int_equal(net_connect_result(fd), NET_RESET);
    assert_int_equal(net_stream_setup(fd), 0);
    assert_int_equal(net_recv(fd, in, sizeof in), 3);
    net_close(fd);
    net_close(listener);
  }
}

static void no_error_of_a_connection_reads_as_would_block_or_reset(void **state) {
  (void)state;
  enum { ERRNO_MAX = 4095 };       /* of the kernel */
  assert_true(NET_AGAIN < -ERRNO_MAX && NET_RESET < -ERRNO_MAX);
}

/* What happens now and then to those who dial a local port where nobody listens, and most to those who try again and
   again. */
static void a_socket_that_met_itself_was_refused(void **state) {
  (void)state;
  struct addr a;
  struct err e;
  assert_int_equal(addr_parse("127.0.0.1:1", &a, &e), 0);
  addr_set_port(&a, 0);
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  assert_int_equal(bind(fd, &a.u.any, addr_len(&a)), 0);
  assert_int_equal(net_local(fd, &a), 0);
  assert_true(connect(fd, &a.u.any, addr_len(&a)) == 0 || errno == EINPROGRESS);
  await(fd, POLLOUT);
  assert_int_equal(net_connect_result(fd), -ECONNREFUSED);
  net_reset(fd);
}

static void a_busy_address_is_a_conflict_with_advice(void **state) {
  (void)state;
  struct addr a;
  struct err e;
  int fd = listen_on("127.0.0.1:1", &a);
  assert_int_equal(net_listen_tcp(&a, 16, false, &e), ERR_CONFLICT);
  assert_non_null(strstr(e.text, "in use"));
  assert_int_equal(net_listen_tcp(&a, 16, false, NULL), ERR_CONFLICT);
  net_close(fd);
}

static void an_address_of_another_machine_is_refused(void **state) {
  (void)state;
  struct addr a;
  struct err e;
  assert_int_equal(addr_parse("192.0.2.1:9", &a, &e), 0);
  assert_int_equal(net_listen_tcp(&a, 16, false, &e), ERR_UNSUPPORTED);
  assert_non_null(strstr(e.text, "192.0.2.1:9"));
}

static void a_shortage_while_listening_is_told_from_a_busy_address(void **state) {
  (void)state;
  struct addr a;
  struct err e;
  struct rlimit before, none;
  assert_int_equal(addr_parse("127.0.0.1:1", &a, &e), 0);
  addr_set_port(&a, 0);
  assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
  none = (struct rlimit){.rlim_cur = 0, .rlim_max = before.rlim_max};
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
  int rc = net_listen_tcp(&a, 16, false, &e);
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
  assert_int_equal(rc, ERR_LIMIT);
  assert_non_null(strstr(e.text, "LimitNOFILE"));
}

static void a_v6_listener_leaves_the_v4_port_free(void **state) {
  (void)state;
  struct addr v6, v4;
  struct err e;
  int fd6 = listen_on("[::]:1", &v6);
  assert_int_equal(addr_parse("0.0.0.0:1", &v4, &e), 0);
  addr_set_port(&v4, addr_port(&v6));
  int fd4 = net_listen_tcp(&v4, 16, false, &e);
  assert_true(fd4 >= 0);
  net_close(fd4);
  net_close(fd6);
}

static void descriptors_are_non_blocking_and_close_on_exec(void **state) {
  (void)state;
  struct pair p = connect_pair("127.0.0.1:1");
  int fds[5] = {p.listener, p.client, p.server};
  assert_int_equal(net_pipe(fds + 3), 0);
  for (size_t i = 0; i < 5; i++) {
    assert_true(fcntl(fds[i], F_GETFL) & O_NONBLOCK);
    assert_true(fcntl(fds[i], F_GETFD) & FD_CLOEXEC);
  }
  net_close(fds[3]);
  net_close(fds[4]);
  close_pair(&p);
}

static void nothing_unacknowledged_is_zero(void **state) {
  (void)state;
  struct pair p = connect_pair("127.0.0.1:1");
  int pipe_fds[2];
  assert_int_equal(net_pipe(pipe_fds), 0);
  assert_int_equal(net_unacked_ms(p.client), 0);
  assert_int_equal(net_unacked_ms(pipe_fds[0]), 0);
  net_close(pipe_fds[0]);
  net_close(pipe_fds[1]);
  close_pair(&p);
}

/* Of each the kernel's numbers in milliseconds. A timeout that was doubled n times began as timeout / 2^n. */
static uint32_t unacked_ms(uint32_t timeout, uint8_t doubled, uint32_t last_sent, uint32_t last_ack) {
  const struct tcp_info info = {.tcpi_unacked = 1,
                                .tcpi_rto = timeout * 1000,
                                .tcpi_backoff = doubled,
                                .tcpi_last_data_sent = last_sent,
                                .tcpi_last_ack_recv = last_ack};
  return net_unacked_ms_of(&info);
}

/* It answers each of our transmissions and acknowledges nothing; they come a minute apart by then. */
static void a_peer_that_does_not_read_but_answers_is_not_overdue(void **state) {
  (void)state;
  assert_int_equal(unacked_ms(59392, 8, 29384, 29384), 0);       /* as it was seen */
  assert_int_equal(unacked_ms(59392, 8, 59300, 59300), 0);
  assert_int_equal(unacked_ms(118784, 9, 4, 59400), 0);          /* sent again: the answer is on its way */
  assert_int_equal(unacked_ms(118784, 9, 4, 66000), 0);          /* when the kernel's timer was late */
  assert_int_equal(unacked_ms(118784, 9, 31000, 90400), 0);      /* it was lost on the way */
  assert_int_equal(unacked_ms(120000, 12, 110000, 109996), 0);
  assert_int_equal(unacked_ms(120000, 12, 4, 120100), 0);
  assert_int_equal(unacked_ms(120000, 12, 110000, 230100), 0);
}

static void a_peer_that_has_gone_is_overdue_since_the_first_transmission(void **state) {
  (void)state;
  /* 200 ms at first; sent again after 200, 600, ... 25400 ms, the last time 12 s ago */
  assert_in_range(unacked_ms(25600, 7, 12000, 37450), UNACKED_MAX_MS + 1, 37400);
  assert_in_range(unacked_ms(51200, 8, 100, 51150), UNACKED_MAX_MS + 1, 51100);
  /* it went while it did not read: the last answer was to the transmission before the last two */
  assert_in_range(unacked_ms(118784, 9, 31000, 120100), UNACKED_MAX_MS + 1, 91000);
  assert_in_range(unacked_ms(120000, 12, 10000, 250100), UNACKED_MAX_MS + 1, 250100);
}

static void what_was_just_sent_is_not_overdue_for_the_silence_before(void **state) {
  (void)state;
  assert_int_equal(unacked_ms(204, 0, 50, 600000), 0);
  assert_in_range(unacked_ms(408, 1, 50, 600000), 50, 300);
}

static void window_probes_count_when_several_in_a_row_are_unanswered(void **state) {
  (void)state;
  struct tcp_info info = {
      .tcpi_probes = WINDOW_PROBES_MAX - 1, .tcpi_last_ack_recv = 50000, .tcpi_last_data_sent = 50000};
  assert_int_equal(net_unacked_ms_of(&info), 0);
  info.tcpi_probes++;
  assert_int_equal(net_unacked_ms_of(&info), 50000);
}

static int unacknowledged(int fd) {
  int n = 0;
  assert_int_equal(ioctl(fd, SIOCOUTQ, &n), 0);
  return n;
}

/* The kernel takes it for a conversation: what comes next will be answered, and may be acknowledged then. */
static void what_came_last_is_acknowledged_at_once_on_demand(void **state) {
  (void)state;
  struct pair p = connect_pair("127.0.0.1:1");
  char in[4];
  for (int i = 0; i < 4; i++) {
    assert_int_equal(net_send(p.client, "ask", 3), 3);
    await(p.server, POLLIN);
    assert_int_equal(net_recv(p.server, in, sizeof in), 3);
    if (i == 3) break;
    assert_int_equal(net_send(p.server, "told", 4), 4);
    await(p.client, POLLIN);
    assert_int_equal(net_recv(p.client, in, sizeof in), 4);
  }
  net_acknowledge(p.server);
  assert_int_equal(unacknowledged(p.client), 0);
  net_acknowledge(p.listener);                   /* and whatever it is called for: nothing happens */
  net_acknowledge(-1);
  close_pair(&p);
}

static bool defers(int listener) {
  int seconds = 0;
  socklen_t n = sizeof seconds;
  return getsockopt(listener, IPPROTO_TCP, TCP_DEFER_ACCEPT, &seconds, &n) == 0 && seconds > 0;
}

static bool defers_where(const char *the_kernel_says) {
  struct addr a;
  int listener = listen_on("127.0.0.1:1", &a);
  syncookies = the_kernel_says;
  net_accept_when_heard(listener);
  syncookies = NULL;
  bool yes = defers(listener);
  net_close(listener);
  return yes;
}

/* Whoever says nothing could fill its queue of SYNs. */
static void a_kernel_without_syn_cookies_does_not_wait_for_first_bytes(void **state) {
  (void)state;
  assert_true(defers_where("1\n"));
  assert_true(defers_where("2\n"));
  assert_false(defers_where("0\n"));
  assert_false(defers_where(""));
}

static void where_peers_speak_first_a_connection_is_told_of_with_its_first_bytes(void **state) {
  (void)state;
  struct addr a, peer;
  int listener = listen_on("127.0.0.1:1", &a);
  net_accept_when_heard(listener);
  if (!defers(listener)) skip();   /* without SYN cookies */
  bool was_reset;
  int client = net_connect_at_once(&a, &was_reset);
  assert_true(client >= 0);
  assert_int_equal(net_accept(listener, &peer), NET_AGAIN);
  assert_int_equal(net_send(client, "x", 1), 1);
  await(listener, POLLIN);
  int server = net_accept(listener, &peer);
  char byte;
  assert_int_equal(net_recv(server, &byte, 1), 1);
  net_close(server);
  net_close(client);
  client = net_connect_at_once(&a, &was_reset);
  assert_true(client >= 0);
  await(listener, POLLIN);         /* one that says nothing, too, in the end */
  net_close(client);
  net_close(listener);
}

static void stream_setup_refuses_what_is_no_stream(void **state) {
  (void)state;
  int pipe_fds[2];
  struct addr a;
  assert_int_equal(net_pipe(pipe_fds), 0);
  assert_int_equal(net_stream_setup(pipe_fds[0]), ERR_IO);
  assert_int_equal(net_local(pipe_fds[0], &a), ERR_IO);
  assert_int_equal(net_peer(pipe_fds[0], &a), ERR_IO);
  net_close(pipe_fds[0]);
  net_close(pipe_fds[1]);
  net_close(-1);
  net_reset(-1);
}

static int option_of(int fd, int level, int name) {
  int value = -1;
  socklen_t n = sizeof value;
  assert_int_equal(getsockopt(fd, level, name, &value, &n), 0);
  return value;
}

static const int stream_options[][2] = {{SOL_SOCKET, SO_OOBINLINE},    {IPPROTO_TCP, TCP_NODELAY},
                                        {SOL_SOCKET, SO_KEEPALIVE},    {IPPROTO_TCP, TCP_KEEPIDLE},
                                        {IPPROTO_TCP, TCP_KEEPINTVL}, {IPPROTO_TCP, TCP_KEEPCNT}};

static bool resets_at_death(int fd) {
  struct linger l = {0};
  socklen_t n = sizeof l;
  assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_LINGER, &l, &n), 0);
  return l.l_onoff != 0 && l.l_linger == 0;
}

static void assert_is_set_up(int fd) {
  int other = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  assert_int_equal(net_stream_setup(other), 0);
  for (size_t k = 0; k < ARRAY_LEN(stream_options); k++) {
    const int *o = stream_options[k];
    assert_int_equal(option_of(fd, o[0], o[1]), option_of(other, o[0], o[1]));
  }
  assert_true(resets_at_death(fd));
  net_close(other);
}

/* Twice: the first asks the kernel whether that is so, the next one relies on it. */
static void what_a_listener_accepts_is_set_up_as_any_stream(void **state) {
  (void)state;
  for (int i = 0; i < 2; i++) {
    struct addr a, peer;
    int listener = listen_with(net_listen_streams, "127.0.0.1:1", &a), client = net_connect(&a, NULL);
    await(listener, POLLIN);
    int fd = net_accept(listener, &peer);
    assert_int_equal(net_accepted_setup(fd, &peer), 0);
    assert_is_set_up(fd);
    net_close(fd);
    net_close(client);
    net_close(listener);
  }
}

static void a_unix_listener_knows_its_peers_by_their_user(void **state) {
  (void)state;
  char name[40], text[ADDR_TEXT_CAP], who[ADDR_TEXT_CAP], in[4];
  (void)snprintf(name, sizeof name, "@adit-net-%d", (int)getpid());
  struct addr at = addr_unix(name), peer;
  int listener = net_listen_unix(&at, 4, NULL), client = net_connect(&at, NULL);
  assert_true(listener >= 0 && client >= 0);
  addr_format(&at, text, sizeof text);
  (void)snprintf(who, sizeof who, "unix:%s", name);
  assert_string_equal(text, who);
  int server = net_accept(listener, &peer);
  assert_true(server >= 0);
  assert_int_equal(net_stream_setup(server), 0);
  (void)snprintf(who, sizeof who, "unix uid %u", getuid());
  addr_format(&peer, text, sizeof text);
  assert_string_equal(text, who);
  struct addr other = peer;
  struct source_key a = addr_source(&peer), b = addr_source(&other);
  assert_memory_equal(&a, &b, sizeof a);
  other.uid++;
  b = addr_source(&other);
  assert_memory_not_equal(&a, &b, sizeof a);
  assert_false(addr_equal(&peer, &other));
  net_close(client);               /* which no option makes a reset */
  await(server, POLLIN);
  assert_int_equal(net_recv(server, in, sizeof in), 0);
  net_close(server);
  net_close(listener);
}

static void a_unix_listener_replaces_what_a_dead_one_left_and_nothing_else(void **state) {
  (void)state;
  char folder[] = "/tmp/adit-net-XXXXXX", path[64];
  struct err e = {0};
  assert_non_null(mkdtemp(folder));
  (void)snprintf(path, sizeof path, "%s/s", folder);
  struct addr at = addr_unix(path);
  int first = net_listen_unix(&at, 4, &e);
  assert_true(first >= 0);
  assert_int_equal(net_listen_unix(&at, 4, &e), ERR_CONFLICT);
  net_close(first);
  int second = net_listen_unix(&at, 4, &e);
  assert_true(second >= 0);
  net_close(second);
  net_unlink_unix(&at);
  assert_int_equal(access(path, F_OK), -1);
  int file = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
  assert_true(file >= 0);
  assert_int_equal(net_listen_unix(&at, 4, &e), ERR_CONFLICT);
  assert_int_equal(access(path, F_OK), 0);
  net_close(file);
  assert_int_equal(unlink(path), 0);
  assert_int_equal(rmdir(folder), 0);
  assert_int_equal(net_listen_unix(&at, 4, &e), ERR_AUTH);
  assert_non_null(strstr(e.text, "make its folder"));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(bytes_pass_both_ways_over_both_families),
      cmocka_unit_test(a_clean_end_is_zero_and_the_other_direction_goes_on),
      cmocka_unit_test(a_reset_is_a_reset_and_not_an_end),
      cmocka_unit_test(a_reset_after_a_clean_end_is_not_taken_for_the_end),
      cmocka_unit_test(closing_a_stream_resets_it_unless_linger_is_off),
      cmocka_unit_test(splice_moves_bytes_through_a_pipe),
      cmocka_unit_test(a_refused_connection_gives_its_reason),
      cmocka_unit_test(what_was_sent_before_a_reset_is_read_although_it_came_before_we_looked),
      cmocka_unit_test(no_error_of_a_connection_reads_as_would_block_or_reset),
      cmocka_unit_test(a_socket_that_met_itself_was_refused),
      cmocka_unit_test(a_busy_address_is_a_conflict_with_advice),
      cmocka_unit_test(an_address_of_another_machine_is_refused),
      cmocka_unit_test(a_shortage_while_listening_is_told_from_a_busy_address),
      cmocka_unit_test(a_v6_listener_leaves_the_v4_port_free),
      cmocka_unit_test(descriptors_are_non_blocking_and_close_on_exec),
      cmocka_unit_test(nothing_unacknowledged_is_zero),
      cmocka_unit_test(a_peer_that_does_not_read_but_answers_is_not_overdue),
      cmocka_unit_test(a_peer_that_has_gone_is_overdue_since_the_first_transmission),
      cmocka_unit_test(what_was_just_sent_is_not_overdue_for_the_silence_before),
      cmocka_unit_test(window_probes_count_when_several_in_a_row_are_unanswered),
      cmocka_unit_test(what_came_last_is_acknowledged_at_once_on_demand),
      cmocka_unit_test(a_kernel_without_syn_cookies_does_not_wait_for_first_bytes),
      cmocka_unit_test(where_peers_speak_first_a_connection_is_told_of_with_its_first_bytes),
      cmocka_unit_test(stream_setup_refuses_what_is_no_stream),
      cmocka_unit_test(what_a_listener_accepts_is_set_up_as_any_stream),
      cmocka_unit_test(a_unix_listener_knows_its_peers_by_their_user),
      cmocka_unit_test(a_unix_listener_replaces_what_a_dead_one_left_and_nothing_else)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
