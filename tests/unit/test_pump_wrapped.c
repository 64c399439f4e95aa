/* Streams whose wire side lies inside TLS: what is read ahead is never forgotten, each direction ends by itself, and
   nothing that the other end sends makes the pump stand still or spin. */
#include "pump_rig.h"

#include <linux/sockios.h>
#include <sys/ioctl.h>

#include "pump/wrap.h"

enum { BIG = 3 << 20, TIMES = 64 };

static const uint8_t secrets[2][TLS_SECRET_MAX_BYTES] = {{1, 2, 3}, {4, 5, 6}};

struct wrapped {
  struct rig *rig;
  struct wrap *agent;              /* the test's end */
};

static struct sealed *make_sealed(int end) {
  struct sealed *s = sealed_new(&(struct sealed_params){
    .suite = tls_suite_find(0x1301), .read_secret = secrets[!end], .write_secret = secrets[end]});
  assert_non_null(s);
  return s;
}

static void start_wrapped(struct wrapped *w, struct pump_params *params) {
  w->rig = rig_new(PUMP_SPLICE);
  w->agent = wrap_new(make_sealed(1), NULL);
  assert_non_null(w->agent);
  params->wire.outer = wrap_new(make_sealed(0), NULL);
  assert_non_null(params->wire.outer);
  params->visitor_is_peer = true;
  rig_start(w->rig, params);
}

static int set_up(void **state) {
  struct wrapped *w = *state = calloc(1, sizeof *w);
  start_wrapped(w, &(struct pump_params){0});
  return 0;
}

static enum close_reason prefix_came(struct pump *p, void *user, const uint8_t *bytes) {
  (void)p, (void)user, (void)bytes;
  return CLOSE_CLEAN;
}

static int set_up_with_prefix(void **state) {
  struct wrapped *w = *state = calloc(1, sizeof *w);
  start_wrapped(w, &(struct pump_params){.wire_prefix_n = 6, .on_prefix = prefix_came});
  return 0;
}

static int tear_down(void **state) {
  struct wrapped *w = *state;
  wrap_free(w->agent);
  rig_free(w->rig);
  free(w);
  return 0;
}

static ssize_t agent_recv(struct wrapped *w, void *p, size_t n) { return wrap_recv(w->agent, w->rig->agent, p, n); }

static void agent_send_pattern(struct wrapped *w, size_t *at, size_t to) {
  uint8_t part[32768];
  if (wrap_flush(w->agent, w->rig->agent) != 0) return;
  while (*at < to) {
    size_t n = size_min(sizeof part, to - *at);
    for (size_t i = 0; i < n; i++) part[i] = rig_byte(*at + i);
    ssize_t sent = wrap_send(w->agent, w->rig->agent, part, n);
    if (sent <= 0) return;
    *at += (size_t)sent;
  }
}

/* What wrap_recv says in the end. */
static ssize_t agent_expect_pattern(struct wrapped *w, size_t *at) {
  uint8_t part[32768];
  for (;;) {
    ssize_t n = agent_recv(w, part, sizeof part);
    if (n <= 0) return n;
    for (size_t i = 0; i < (size_t)n; i++) assert_int_equal(part[i], rig_byte(*at + i));
    *at += (size_t)n;
  }
}

static void agent_end(struct wrapped *w) {
  wrap_close(w->agent);
  assert_int_equal(wrap_flush(w->agent, w->rig->agent), 0);
}

static void megabytes_pass_both_ways_to_who_reads_late(void **state) {
  struct wrapped *w = *state;
  struct rig *r = w->rig;
  size_t up = 0, up_got = 0, down = 0, down_got = 0;
  for (int i = 0; i < TIMES; i++) {
    rig_send_pattern(r->visitor, &up, BIG);
    agent_send_pattern(w, &down, BIG);
    loop_turn(r->loop, 0);
  }
  RIG_UNTIL(r, (rig_send_pattern(r->visitor, &up, BIG), agent_send_pattern(w, &down, BIG),
                (void)agent_expect_pattern(w, &up_got), (void)rig_expect_pattern(r->visitor, &down_got, SIZE_MAX),
                up_got == BIG && down_got == BIG));
  rig_settle(r);
  assert_int_equal(pump_pool_stats(r->pool)->buffers, 0);
}

static void each_direction_ends_by_itself(void **state) {
  struct wrapped *w = *state;
  struct rig *r = w->rig;
  size_t sent = 0, got = 0;
  ssize_t end = NET_AGAIN;
  agent_send_pattern(w, &sent, 1000);
  agent_end(w);
  rig_expect_end(r, r->visitor, 1000);
  rig_expect_end(r, r->visitor, 0);
  rig_settle(r);
  assert_false(r->ended);
  sent = 0;
  RIG_UNTIL(r, (rig_send_pattern(r->visitor, &sent, BIG), (void)agent_expect_pattern(w, &got), got == BIG));
  shutdown(r->visitor, SHUT_WR);
  RIG_UNTIL(r, (end = agent_expect_pattern(w, &got)) != NET_AGAIN);
  assert_int_equal(end, 0);
  RIG_UNTIL(r, r->ended);
  assert_int_equal(r->why, CLOSE_CLEAN);
}

static void an_end_of_tcp_alone_is_a_death(void **state) {
  struct wrapped *w = *state;
  struct rig *r = w->rig;
  size_t sent = 0;
  agent_send_pattern(w, &sent, 1000);
  shutdown(r->agent, SHUT_WR);
  rig_expect_end(r, r->visitor, 1000);
  rig_expect_end(r, r->visitor, -2);
  RIG_UNTIL(r, r->ended);
  assert_int_equal(r->why, CLOSE_WIRE_RESET);
}

/* The nonsense is known of, and what came before it waits for the visitor, who does not read, when he ends. */
static void nonsense_behind_data_and_then_the_visitors_end_make_nothing_spin(void **state) {
  struct wrapped *w = *state;
  struct rig *r = w->rig;
  static const uint8_t nonsense[RECORD_HEADER_BYTES + 64] = {23, 3, 3, 0, 64};
  uint8_t filler[16384] = {0}, scrap[16384];
  size_t filled = 0, got = 0;
  for (ssize_t n; (n = send(r->peer_fd, filler, sizeof filler, MSG_NOSIGNAL)) > 0;) filled += (size_t)n;
  assert_int_equal(wrap_send(w->agent, r->agent, "last", 4), 4);
  assert_int_equal(send(r->agent, nonsense, sizeof nonsense, MSG_NOSIGNAL), sizeof nonsense);
  RIG_UNTIL(r, r->pump->to_peer.wants_write);
  shutdown(r->visitor, SHUT_WR);
  rig_settle(r);
  ssize_t n = -1;
  RIG_UNTIL(r, ({
              while ((n = rig_recv(r->visitor, scrap, sizeof scrap)) > 0) got += (size_t)n;
              n == -2;
            }));
  assert_int_equal(got, filled + 4);
  assert_true(r->ended);
  assert_int_equal(r->why, CLOSE_WIRE_RESET);
}

/* A proxy between agent and relay may lack TCP_NODELAY, and then the app's first bytes wait there. */
static void the_prefix_is_acknowledged_in_the_midst_of_a_conversation(void **state) {
  struct wrapped *w = *state;
  struct rig *r = w->rig;
  char in[3];
  int left = -1;
  assert_int_equal(wrap_send(w->agent, r->agent, "pre", 3), 3);
  RIG_UNTIL(r, r->pump->prefix_have == 3);
  assert_int_equal(send(r->visitor, "ask", 3, MSG_NOSIGNAL), 3);
  RIG_UNTIL(r, agent_recv(w, in, sizeof in) == 3);
  assert_int_equal(wrap_send(w->agent, r->agent, "fix", 3), 3);
  RIG_UNTIL(r, r->pump->prefix_want == 0);
  assert_int_equal(ioctl(r->agent, SIOCOUTQ, &left), 0);
  assert_int_equal(left, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(megabytes_pass_both_ways_to_who_reads_late),
      TEST(each_direction_ends_by_itself),
      TEST(an_end_of_tcp_alone_is_a_death),
      cmocka_unit_test_setup_teardown(the_prefix_is_acknowledged_in_the_midst_of_a_conversation, set_up_with_prefix,
                                      tear_down),
      TEST(nonsense_behind_data_and_then_the_visitors_end_make_nothing_spin),
  };
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  rig_moves = true;
  return failed + cmocka_run_group_tests(tests, NULL, NULL);
}
