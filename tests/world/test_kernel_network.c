/* The network between simulated hosts, and what becomes of connections when hosts, processes and ways die: by what
   kernel.h promises. What one host does is asked of Linux, in the other tests of the kernel. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "../unit/cm.h"
#include "ask.h"
#include "base/base.h"
#include "kernel.h"
#include "loop/net.h"

enum { PORT = 80, IP_A = 0x0a000001, IP_B = 0x0a000002, IP_NOBODY = 0x0a0000ff, SEEDS = 30, BULK_BYTES = 100000 };

static struct host *a, *b;
static struct process *client, *server;
static struct {                    /* what the two do with their connection; NULL: hold it */
  void (*client)(int fd), (*server)(int fd);
  struct linger linger;            /* of the server */
  bool keepalive;
} play;
static struct { int client, server; uint64_t client_ms, server_ms; } error;  /* with which it ended, and when */

static uint64_t now_ms(void) { return world_now_ns() / WORLD_NS_PER_MS; }

static void wait_ms(uint64_t ms) {
  (void)nanosleep(&(struct timespec){.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000}, NULL);
}

static void keep_alive(int fd) {
  set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
  set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, 10);
  set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, 5);
  set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, 3);
}

/* Until something comes: the error, or 0 at an end. */
static int hold(int fd) {
  char byte;
  ssize_t n;
  while ((n = recv(fd, &byte, 1, 0)) > 0) {}
  return n == 0 ? 0 : errno;
}

static int listen_here(void) {
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1);
  return tcp_bind_to(fd, INADDR_ANY, PORT) == 0 && listen(fd, 64) == 0 ? fd : -1;
}

static int dial(uint32_t ip) {
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(PORT), .sin_addr.s_addr = htonl(ip)};
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  return connect(fd, (struct sockaddr *)&to, sizeof to) == 0 ? fd : -errno;
}

static int serve(void *arg) {
  int fd = accept4(listen_here(), NULL, NULL, 0);
  (void)arg;
  (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &play.linger, sizeof play.linger);
  if (play.keepalive) keep_alive(fd);
  if (play.server != NULL) play.server(fd);
  error.server = hold(fd);
  error.server_ms = now_ms();
  return 0;
}

static int visit(void *arg) {
  (void)arg;
  wait_ms(1);
  int fd = dial(IP_B);
  if (play.keepalive) keep_alive(fd);
  if (play.client != NULL) play.client(fd);
  error.client = hold(fd);
  error.client_ms = now_ms();
  return 0;
}

static void begin(uint64_t seed) {
  world_begin(&(struct world_options){.seed = seed});
  a = host_new("a", IP_A);
  b = host_new("b", IP_B);
  error.client = error.server = -1;
}

static void start(void) {
  server = process_start(b, "server", serve, NULL);
  client = process_start(a, "client", visit, NULL);
}

static void play_all(void) {
  start();
  (void)world_run();
}

/* What happens at a time. */

static struct world_event later[4];

static void at_ms(size_t i, uint64_t ms, void (*fn)(struct world_event *e)) {
  later[i] = (struct world_event){0};
  world_at(&later[i], ms * WORLD_NS_PER_MS, fn);
}

static void cut(struct world_event *e) { (void)e, network_cut(a, b, true); }
static void heal(struct world_event *e) { (void)e, network_heal(); }
static void kill_server(struct world_event *e) { (void)e, process_kill(server); }
static void reset_one(struct world_event *e) { (void)e, assert_true(network_reset_one()); }
static void stall_one(struct world_event *e) { (void)e, assert_true(network_stall_one()); }
static void end_run(struct world_event *e) { (void)e, world_stop(); }
static void host_up(struct world_event *e) { (void)e, network_host_up(b); }
static void host_down(struct world_event *e) {
  (void)e;
  network_host_down(b);
  process_kill(server);
}

/* Bytes */

static uint8_t byte_at(size_t i) { return (uint8_t)(i * 7 + i / 251); }
static size_t received;
static bool wrong;

static void send_bulk(int fd) {
  static uint8_t bytes[BULK_BYTES];
  for (size_t i = 0; i < BULK_BYTES; i++) bytes[i] = byte_at(i);
  (void)!write(fd, bytes, BULK_BYTES);
  (void)shutdown(fd, SHUT_WR);
}

static void receive_bulk(int fd) {
  uint8_t bytes[1000];
  ssize_t n;
  for (received = 0, wrong = false; (n = read(fd, bytes, 1 + world_below(sizeof bytes))) > 0;) {
    for (ssize_t i = 0; i < n; i++) wrong = wrong || bytes[i] != byte_at(received++);
  }
  wrong = wrong || n != 0;
}

static void make_rough(void) {
  weather.tiny_chunk_one_in = 2;
  weather.small_buffers_one_in = 2;
  weather.lost_one_in = 20;
}

static void bytes_come_in_order_and_whole(void **state) {
  (void)state;
  play.client = send_bulk;
  play.server = receive_bulk;
  for (uint64_t seed = 0; seed < SEEDS; seed++) {
    begin(seed);
    make_rough();
    play_all();
    assert_false(wrong);
    assert_int_equal(received, BULK_BYTES);
    assert_int_equal(error.client, 0);
    assert_int_equal(network_connections(), 0);
  }
}

static void a_seed_says_what_the_network_does(void **state) {
  (void)state;
  play.client = send_bulk;
  play.server = receive_bulk;
  uint64_t hashes[3];
  for (int i = 0; i < 3; i++) {
    begin(i == 2 ? 8 : 7);
    make_rough();
    play_all();
    hashes[i] = world_hash();
  }
  assert_true(hashes[0] == hashes[1]);
  assert_true(hashes[0] != hashes[2]);
}

static void a_cut_delays_what_is_sent(void **state) {
  (void)state;
  play.client = send_bulk;
  play.server = receive_bulk;
  for (uint64_t seed = 0; seed < SEEDS; seed++) {
    begin(seed);
    at_ms(0, 30, cut);
    at_ms(1, 20000, heal);
    play_all();
    assert_false(wrong);
    assert_int_equal(received, BULK_BYTES);
    assert_int_equal(error.client, 0);
  }
}

/* Silence */

static uint32_t unacked_ms[3];
static size_t probes;

static void look_at_silence(int fd) {
  wait_ms(2000);                   /* amid the cut */
  unacked_ms[0] = net_unacked_ms(fd);
  (void)!write(fd, "x", 1);
  wait_ms(3000);
  unacked_ms[1] = net_unacked_ms(fd);
  wait_ms(10000);
  unacked_ms[2] = net_unacked_ms(fd);
}

static void data_without_an_answer_is_told_of(void **state) {
  (void)state;
  play.client = look_at_silence;
  play.server = NULL;
  begin(1);
  at_ms(0, 1000, cut);
  at_ms(1, 30000, end_run);
  play_all();
  assert_int_equal(unacked_ms[0], 0);
  assert_in_range(unacked_ms[1], 1, 3000);
  assert_in_range(unacked_ms[2], 10000, 13000);
}

static void fill_and_look(int fd) {
  static uint8_t bytes[1 << 20];
  struct tcp_info info;
  socklen_t n = sizeof info;
  (void)fcntl(fd, F_SETFL, O_NONBLOCK);
  while (now_ms() < 900) {
    (void)!write(fd, bytes, sizeof bytes);
    wait_ms(50);
  }
  wait_ms(60000);
  (void)getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &n);
  probes = info.tcpi_probes;
  unacked_ms[0] = net_unacked_ms(fd);
}

static void sleep_on(int fd) {
  (void)fd;
  wait_ms(1000000);
}

static void a_closed_window_is_probed(void **state) {
  (void)state;
  play.client = fill_and_look;
  play.server = sleep_on;
  begin(1);
  at_ms(1, 61500, end_run);
  play_all();
  assert_int_equal(probes, 0);     /* it answers */
  assert_int_equal(unacked_ms[0], 0);
  begin(1);
  at_ms(0, 1000, cut);
  at_ms(1, 61500, end_run);
  play_all();
  assert_in_range(probes, 5, 10);
  assert_in_range(unacked_ms[0], 55000, 61000);
}

static void an_idle_connection_dies_by_keepalive(void **state) {
  (void)state;
  play.client = play.server = NULL;
  play.keepalive = true;
  for (uint64_t seed = 0; seed < SEEDS; seed++) {
    begin(seed);
    if (seed % 2 == 0) at_ms(0, 1000, cut);
    else at_ms(0, 1000, stall_one);
    play_all();
    assert_int_equal(error.client, ETIMEDOUT);
    assert_int_equal(error.server, ETIMEDOUT);
    assert_in_range(error.client_ms, 20000, 30000);
  }
  play.keepalive = false;
}

static void send_one(int fd) {
  wait_ms(2000);
  (void)!write(fd, "x", 1);
}

static void data_is_sent_again_for_a_quarter_of_an_hour(void **state) {
  (void)state;
  play.client = send_one;
  play.server = NULL;
  begin(1);
  at_ms(0, 1000, cut);
  at_ms(1, 2000000, end_run);
  play_all();
  assert_int_equal(error.client, ETIMEDOUT);
  assert_in_range(error.client_ms, 900000, 1000000);
  assert_int_equal(error.server, -1);        /* it sends nothing, and never knows */
}

/* Deaths */

static void a_killed_process_ends_its_connections(void **state) {
  (void)state;
  play.client = play.server = NULL;
  for (int reset = 0; reset < 2; reset++) {
    begin(1);
    play.linger = (struct linger){.l_onoff = reset};
    at_ms(0, 1000, kill_server);
    play_all();
    assert_int_equal(error.client, reset ? ECONNRESET : 0);
    assert_in_range(error.client_ms, 1000, 1021);
    assert_int_equal(network_connections(), 0);
  }
  play.linger = (struct linger){0};
}

static void say_hello(int fd) { (void)!write(fd, "hello", 5); }

static void a_killed_process_resets_what_it_has_not_read(void **state) {
  (void)state;
  play.client = say_hello;
  play.server = sleep_on;
  begin(1);
  at_ms(0, 1000, kill_server);
  play_all();
  assert_int_equal(error.client, ECONNRESET);
}

static void a_host_dies_in_silence(void **state) {
  (void)state;
  play.client = send_one;          /* at 2 s */
  play.server = NULL;
  begin(1);
  at_ms(0, 1000, host_down);
  at_ms(1, 1500, host_up);
  play_all();
  assert_int_equal(error.client, ECONNRESET);          /* by the host, which does not know it */
  assert_in_range(error.client_ms, 2000, 2100);
  begin(1);
  at_ms(0, 1000, host_down);
  at_ms(1, 60000, end_run);
  play_all();
  assert_int_equal(error.client, -1);
}

static void a_host_that_is_back_resets_who_probes(void **state) {
  (void)state;
  play.client = play.server = NULL;
  play.keepalive = true;
  begin(1);
  at_ms(0, 1000, host_down);
  at_ms(1, 5000, host_up);
  play_all();
  assert_int_equal(error.client, ECONNRESET);
  assert_in_range(error.client_ms, 10000, 12000);
  play.keepalive = false;
}

static void a_reset_that_was_lost_is_noticed_by_who_probes(void **state) {
  (void)state;
  play.client = play.server = NULL;
  play.keepalive = true;
  play.linger = (struct linger){.l_onoff = 1};
  begin(1);
  at_ms(0, 1000, cut);
  at_ms(1, 1500, kill_server);
  at_ms(2, 3000, heal);
  play_all();
  assert_int_equal(error.client, ECONNRESET);
  assert_in_range(error.client_ms, 3000, 12000);
  play.keepalive = false;
  play.linger = (struct linger){0};
}

static void something_on_the_way_resets_both(void **state) {
  (void)state;
  play.client = play.server = NULL;
  begin(1);
  at_ms(0, 1000, reset_one);
  play_all();
  assert_int_equal(error.client, ECONNRESET);
  assert_int_equal(error.server, ECONNRESET);
}

/* Connecting */

static int dial_result;
static uint64_t dialled_ms;

static int dial_nobody(void *arg) {
  dial_result = dial(*(const uint32_t *)arg);
  dialled_ms = now_ms();
  return 0;
}

static void dial_from(struct host *h, uint32_t ip) {
  (void)process_start(h, "dials", dial_nobody, &ip);
  assert_false(world_run());
}

static void nobody_answers(void **state) {
  (void)state;
  begin(1);
  dial_from(a, IP_B);
  assert_int_equal(dial_result, -ECONNREFUSED);
  assert_in_range(dialled_ms, 0, 41);
  begin(1);
  dial_from(a, IP_NOBODY);
  assert_int_equal(dial_result, -EHOSTUNREACH);
  begin(1);
  network_host_down(b);
  dial_from(a, IP_B);
  assert_int_equal(dial_result, -ETIMEDOUT);
  assert_in_range(dialled_ms, 60000, 130000);
  begin(1);
  dial_from(a, 0xffffffff);
  assert_int_equal(dial_result, -ENETUNREACH);
}

static unsigned accepted[2];
static int listens[2];

static int accept_some(void *arg) {
  unsigned *n = arg;
  int fd = listen_here(), got;
  while ((got = accept4(fd, NULL, NULL, 0)) >= 0) {
    (*n)++;
    close(got);
  }
  return 0;
}

static int dial_many(void *arg) {
  (void)arg;
  wait_ms(1);
  for (int i = 0; i < 50; i++) close(dial(IP_B));
  return 0;
}

static void those_who_share_a_port_share_its_visitors(void **state) {
  (void)state;
  begin(1);
  accepted[0] = accepted[1] = 0;
  for (int i = 0; i < 2; i++) (void)process_start(b, "accepts", accept_some, &accepted[i]);
  (void)process_start(a, "dials", dial_many, NULL);
  assert_false(world_run());       /* they go on waiting */
  assert_int_equal(accepted[0] + accepted[1], 50);
  assert_true(accepted[0] > 10 && accepted[1] > 10);
}

/* Descriptors on their way */

static ssize_t send_with(int fd, int what, const void *p, size_t n) {
  union { struct cmsghdr header; char bytes[CMSG_SPACE(sizeof(int))]; } control = {0};
  struct iovec iov = {.iov_base = (void *)(uintptr_t)p, .iov_len = n};
  struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  *CMSG_FIRSTHDR(&m) = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS,
                                        .cmsg_len = CMSG_LEN(sizeof what)};
  memcpy(CMSG_DATA(CMSG_FIRSTHDR(&m)), &what, sizeof what);
  return sendmsg(fd, &m, 0);
}

static const struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "\0heir"};
static const socklen_t name_len = sizeof(sa_family_t) + 5;

static int hand_on(void *arg) {
  int fd = socket(AF_UNIX, SOCK_STREAM, 0), it = listen_here();
  (void)arg;
  wait_ms(1);
  if (connect(fd, (const struct sockaddr *)&name, name_len) != 0) return 1;
  return send_with(fd, it, "x", 1) == 1 ? 0 : 1;
}

static int take_over(void *arg) {
  union { struct cmsghdr header; char bytes[CMSG_SPACE(sizeof(int))]; } control = {0};
  char byte;
  struct iovec iov = {.iov_base = &byte, .iov_len = 1};
  struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  int fd = socket(AF_UNIX, SOCK_STREAM, 0), it;
  (void)arg;
  if (bind(fd, (const struct sockaddr *)&name, name_len) != 0 || listen(fd, 1) != 0) return 1;
  int from = accept4(fd, NULL, NULL, 0);
  wait_ms(1000);                   /* meanwhile the other has ended, and visitors come */
  if (recvmsg(from, &m, 0) != 1) return 1;
  memcpy(&it, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof it);
  return accept4(it, NULL, NULL, 0) >= 0 ? 0 : 1;
}

static int dial_late(void *arg) {
  wait_ms(500);
  return dial_nobody(arg);
}

static void a_listener_outlives_its_process_in_a_message(void **state) {
  static const uint32_t to = IP_B;
  (void)state;
  begin(1);
  const struct process *heir = process_start(b, "heir", take_over, NULL), *old = process_start(b, "old", hand_on, NULL);
  (void)process_start(a, "visitor", dial_late, (void *)(uintptr_t)&to);
  assert_false(world_run());
  assert_int_equal(old->status, 0);
  assert_int_equal(heir->status, 0);
  assert_true(dial_result >= 0);
  assert_in_range(dialled_ms, 500, 600);
}

static int fill_with_descriptors(void *arg) {
  static char bytes[1 << 20];
  int fds[2], way[2];
  (void)arg;
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) != 0 || pipe2(way, O_NONBLOCK) != 0) return 1;
  listens[0] = way[0];
  (void)!write(fds[0], bytes, 200000);
  (void)send_with(fds[0], way[1], bytes, sizeof bytes);         /* waits for ever */
  return 1;
}

static void a_process_that_is_killed_amid_a_call_leaves_nothing(void **state) {
  (void)state;
  begin(1);
  server = process_start(b, "fills", fill_with_descriptors, NULL);
  at_ms(0, 1000, kill_server);
  unsigned before = files_alive();
  assert_false(world_run());
  assert_true(before > 0);
  assert_int_equal(files_alive(), 0);
}

/* Shortages */

static int make_many(void *arg) {
  unsigned *failed = arg;
  for (int i = 0; i < 100; i++) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0) (*failed)++;
    else close(fd);
  }
  return 0;
}

static int reach_the_limit(void *arg) {
  unsigned *made = arg;
  (void)files_set_max(process_current()->files, 20);
  while (dup(0) >= 0) (*made)++;
  return errno == EMFILE && socket(AF_UNIX, SOCK_STREAM, 0) < 0 && errno == EMFILE ? 0 : 1;
}

static void descriptors_run_out(void **state) {
  unsigned failed = 0, made = 0;
  (void)state;
  begin(1);
  weather.no_descriptor_one_in = 4;
  (void)process_start(a, "makes", make_many, &failed);
  assert_false(world_run());
  assert_in_range(failed, 10, 50);
  begin(1);
  const struct process *p = process_start(a, "makes", reach_the_limit, &made);
  assert_false(world_run());
  assert_int_equal(p->status, 0);
  assert_int_equal(made, 17);
}

static struct { int end, behind; } seen_broken;

static void break_off(int fd) {
  (void)send(fd, "x", 1, MSG_NOSIGNAL);
  network_break_off(fd);
  (void)close(fd);
}

static void read_late(int fd) {
  wait_ms(500);
  seen_broken.end = hold(fd);
  seen_broken.behind = net_socket_error(fd);
}

static void who_breaks_off_ends_with_an_error_behind(void **state) {
  (void)state;
  begin(1);
  play.server = break_off;
  play.client = read_late;
  play_all();
  assert_int_equal(seen_broken.end, 0);
  assert_int_equal(seen_broken.behind, EPIPE);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(bytes_come_in_order_and_whole),
      cmocka_unit_test(a_seed_says_what_the_network_does),
      cmocka_unit_test(a_cut_delays_what_is_sent),
      cmocka_unit_test(data_without_an_answer_is_told_of),
      cmocka_unit_test(a_closed_window_is_probed),
      cmocka_unit_test(an_idle_connection_dies_by_keepalive),
      cmocka_unit_test(data_is_sent_again_for_a_quarter_of_an_hour),
      cmocka_unit_test(a_killed_process_ends_its_connections),
      cmocka_unit_test(a_killed_process_resets_what_it_has_not_read),
      cmocka_unit_test(a_host_dies_in_silence),
      cmocka_unit_test(a_host_that_is_back_resets_who_probes),
      cmocka_unit_test(a_reset_that_was_lost_is_noticed_by_who_probes),
      cmocka_unit_test(something_on_the_way_resets_both),
      cmocka_unit_test(nobody_answers),
      cmocka_unit_test(those_who_share_a_port_share_its_visitors),
      cmocka_unit_test(a_listener_outlives_its_process_in_a_message),
      cmocka_unit_test(a_process_that_is_killed_amid_a_call_leaves_nothing),
      cmocka_unit_test(who_breaks_off_ends_with_an_error_behind),
      cmocka_unit_test(descriptors_run_out)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
