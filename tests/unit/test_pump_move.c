/* A stream that moves: to another loop and pool with all that it held, without its keys staying behind; and bytes that
   are no stream. That one which moves before every turn is like one that stays, the other tests of the pump show, which
   run once more for it. */
#include "pump_far.h"

#include <stdio.h>
#include <sys/mman.h>

#include "base/secret.h"

enum { TIMES = 40, MAPPING_MAX_BYTES = 64 << 20 };

/* As between two processes: nothing is left of the old ones. */
static void move_to_new_loop(struct rig *r) {
  struct err e = {0};
  struct loop *old_loop = r->loop, *loop = loop_new(&e);
  struct pump_pool *old_pool = r->pool, *pool = pump_pool_new(loop, r->pool->mode, &e);
  assert_non_null(pool);
  rig_move_to(r, pool);
  const struct pump_stats *s = pump_pool_stats(old_pool);
  assert_int_equal(s->pumps + s->buffers + s->pipes, 0);
  pump_pool_free(old_pool);
  loop_free(old_loop);
  r->loop = loop;
  r->pool = pool;
}

static void blocked_both_ways(struct fixture *f, bool sealed) {
  struct rig *r = f->rig;
  size_t down = 0, up = 0, down_got = 0, up_got = 0;
  size_t *got = sealed ? &f->far.got : &up_got;
  for (int i = 0; i < TIMES || !(r->pump->to_peer.wants_write && r->pump->to_wire.wants_write); i++) {
    assert_true(i < 100 * TIMES);
    if (sealed) far_send_pattern(f, BIG);
    else rig_send_pattern(r->agent, &down, BIG);
    rig_send_pattern(r->visitor, &up, BIG);
    loop_turn(r->loop, 1);
    if (i % 8 == 7) move_to_new_loop(r);
  }
  RIG_UNTIL(r, ({
              if (sealed) far_send_pattern(f, BIG), far_read(f, 100000);
              else rig_send_pattern(r->agent, &down, BIG), rig_expect_pattern(r->agent, &up_got, 100000);
              rig_send_pattern(r->visitor, &up, BIG);
              rig_expect_pattern(r->visitor, &down_got, 100000);
              if (down_got % 3 == 0) move_to_new_loop(r);
              down_got == BIG && *got == BIG;
            }));
  assert_int_equal(r->to_peer_tally.bytes, BIG);
  assert_int_equal(r->to_wire_tally.bytes, BIG);
}

static void a_spliced_stream_goes_on_in_another_loop(void **state) {
  struct fixture *f = *state;
  rig_start(f->rig, &(struct pump_params){0});
  blocked_both_ways(f, false);
}

static void a_sealed_stream_goes_on_in_another_loop(void **state) {
  struct fixture *f = *state;
  start_sealed(f, 0);
  blocked_both_ways(f, true);
}

static void bytes_that_lay_in_a_pipe_arrive(void **state) {
  struct fixture *f = *state;
  struct rig *r = f->rig;
  size_t sent = 0, got = 0;
  rig_start(r, &(struct pump_params){0});
  RIG_UNTIL(r, (rig_send_pattern(r->agent, &sent, BIG), r->pump->to_peer.piped > 0));
  uint64_t before = r->to_peer_tally.bytes;
  move_to_new_loop(r);
  assert_int_equal(pump_pool_stats(r->pool)->pipes, 0);
  assert_int_equal(r->to_peer_tally.bytes, before);
  RIG_UNTIL(r, (rig_expect_pattern(r->visitor, &got, SIZE_MAX), got == sent));
}

/* Both directions end, and what was open at the move ends behind it: the totals are of the whole. */
static void a_half_closed_stream_ends_cleanly_where_it_is(void **state) {
  struct fixture *f = *state;
  struct rig *r = f->rig;
  rig_start(r, &(struct pump_params){0});
  rig_send_text(r->visitor, "request");
  assert_int_equal(shutdown(r->visitor, SHUT_WR), 0);
  rig_expect_text(r, r->agent, "request");
  rig_expect_end(r, r->agent, 0);
  move_to_new_loop(r);
  rig_send_text(r->agent, "answer");
  move_to_new_loop(r);
  assert_int_equal(shutdown(r->agent, SHUT_WR), 0);
  rig_expect_text(r, r->visitor, "answer");
  rig_expect_end(r, r->visitor, 0);
  RIG_UNTIL(r, r->ended);
  assert_int_equal(r->why, CLOSE_CLEAN);
  assert_int_equal(r->to_peer, 6);
  assert_int_equal(r->to_wire, 7);
}

static void an_idle_stream_costs_nothing_after_it_has_moved(void **state) {
  struct fixture *f = *state;
  struct rig *r = f->rig;
  start_sealed(f, 0);
  far_send_text(f, "before");
  rig_expect_text(r, r->visitor, "before");
  rig_settle(r);
  move_to_new_loop(r);
  struct pollfd p = {.fd = loop_epoll_fd(r->loop), .events = POLLIN};
  assert_int_equal(poll(&p, 1, 20), 0);
  far_send_text(f, "after");
  rig_expect_text(r, r->visitor, "after");
}

/* Where they come from, complemented, so that this test has no copy of them. */
static void secret_is(uint8_t *secret, const uint8_t *complement, size_t n) {
  for (size_t i = 0; i < n; i++) secret[i] = (uint8_t)~complement[i];
}

static size_t count_in(const uint8_t *p, size_t n, const uint8_t *complement, size_t secret_n) {
  size_t found = 0;
  for (size_t i = 0; i + secret_n <= n; i++) {
    size_t same = 0;
    while (same < secret_n && (p[i + same] ^ complement[same]) == 0xff) same++;
    found += same == secret_n;
  }
  return found;
}

/* In all memory that is written to, but for what is as large as the copy that is looked at, or as a sanitizer's. */
static size_t count_in_memory(const uint8_t *complement, size_t secret_n) {
  size_t found = 0;
  char line[512];
  uint8_t *copy = mmap(NULL, MAPPING_MAX_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  FILE *maps = fopen("/proc/self/maps", "re");
  int memory = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
  assert_true(copy != MAP_FAILED && maps != NULL && memory >= 0);
  while (fgets(line, sizeof line, maps) != NULL) {
    unsigned long from, to;
    char rights[8];
    if (sscanf(line, "%lx-%lx %7s", &from, &to, rights) != 3 || strncmp(rights, "rw", 2) != 0) continue;
    if (to - from >= MAPPING_MAX_BYTES) continue;
    ssize_t n = pread(memory, copy, to - from, (off_t)from);
    if (n > 0) found += count_in(copy, (size_t)n, complement, secret_n);
  }
  (void)fclose(maps);
  close(memory);
  munmap(copy, MAPPING_MAX_BYTES);
  return found;
}

static void whoever_gives_a_stream_away_keeps_no_key(void **state) {
  struct fixture *f = *state;
  struct rig *r = f->rig;
  uint8_t complement[32], secret[TLS_SECRET_MAX_BYTES] = {0};
  struct buf bytes;
  int fds[2];
  loop_random(r->loop, complement, sizeof complement);
  secret_is(secret, complement, sizeof complement);
  struct sealed_params keys = {.suite = tls_suite_find(0x1301), .read_secret = secret, .write_secret = secret};
  struct pump_params params = {.sealed = sealed_new(&keys)};
  wipe(secret, sizeof secret);
  rig_start(r, &params);
  r->params.sealed = NULL;
  assert_int_equal(count_in_memory(complement, sizeof complement), 2);   /* of each direction: so they are found */
  buf_init(&bytes, PUMP_EXPORT_MAX_BYTES);
  assert_int_equal(pump_export(r->pump, &bytes, &fds[0], &fds[1]), 0);
  r->pump = NULL;
  assert_int_equal(count_in_memory(complement, sizeof complement), 2);   /* these are in the bytes */
  assert_int_equal(count_in(buf_data(&bytes), bytes.len, complement, sizeof complement), 2);
  buf_free(&bytes);
  assert_int_equal(count_in_memory(complement, sizeof complement), 0);
  close(fds[0]);
  close(fds[1]);
}

static void what_is_no_stream_takes_nothing(void **state) {
  struct fixture *f = *state;
  struct rig *r = f->rig;
  struct buf bytes;
  int fds[2];
  size_t sent = 0;
  start_sealed(f, 0);
  RIG_UNTIL(r, (rig_send_pattern(r->visitor, &sent, BIG), r->pump->to_wire.wants_write));
  buf_init(&bytes, PUMP_EXPORT_MAX_BYTES);
  assert_int_equal(pump_export(r->pump, &bytes, &fds[0], &fds[1]), 0);
  r->pump = NULL;
  uint8_t *p = buf_data(&bytes);
  for (size_t n = 0; n < bytes.len; n += n < 400 ? 1 : 997)
    assert_int_equal(pump_import(r->pool, &r->params, p, n, &r->pump), ERR_SYNTAX);
  p[4]++;                          /* another version's */
  assert_int_equal(pump_import(r->pool, &r->params, p, bytes.len, &r->pump), ERR_SYNTAX);
  p[4]--;
  assert_int_equal(buf_append(&bytes, "", 1), 0);
  p = buf_data(&bytes);
  assert_int_equal(pump_import(r->pool, &r->params, p, bytes.len, &r->pump), ERR_SYNTAX);
  assert_null(r->pump);
  assert_int_equal(pump_pool_stats(r->pool)->buffers, 0);
  assert_int_equal(pump_import(r->pool, &r->params, p, bytes.len - 1, &r->pump), 0);   /* as if nothing had happened */
  buf_free(&bytes);
  RIG_UNTIL(r, (far_read(f, SIZE_MAX), f->far.got == sent));
}

static void a_stream_that_cannot_go_stays(void **state) {
  struct fixture *f = *state;
  struct rig *r = f->rig;
  struct buf bytes;
  int fds[2];
  start_sealed(f, 0);
  buf_init(&bytes, 100);
  assert_int_equal(pump_export(r->pump, &bytes, &fds[0], &fds[1]), ERR_LIMIT);
  assert_int_equal(bytes.len, 0);
  far_send_text(f, "still here");
  rig_expect_text(r, r->visitor, "still here");
  buf_free(&bytes);
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
int main(void) {
  const struct CMUnitTest tests[] = {
    T(a_spliced_stream_goes_on_in_another_loop), T(a_sealed_stream_goes_on_in_another_loop),
    T(bytes_that_lay_in_a_pipe_arrive), T(a_half_closed_stream_ends_cleanly_where_it_is),
    T(an_idle_stream_costs_nothing_after_it_has_moved), T(whoever_gives_a_stream_away_keeps_no_key),
    T(what_is_no_stream_takes_nothing), T(a_stream_that_cannot_go_stays)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
