/* TLS around a socket: records are whole where sockets are not, nothing is lost and nothing is made up. */
#include "cm.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "loop/net.h"
#include "pump/wrap.h"

enum { NEAR, FAR, ENDS, BIG = 3 << 20 };

static const uint8_t secrets[ENDS][TLS_SECRET_MAX_BYTES] = {{1, 2, 3}, {4, 5, 6}};

struct fixture {
  int fd[ENDS];
  struct wrap *wrap[ENDS];
  struct sealed *bare;             /* FAR without a wrap, for what none would send */
};

static struct sealed *make_sealed(int end) {
  struct sealed *s = sealed_new(&(struct sealed_params){
    .suite = tls_suite_find(0x1301), .read_secret = secrets[!end], .write_secret = secrets[end]});
  assert_non_null(s);
  return s;
}

static int set_up(void **state) {
  struct fixture *f = calloc(1, sizeof *f);
  assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, f->fd), 0);
  for (int end = 0; end < ENDS; end++) assert_non_null(f->wrap[end] = wrap_new(make_sealed(end), NULL));
  f->bare = make_sealed(FAR);
  *state = f;
  return 0;
}

static int tear_down(void **state) {
  struct fixture *f = *state;
  for (int end = 0; end < ENDS; end++) {
    wrap_free(f->wrap[end]);
    if (f->fd[end] >= 0) close(f->fd[end]);
  }
  sealed_free(f->bare);
  free(f);
  return 0;
}

static ssize_t near_recv(struct fixture *f, void *p, size_t n) { return wrap_recv(f->wrap[NEAR], f->fd[NEAR], p, n); }

/* A record of FAR's by hand; its length. */
static size_t record(struct fixture *f, uint8_t *out, const char *text) {
  size_t n = strlen(text);
  memcpy(out + RECORD_HEADER_BYTES, text, n);
  assert_int_equal(sealed_write(f->bare, out, n), 0);
  return n + RECORD_OVERHEAD_BYTES;
}

static void far_send_bare(struct fixture *f, const uint8_t *p, size_t n) {
  assert_int_equal(send(f->fd[FAR], p, n, 0), (ssize_t)n);
}

static uint8_t pattern(size_t at) { return (uint8_t)(at * 31 + (at >> 11)); }

/* Sends from one end as the socket takes it, in pieces of odd sizes, and reads at the other. */
static void passes_a_pattern(struct fixture *f, int from) {
  size_t sent = 0, got = 0;
  uint8_t *bytes = malloc(200000), *in = malloc(200000);
  while (got < BIG) {
    size_t n = size_min(1 + sent % 150001, BIG - sent);
    for (size_t i = 0; i < n; i++) bytes[i] = pattern(sent + i);
    struct iovec iov[3] = {{bytes, n / 3}, {bytes + n / 3, 0}, {bytes + n / 3, n - n / 3}};
    ssize_t took = n > 0 ? wrap_sendv(f->wrap[from], f->fd[from], iov, 3) : 0;
    assert_true(took >= 0 || took == NET_AGAIN);
    if (took > 0) sent += (size_t)took;
    int flushed = wrap_flush(f->wrap[from], f->fd[from]);
    assert_true(flushed == 0 || flushed == NET_AGAIN);
    ssize_t came = wrap_recv(f->wrap[!from], f->fd[!from], in, 1 + got % 100003);
    assert_true(came > 0 || came == NET_AGAIN);
    for (ssize_t i = 0; i < came; i++) assert_int_equal(in[i], pattern(got + (size_t)i));
    if (came > 0) got += (size_t)came;
  }
  assert_int_equal(wrap_flush(f->wrap[from], f->fd[from]), 0);
  assert_false(wrap_has_input(f->wrap[!from]));
  free(bytes);
  free(in);
}

static void megabytes_pass_both_ways_in_order(void **state) {
  passes_a_pattern(*state, FAR);
  passes_a_pattern(*state, NEAR);
}

static void one_lies_around_another(void **state) {
  struct fixture *f = *state;
  for (int end = 0; end < ENDS; end++) assert_non_null(f->wrap[end] = wrap_new(make_sealed(end), f->wrap[end]));
  passes_a_pattern(f, FAR);
  passes_a_pattern(f, NEAR);
  wrap_close(f->wrap[FAR]);
  assert_int_equal(wrap_flush(f->wrap[FAR], f->fd[FAR]), 0);
  uint8_t in[8];
  assert_int_equal(near_recv(f, in, sizeof in), 0);
}

static void what_was_read_ahead_is_told_of_and_given_without_the_socket(void **state) {
  struct fixture *f = *state;
  uint8_t in[8];
  assert_int_equal(wrap_send(f->wrap[FAR], f->fd[FAR], "abcdef", 6), 6);
  assert_int_equal(wrap_send(f->wrap[FAR], f->fd[FAR], "gh", 2), 2);
  assert_false(wrap_has_input(f->wrap[NEAR]));
  assert_int_equal(near_recv(f, in, 4), 4);
  assert_memory_equal(in, "abcd", 4);
  close(f->fd[FAR]);
  f->fd[FAR] = -1;
  assert_true(wrap_has_input(f->wrap[NEAR]) && wrap_unread(f->wrap[NEAR]) >= 4);
  assert_int_equal(near_recv(f, in, sizeof in), 4);
  assert_memory_equal(in, "efgh", 4);
  assert_false(wrap_has_input(f->wrap[NEAR]));
  assert_int_equal(near_recv(f, in, sizeof in), NET_RESET);   /* an end without close_notify */
}

static void a_record_is_waited_for_byte_by_byte(void **state) {
  struct fixture *f = *state;
  uint8_t out[64], in[8];
  size_t n = record(f, out, "whole");
  for (size_t i = 0; i + 1 < n; i++) {
    far_send_bare(f, out + i, 1);
    assert_int_equal(near_recv(f, in, sizeof in), NET_AGAIN);
    assert_false(wrap_has_input(f->wrap[NEAR]));
  }
  far_send_bare(f, out + n - 1, 1);
  assert_int_equal(near_recv(f, in, sizeof in), 5);
  assert_memory_equal(in, "whole", 5);
}

static void each_direction_ends_by_itself(void **state) {
  struct fixture *f = *state;
  uint8_t in[8];
  assert_int_equal(wrap_send(f->wrap[FAR], f->fd[FAR], "last", 4), 4);
  wrap_close(f->wrap[FAR]);
  assert_true(wrap_is_closed(f->wrap[FAR]));
  assert_int_equal(wrap_send(f->wrap[FAR], f->fd[FAR], "more", 4), NET_RESET);
  assert_int_equal(wrap_flush(f->wrap[FAR], f->fd[FAR]), 0);
  assert_int_equal(near_recv(f, in, 4), 4);
  assert_true(wrap_has_input(f->wrap[NEAR]));      /* the end, of which no event will tell any more */
  assert_int_equal(near_recv(f, in, sizeof in), 0);
  assert_int_equal(near_recv(f, in, sizeof in), 0);
  assert_false(wrap_has_input(f->wrap[NEAR]));
  assert_int_equal(wrap_send(f->wrap[NEAR], f->fd[NEAR], "back", 4), 4);
  assert_int_equal(wrap_recv(f->wrap[FAR], f->fd[FAR], in, sizeof in), 4);
}

static void what_came_before_nonsense_is_given_first(void **state) {
  struct fixture *f = *state;
  uint8_t out[128], in[64];
  size_t n = record(f, out, "good");
  memcpy(out + n, "\x17\x03\x03\x00\x17 this is no ciphertext.", 28);
  far_send_bare(f, out, n + 28);
  assert_int_equal(near_recv(f, in, sizeof in), 4);
  assert_true(wrap_has_input(f->wrap[NEAR]));      /* that it is over */
  assert_int_equal(near_recv(f, in, sizeof in), NET_RESET);
  assert_false(wrap_has_input(f->wrap[NEAR]));
  assert_true(recv(f->fd[FAR], in, sizeof in, 0) == RECORD_OVERHEAD_BYTES + 2);  /* our alert */
  assert_int_equal(wrap_send(f->wrap[NEAR], f->fd[NEAR], "x", 1), NET_RESET);
}

static void too_many_records_without_data_are_a_violation(void **state) {
  struct fixture *f = *state;
  uint8_t in[8], out[64];
  static const uint8_t please[] = {24, 0, 0, 1, 1};
  struct record_keys keys;
  assert_int_equal(record_keys_init(&keys, tls_suite_find(0x1301), secrets[FAR], 0, true), 0);
  for (int i = 0; i <= WRAP_IDLE_RECORDS_MAX; i++) {
    memcpy(out + RECORD_HEADER_BYTES, please, sizeof please);
    assert_int_equal(record_seal(&keys, RECORD_HANDSHAKE, out, sizeof please), 0);
    assert_int_equal(record_keys_update(&keys), 0);
    far_send_bare(f, out, sizeof please + RECORD_OVERHEAD_BYTES);
    assert_int_equal(near_recv(f, in, sizeof in), i < WRAP_IDLE_RECORDS_MAX ? NET_AGAIN : NET_RESET);
  }
  record_keys_free(&keys);
}

static void a_key_update_is_answered_before_the_next_data(void **state) {
  struct fixture *f = *state;
  uint8_t out[64], in[8];
  static const uint8_t please[] = {24, 0, 0, 1, 1};
  struct record_keys keys;
  assert_int_equal(record_keys_init(&keys, tls_suite_find(0x1301), secrets[FAR], 0, true), 0);
  memcpy(out + RECORD_HEADER_BYTES, please, sizeof please);
  assert_int_equal(record_seal(&keys, RECORD_HANDSHAKE, out, sizeof please), 0);
  far_send_bare(f, out, sizeof please + RECORD_OVERHEAD_BYTES);
  record_keys_free(&keys);
  assert_int_equal(near_recv(f, in, sizeof in), NET_AGAIN);
  assert_int_equal(wrap_send(f->wrap[NEAR], f->fd[NEAR], "after", 5), 5);
  assert_int_equal(wrap_recv(f->wrap[FAR], f->fd[FAR], in, sizeof in), 5);
  assert_memory_equal(in, "after", 5);
}

static void of_a_stranger_little_is_read(void **state) {
  struct fixture *f = *state;
  uint8_t big[1024] = {0}, in[64];
  wrap_read_little(f->wrap[NEAR], 100);
  assert_int_equal(wrap_send(f->wrap[FAR], f->fd[FAR], "short", 5), 5);
  assert_int_equal(wrap_send(f->wrap[FAR], f->fd[FAR], "words", 5), 5);
  assert_int_equal(near_recv(f, in, 5), 5);
  assert_true(wrap_unread(f->wrap[NEAR]) <= 100);
  assert_int_equal(near_recv(f, in, sizeof in), 5);
  assert_int_equal(wrap_send(f->wrap[FAR], f->fd[FAR], big, sizeof big), (ssize_t)sizeof big);
  assert_int_equal(near_recv(f, in, sizeof in), NET_AGAIN);
  assert_int_equal(near_recv(f, in, sizeof in), NET_RESET);
}

static void none_is_the_bare_socket(void **state) {
  struct fixture *f = *state;
  uint8_t in[8];
  struct iovec iov = {(void *)(uintptr_t)"bare", 4};
  assert_int_equal(wrap_send(NULL, f->fd[FAR], "a", 1), 1);
  assert_int_equal(wrap_sendv(NULL, f->fd[FAR], &iov, 1), 4);
  assert_int_equal(wrap_recv(NULL, f->fd[NEAR], in, sizeof in), 5);
  assert_memory_equal(in, "abare", 5);
  assert_int_equal(wrap_flush(NULL, f->fd[NEAR]), 0);
  assert_false(wrap_has_input(NULL));
  assert_true(wrap_is_closed(NULL));
  wrap_close(NULL);
  wrap_free(NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
int main(void) {
  const struct CMUnitTest tests[] = {
    TEST(megabytes_pass_both_ways_in_order),
    TEST(one_lies_around_another),
    TEST(what_was_read_ahead_is_told_of_and_given_without_the_socket),
    TEST(a_record_is_waited_for_byte_by_byte),
    TEST(each_direction_ends_by_itself),
    TEST(what_came_before_nonsense_is_given_first),
    TEST(too_many_records_without_data_are_a_violation),
    TEST(a_key_update_is_answered_before_the_next_data),
    TEST(of_a_stranger_little_is_read),
    TEST(none_is_the_bare_socket),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
