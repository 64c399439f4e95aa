/* Frames with descriptors between an old relay and a new one. */
#include "cm.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "relay/carrier.h"
#include "relay/handover.h"

struct world {
  int far;
  struct carrier near;
};

static struct world begin(void) {
  int fds[2];
  struct world w;
  assert_int_equal(carrier_pair(fds), 0);
  w.far = fds[0];
  carrier_init(&w.near, fds[1]);
  return w;
}

static void end(struct world *w) {
  carrier_close(&w->near);
  if (w->far >= 0) close(w->far);
}

static int open_something(void) {
  int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
  assert_true(fd >= 0);
  return fd;
}

static bool is_open(int fd) { return fcntl(fd, F_GETFD) >= 0; }

/* As a header of that says. */
static void send_raw(int far, const uint8_t *bytes, size_t n, const int *fds, size_t fds_n) {
  union { struct cmsghdr header; char bytes[CMSG_SPACE(2 * sizeof(int))]; } control;
  uint8_t copy[64];
  memcpy(copy, bytes, n);
  struct iovec iov = {.iov_base = copy, .iov_len = n};
  struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
  if (fds_n > 0) {
    m.msg_control = control.bytes;
    m.msg_controllen = CMSG_SPACE(fds_n * sizeof(int));
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(fds_n * sizeof(int));
    memcpy(CMSG_DATA(c), fds, fds_n * sizeof(int));
  }
  assert_int_equal(sendmsg(far, &m, MSG_NOSIGNAL), (ssize_t)n);
}

static void a_frame_arrives_with_its_descriptor(void **state) {
  (void)state;
  struct world w = begin();
  struct carrier_frame f;
  struct stat sent, got;
  int fd = open_something();
  assert_int_equal(carrier_send(w.far, CARRIER_LISTENER, "somewhere", 9, &fd, 1), 0);
  assert_int_equal(carrier_send(w.far, CARRIER_GIVEN, NULL, 0, NULL, 0), 0);
  assert_int_equal(carrier_receive(&w.near, 0, &f), 0);
  assert_int_equal(f.header.kind, CARRIER_LISTENER);
  assert_int_equal(f.header.bytes, 9);
  assert_memory_equal(f.body, "somewhere", 9);
  assert_int_equal(f.header.fds_n, 1);
  assert_int_equal(fstat(fd, &sent) + fstat(f.fds[0], &got), 0);
  assert_true(sent.st_ino == got.st_ino && f.fds[0] != fd);
  int own = f.fds[0];
  carrier_frame_free(&f);
  assert_false(is_open(own));
  assert_true(is_open(fd));
  assert_int_equal(carrier_receive(&w.near, 0, &f), 0);
  assert_int_equal(f.header.kind, CARRIER_GIVEN);
  carrier_frame_free(&f);
  assert_int_equal(carrier_receive(&w.near, 0, &f), ERR_TIMEOUT);
  close(fd);
  end(&w);
}

static void a_frame_may_come_byte_by_byte(void **state) {
  (void)state;
  struct world w = begin();
  struct carrier_frame f;
  int fd = open_something();
  static const uint8_t bytes[] = {0, CARRIER_LISTENER, 1, 0, 0, 0, 0, 2, 'o', 'k'};
  send_raw(w.far, bytes, 1, &fd, 1);
  for (size_t i = 1; i < sizeof bytes; i++) {
    assert_int_equal(carrier_receive(&w.near, 0, &f), ERR_TIMEOUT);
    send_raw(w.far, bytes + i, 1, NULL, 0);
  }
  assert_int_equal(carrier_receive(&w.near, 0, &f), 0);
  assert_memory_equal(f.body, "ok", 2);
  assert_true(is_open(f.fds[0]));
  carrier_frame_free(&f);
  close(fd);
  end(&w);
}

/* Whatever is wrong with it, nothing stays open. */
static void refuses(const uint8_t *bytes, size_t n, size_t fds_n) {
  struct world w = begin();
  struct carrier_frame f;
  int fds[2] = {open_something(), open_something()};
  send_raw(w.far, bytes, n, fds, fds_n);
  int before = open_something();   /* the lowest number that is free */
  close(before);
  assert_int_equal(carrier_receive(&w.near, 0, &f), ERR_SYNTAX);
  end(&w);
  int after = open_something();
  assert_true(after <= before);
  close(after);
  close(fds[0]);
  close(fds[1]);
}

static void what_is_no_frame_is_refused(void **state) {
  (void)state;
  static const uint8_t kind_0[] = {0, 0, 0, 0, 0, 0, 0, 0}, kind_unknown[] = {0xff, 0, 0, 0, 0, 0, 0, 0},
                       reserved[] = {0, CARRIER_GIVEN, 0, 1, 0, 0, 0, 0},
                       too_long[] = {0, CARRIER_HELLO, 0, 0, 0xff, 0xff, 0xff, 0xff},
                       without[] = {0, CARRIER_LISTENER, 1, 0, 0, 0, 0, 0},
                       unwanted[] = {0, CARRIER_HELLO, 0, 0, 0, 0, 0, 0},
                       too_few[] = {0, CARRIER_LISTENER, 2, 0, 0, 0, 0, 0};
  refuses(kind_0, 8, 0);
  refuses(kind_unknown, 8, 0);
  refuses(reserved, 8, 0);
  refuses(too_long, 8, 0);
  refuses(without, 8, 0);
  refuses(unwanted, 8, 1);
  refuses(too_few, 8, 1);
  refuses(without, 8, 2);
}

static void a_descriptor_amid_a_frame_is_refused(void **state) {
  (void)state;
  struct world w = begin();
  struct carrier_frame f;
  int fd = open_something();
  static const uint8_t head[] = {0, CARRIER_HELLO, 0, 0, 0, 0, 0, 1};
  send_raw(w.far, head, sizeof head, NULL, 0);
  send_raw(w.far, head, 1, &fd, 1);
  assert_int_equal(carrier_receive(&w.near, 0, &f), ERR_SYNTAX);
  close(fd);
  end(&w);
}

static void an_end_is_told_and_a_wait_has_an_end(void **state) {
  (void)state;
  struct world w = begin();
  struct carrier_frame f;
  assert_int_equal(carrier_receive(&w.near, clock_ms() + 5, &f), ERR_TIMEOUT);
  close(w.far);
  w.far = -1;
  assert_int_equal(carrier_receive(&w.near, clock_ms() + 60000, &f), ERR_CLOSED);
  assert_int_equal(carrier_send(w.near.fd, CARRIER_READY, NULL, 0, NULL, 0), ERR_CLOSED);
  end(&w);
}

static void each_word_is_read_as_it_was_written(void **state) {
  (void)state;
  uint8_t bytes[256];
  struct writer w = writer_of(bytes, sizeof bytes);
  struct handover_hello hello = {.formats = {1, 9}, .pid = 77, .build = "1.2.3"}, heard;
  handover_hello_encode(&w, &hello);
  write_u32(&w, 1);                /* what a later version says besides */
  assert_int_equal(handover_hello_decode(reader_of(bytes, w.len), &heard), 0);
  assert_true(heard.formats.to == 9 && heard.pid == 77);
  assert_string_equal(heard.build, "1.2.3");
  for (size_t n = 0; n < w.len - 4; n++)
    assert_int_equal(handover_hello_decode(reader_of(bytes, n), &heard), ERR_SYNTAX);

  static const char *const texts[] = {"127.0.0.1:443", "[2001:db8::1]:80"};
  for (size_t i = 0; i < ARRAY_LEN(texts) + 2; i++) {
    struct handover_listener l = {.role = ROLE_REDIRECT, .at = addr_unix("/run/adit/socket")}, read;
    if (i < ARRAY_LEN(texts)) assert_int_equal(addr_parse(texts[i], &l.at, NULL), 0);
    if (i == ARRAY_LEN(texts)) l = (struct handover_listener){.role = ROLE_UPGRADE_DOOR};
    w = writer_of(bytes, sizeof bytes);
    handover_listener_encode(&w, &l);
    assert_int_equal(handover_listener_decode(reader_of(bytes, w.len), &read), 0);
    assert_true(read.role == l.role && addr_equal(&read.at, &l.at));
    for (size_t n = 0; n < w.len; n++)
      assert_int_equal(handover_listener_decode(reader_of(bytes, n), &read), ERR_SYNTAX);
  }
}

static void a_format_that_is_not_known_is_refused(void **state) {
  (void)state;
  uint8_t bytes[64];
  struct writer w = writer_of(bytes, sizeof bytes);
  struct handover_welcome read;
  handover_welcome_encode(&w, &(struct handover_welcome){.format = (uint16_t)(formats_known().to + 1)});
  assert_int_equal(handover_welcome_decode(reader_of(bytes, w.len), &read), ERR_SYNTAX);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_frame_arrives_with_its_descriptor), cmocka_unit_test(a_frame_may_come_byte_by_byte),
      cmocka_unit_test(what_is_no_frame_is_refused), cmocka_unit_test(a_descriptor_amid_a_frame_is_refused),
      cmocka_unit_test(an_end_is_told_and_a_wait_has_an_end), cmocka_unit_test(each_word_is_read_as_it_was_written),
      cmocka_unit_test(a_format_that_is_not_known_is_refused)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
