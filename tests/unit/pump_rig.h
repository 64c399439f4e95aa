/* A pump between two real TCP connections over loopback, whose far ends the test plays: "visitor" beyond the peer side
   and "agent" beyond the wire side. Everything is driven by loop turns until a condition holds. */
#ifndef TESTS_PUMP_RIG_H
#define TESTS_PUMP_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h wants the four above first. */
#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/limits.h"
#include "loop/net.h"
#include "pump/flow.h"

/* Set for a second run of a file's tests: whoever waits then moves the pump before each turn, and must see no
   difference. */
static bool rig_moves;

/* In the libc's place: this machine has been up for longer than anything here may take. */
int clock_gettime(clockid_t which, struct timespec *t) {
  int r = (int)syscall(SYS_clock_gettime, which, t);
  if (which == CLOCK_MONOTONIC) t->tv_sec += 2 * HALF_OPEN_IDLE_MS / 1000;
  return r;
}

struct rig {
  struct loop *loop;
  struct pump_pool *pool;
  struct pump *pump;
  int visitor, agent;              /* the test's ends */
  int peer_fd, wire_fd;            /* the pump's */
  bool ended;
  enum close_reason why;
  uint64_t to_peer, to_wire;
  struct tally to_peer_tally, to_wire_tally;
  size_t fds_before;
  struct pump_params params;       /* with which the pump was started */
};

static inline size_t rig_count_fds(void) {
  size_t n = 0;
  DIR *d = opendir("/proc/self/fd");
  assert_non_null(d);
  while (readdir(d) != NULL) n++;
  closedir(d);
  return n;
}

static inline void rig_tcp_pair(int *a, int *b) {
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t n = sizeof at;
  int l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  assert_int_equal(bind(l, (struct sockaddr *)&at, sizeof at), 0);
  assert_int_equal(listen(l, 1), 0);
  assert_int_equal(getsockname(l, (struct sockaddr *)&at, &n), 0);
  *a = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  assert_int_equal(connect(*a, (struct sockaddr *)&at, sizeof at), 0);
  *b = accept4(l, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
  assert_true(*b >= 0);
  close(l);
  assert_int_equal(fcntl(*a, F_SETFL, O_NONBLOCK), 0);
}

static inline void rig_on_end(struct pump *p, void *user, enum close_reason why, uint64_t to_peer, uint64_t to_wire) {
  struct rig *r = user;
  (void)p;
  assert_false(r->ended);
  r->ended = true;
  r->why = why;
  r->to_peer = to_peer;
  r->to_wire = to_wire;
}

static inline struct rig *rig_new(enum pump_mode mode) {
  struct rig *r = calloc(1, sizeof *r);
  assert_non_null(r);
  struct err e = {0};
  r->fds_before = rig_count_fds();
  r->loop = loop_new(&e);
  assert_non_null(r->loop);
  r->pool = pump_pool_new(r->loop, mode, &e);
  assert_non_null(r->pool);
  rig_tcp_pair(&r->visitor, &r->peer_fd);
  rig_tcp_pair(&r->agent, &r->wire_fd);
  assert_int_equal(net_stream_setup(r->peer_fd), 0);
  assert_int_equal(net_stream_setup(r->wire_fd), 0);
  return r;
}

static inline void rig_start(struct rig *r, struct pump_params *params) {
  struct err e = {0};
  params->wire.fd = r->wire_fd;
  params->peer_fd = r->peer_fd;
  params->on_end = rig_on_end;
  params->user = r;
  params->to_peer_tally = &r->to_peer_tally;
  params->to_wire_tally = &r->to_wire_tally;
  assert_int_equal(pump_start(r->pool, params, &r->pump, &e), 0);
  r->params = *params;
}

/* The stream goes on in this pool, whichever it was in. */
static inline void rig_move_to(struct rig *r, struct pump_pool *pool) {
  struct buf state;
  int wire_fd = -1, peer_fd = -1;
  buf_init(&state, PUMP_EXPORT_MAX_BYTES);
  int rc = pump_export(r->pump, &state, &wire_fd, &peer_fd);
  if (rc == ERR_NOMEM) return;                   /* nothing has changed */
  assert_int_equal(rc, 0);
  assert_int_equal(wire_fd, r->wire_fd);
  assert_int_equal(peer_fd, r->peer_fd);
  r->pump = NULL;
  rc = pump_import(pool, &r->params, buf_data(&state), state.len, &r->pump);
  if (rc == ERR_NOMEM) rc = pump_import(pool, &r->params, buf_data(&state), state.len, &r->pump);
  assert_int_equal(rc, 0);
  buf_free(&state);
}

static inline void rig_may_move(struct rig *r) {
  if (rig_moves && r->pump != NULL && !r->ended) rig_move_to(r, r->pool);
}

static inline void rig_close(int *fd) {
  if (*fd >= 0) close(*fd);
  *fd = -1;
}

static inline void rig_reset(int *fd) {
  net_reset(*fd);
  *fd = -1;
}

/* Everything is given back: buffers, pipes, pumps, descriptors. */
static inline void rig_free(struct rig *r) {
  if (r->pump != NULL && !r->ended) pump_abort(r->pump, CLOSE_LOCAL);
  const struct pump_stats *s = pump_pool_stats(r->pool);
  assert_int_equal(s->buffers, 0);
  assert_int_equal(s->pipes, 0);
  assert_int_equal(s->pumps, 0);
  pump_pool_free(r->pool);
  loop_free(r->loop);
  rig_close(&r->visitor);
  rig_close(&r->agent);
  assert_int_equal(rig_count_fds(), r->fds_before);
  free(r);
}

static inline uint64_t rig_now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* Turns the loop until the condition holds; fails after 20 s. */
#define RIG_UNTIL(r, condition) \
  do { \
    uint64_t rig_limit = rig_now_ms() + 20000; \
    while (!(condition)) { \
      assert_true(rig_now_ms() < rig_limit); \
      rig_may_move(r); \
      loop_turn((r)->loop, 5); \
    } \
  } while (0)

/* Turns until nothing is ready any more. A loop that spins never gets there. */
static inline void rig_settle(struct rig *r) {
  int quiet = 0;
  rig_may_move(r);
  for (int turns = 0; quiet < 3; turns++) {
    assert_true(turns < 5000);
    struct pollfd p = {.fd = loop_epoll_fd(r->loop), .events = POLLIN};
    int ready = poll(&p, 1, 2);
    quiet = ready == 0 ? quiet + 1 : 0;
    loop_turn(r->loop, 0);
  }
}

static inline uint8_t rig_byte(size_t at) { return (uint8_t)((at * 2654435761u) >> 13); }

/* Sends what the socket takes of the pattern [*at, to); moves *at. */
static inline void rig_send_pattern(int fd, size_t *at, size_t to) {
  uint8_t part[32768];
  while (*at < to) {
    size_t n = size_min(sizeof part, to - *at);
    for (size_t i = 0; i < n; i++) part[i] = rig_byte(*at + i);
    ssize_t sent = send(fd, part, n, MSG_NOSIGNAL);
    if (sent <= 0) return;
    *at += (size_t)sent;
  }
}

enum rig_read { RIG_MORE, RIG_EOF, RIG_RESET };

/* Reads at most `max` bytes and compares them with the pattern from *at on. */
static inline enum rig_read rig_expect_pattern(int fd, size_t *at, size_t max) {
  uint8_t part[32768];
  while (max > 0) {
    ssize_t n = recv(fd, part, size_min(max, sizeof part), 0);
    if (n == 0) return RIG_EOF;
    if (n < 0) return errno == EAGAIN ? RIG_MORE : RIG_RESET;
    for (size_t i = 0; i < (size_t)n; i++) assert_int_equal(part[i], rig_byte(*at + i));
    *at += (size_t)n;
    max -= (size_t)n;
  }
  return RIG_MORE;
}

/* One read of what is there: bytes, 0 at the end, -1 nothing yet, -2 reset. */
static inline ssize_t rig_recv(int fd, void *p, size_t n) {
  ssize_t got = recv(fd, p, n, 0);
  if (got >= 0) return got;
  return errno == EAGAIN ? -1 : -2;
}

static inline void rig_send_text(int fd, const char *text) {
  assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

static inline void rig_expect_text(struct rig *r, int fd, const char *text) {
  char got[256];
  size_t have = 0, want = strlen(text);
  assert_true(want < sizeof got);
  RIG_UNTIL(r, ({
              ssize_t n = recv(fd, got + have, want - have, 0);
              if (n > 0) have += (size_t)n;
              assert_true(n != 0);
              have == want;
            }));
  assert_memory_equal(got, text, want);
}

static inline void rig_expect_end(struct rig *r, int fd, ssize_t end) {
  char scrap[4096];
  ssize_t n = -1;
  RIG_UNTIL(r, (n = rig_recv(fd, scrap, sizeof scrap)) != -1);
  assert_int_equal(n, end);
}

/* The visitor's side is looked at first, and its bytes run into a wire that has broken: whatever else an epoll_wait
   told. */
static inline void rig_visitor_first(struct rig *r) {
  struct loop_io *io = &r->pump->peer.io;
  io->fn(io, EPOLLIN);
}

/* A rate whose clock stands still: a byte takes a second, and rig_next_turn says when what waits may go on. */
static inline struct rate rig_still_rate(void) { return rate_within(1, NULL); }
enum { RIG_STILL_BURST_BYTES = RATE_BURST_MIN_BYTES, RIG_STILL_STEP_BYTES = RATE_STEP_MIN_BYTES };

static inline void rig_next_turn(struct rig *r) {
  struct pump *p = r->pump;
  if (r->ended || (!p->to_peer.throttled && !p->to_wire.throttled)) return;
  if (p->to_peer.throttled) p->to_peer.granted_at_ms = 0;
  if (p->to_wire.throttled) p->to_wire.granted_at_ms = 0;
  assert_true(loop_timer_is_set(&p->timer));
  assert_int_equal(loop_timer_set(r->loop, &p->timer, 0, p->timer.fn), 0);
}

/* The deadline that the pump waits for is now. */
static inline void rig_fire_timer(struct rig *r) {
  struct loop_timer *t = &r->pump->timer;
  assert_true(loop_timer_is_set(t));
  assert_int_equal(loop_timer_set(r->loop, t, 0, t->fn), 0);
}

#endif
