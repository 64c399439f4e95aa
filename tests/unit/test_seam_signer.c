/* A worker's signatures: the test is the key process, by a clock that stands still until it is moved. */
#include <time.h>

#include "relay_pair.h"

#include "base/fibre.h"
#include "relay/signer.h"

enum { FIBRES = SIGNATURES_AT_ONCE_MAX + 3, BIG = 1 << 17 };

static uint64_t clock_ms_now = 1000000;
static struct one_relay relay;
static int far;                    /* the key process's end */

int __wrap_clock_gettime(clockid_t id, struct timespec *t);
int __wrap_clock_gettime(clockid_t id, struct timespec *t) {
  (void)id;
  *t = (struct timespec){.tv_sec = (time_t)(clock_ms_now / 1000), .tv_nsec = (long)(clock_ms_now % 1000) * 1000000};
  return 0;
}

static unsigned given_up;          /* how often the key process was */

void __wrap_key_process_give_up(struct key_process *p);
void __wrap_key_process_give_up(struct key_process *p) {
  (void)p;
  given_up++;
}

/* Somebody in a handshake. */
static struct wanting {
  struct fibre *fibre;
  uint64_t handle;
  int code;
  uint8_t signature[SIGNATURE_MAX_BYTES];
  size_t n;
} all[FIBRES];

static int ours;

static int set_up(void **state) {
  (void)state;
  given_up = 0;
  one_relay_open(&relay, PUMP_COPY);
  socket_pair(&ours, &far);
  relay.worker.signer = signer_new(&relay.worker, ours);
  return relay.worker.signer == NULL ? -1 : 0;
}

static int tear_down(void **state) {
  (void)state;
  one_relay_close(&relay);
  close(ours);
  if (far >= 0) close(far);
  return 0;
}

static void turn(void) { (void)loop_turn(relay.worker.loop, 0); }

static void some_turns(void) {
  for (int i = 0; i < 8; i++) turn();
}

static void sign_now(void *arg) {
  struct wanting *w = arg;
  const struct key_request r = {
      .kind = KEY_SIGN, .handle = w->handle, .text = (const uint8_t *)"to be signed", .text_n = 12};
  w->n = sizeof w->signature;
  w->code = signer_sign(relay.worker.signer, &r, w->signature, &w->n);
}

static void go_on(void *arg) {
  struct wanting *w = arg;
  w->fibre = fibre_resume(w->fibre);
}

static struct wanting *want(unsigned i) {
  struct wanting *w = &all[i];
  *w = (struct wanting){.handle = 100 + i, .code = 1};
  assert_int_equal(fibre_start(signer_fibres(relay.worker.signer), sign_now, go_on, w, &w->fibre), 0);
  return w;
}

/* What came to the key process in one message. */
static unsigned requests_in_message(void) {
  static uint8_t bytes[BIG];
  struct key_request r;
  struct buf b;
  unsigned count = 0;
  size_t frame;
  ssize_t n = recv(far, bytes, sizeof bytes, 0);
  if (n <= 0) return 0;
  buf_init(&b, BIG);
  assert_int_equal(buf_append(&b, bytes, (size_t)n), 0);
  while (key_frame_whole(&b, KEY_REQUEST_MAX_BYTES, &frame) == 0 && frame > 0) {
    assert_int_equal(
        key_request_read(buf_data(&b) + KEY_FRAME_HEADER_BYTES, frame - KEY_FRAME_HEADER_BYTES, &r), 0);
    assert_int_equal(r.kind, KEY_SIGN);
    buf_consume(&b, frame);
    count++;
  }
  assert_int_equal(b.len, 0);
  buf_free(&b);
  return count;
}

static void put_answer(struct buf *b, int code, const char *signature) {
  const struct key_answer a = {.code = code, .bytes = (const uint8_t *)signature, .n = strlen(signature)};
  assert_int_equal(key_answer_write(&a, b), 0);
}

static void send_answers(struct buf *b) {
  assert_int_equal(send(far, buf_data(b), b->len, 0), (ssize_t)b->len);
  buf_free(b);
}

static void answer(unsigned n) {
  struct buf b;
  buf_init(&b, BIG);
  for (unsigned i = 0; i < n; i++) put_answer(&b, 0, "signature");
  send_answers(&b);
}

static void assert_signed(const struct wanting *w, const char *signature) {
  assert_null(w->fibre);
  assert_int_equal(w->code, 0);
  assert_int_equal(w->n, strlen(signature));
  assert_memory_equal(w->signature, signature, w->n);
}

static void what_gathers_goes_in_one_message_and_comes_back_in_one(void **state) {
  struct buf b;
  (void)state;
  for (unsigned i = 0; i < 4; i++) want(i);
  assert_int_equal(requests_in_message(), 1);    /* at once, as the key process has nothing to do */
  turn();
  assert_int_equal(requests_in_message(), 3);
  buf_init(&b, BIG);
  put_answer(&b, 0, "one");
  put_answer(&b, 0, "two");
  put_answer(&b, ERR_NOT_NOW, "");
  put_answer(&b, 0, "four");
  send_answers(&b);
  some_turns();
  assert_signed(&all[0], "one");
  assert_signed(&all[1], "two");
  assert_int_equal(all[2].code, ERR_NOT_NOW);
  assert_signed(&all[3], "four");
}

static void an_answer_may_come_in_pieces(void **state) {
  struct buf b;
  (void)state;
  want(0);
  buf_init(&b, BIG);
  put_answer(&b, 0, "piece by piece");
  for (size_t i = 0; i < b.len; i++) {
    assert_non_null(all[0].fibre);
    assert_int_equal(send(far, buf_data(&b) + i, 1, 0), 1);
    turn();
  }
  buf_free(&b);
  some_turns();
  assert_signed(&all[0], "piece by piece");
}

static void the_answer_for_one_that_has_gone_is_nobody_elses(void **state) {
  struct buf b;
  (void)state;
  for (unsigned i = 0; i < 3; i++) want(i);
  fibre_cancel(all[0].fibre);
  assert_int_equal(all[0].code, ERR_CLOSED);
  fibre_cancel(all[1].fibre);
  buf_init(&b, BIG);
  put_answer(&b, 0, "of the first");
  put_answer(&b, 0, "of the second");
  put_answer(&b, 0, "of the third");
  send_answers(&b);
  some_turns();
  assert_signed(&all[2], "of the third");
}

static uint64_t unsigned_total(void) { return relay.worker.metrics.signatures_late_total; }

static void who_is_not_signed_for_in_time_is_refused_and_counted_and_others_at_once(void **state) {
  (void)state;
  want(0);
  clock_ms_now += SIGNATURE_WAIT_MS / 2;
  turn();
  want(1);
  clock_ms_now += SIGNATURE_WAIT_MS / 2 - 1;
  some_turns();
  assert_non_null(all[0].fibre);
  clock_ms_now += 1;
  some_turns();
  assert_null(all[0].fibre);
  assert_int_equal(all[0].code, ERR_TIMEOUT);
  assert_non_null(all[1].fibre);   /* has its own time */
  assert_int_equal(unsigned_total(), 1);
  assert_int_equal(want(2)->code, ERR_TIMEOUT);
  assert_int_equal(unsigned_total(), 2);
  clock_ms_now += SIGNATURE_WAIT_MS / 2;
  some_turns();
  assert_int_equal(all[1].code, ERR_TIMEOUT);
  assert_int_equal(unsigned_total(), 3);
  answer(2);                       /* it goes on after all */
  some_turns();
  want(3);
  answer(1);
  some_turns();
  assert_signed(&all[3], "signature");
}

/* A machine that stood still, or a worker that was held up. */
static void an_answer_that_came_in_time_is_taken_however_late_it_is_read(void **state) {
  (void)state;
  want(0);
  want(1);
  answer(1);
  clock_ms_now += 2 * SIGNATURE_WAIT_MS;
  some_turns();
  assert_signed(&all[0], "signature");
  assert_int_equal(all[1].code, ERR_TIMEOUT);
  assert_int_equal(unsigned_total(), 1);
}

static void when_the_key_process_ends_all_who_wait_learn_of_it(void **state) {
  (void)state;
  for (unsigned i = 0; i < 3; i++) want(i);
  close(far);
  far = -1;
  some_turns();
  for (unsigned i = 0; i < 3; i++) assert_int_equal(all[i].code, ERR_CLOSED);
  assert_int_equal(want(3)->code, ERR_CLOSED);
  assert_int_equal(given_up, 0);   /* the relay sees that by itself */
}

static void an_answer_that_is_none_is_the_end(void **state) {
  static const uint8_t too_long[] = {0xff, 0xff, 0xff, 0};
  (void)state;
  want(0);
  assert_int_equal(send(far, too_long, sizeof too_long, 0), sizeof too_long);
  some_turns();
  assert_int_equal(all[0].code, ERR_CLOSED);
  assert_int_equal(given_up, 1);
}

static void an_answer_that_nobody_asked_for_is_the_end(void **state) {
  (void)state;
  answer(1);
  some_turns();
  assert_int_equal(want(0)->code, ERR_CLOSED);
  assert_int_equal(given_up, 1);
}

static struct newcomer newcomer;
static bool is_served;

static void serve(struct newcomer *n) {
  (void)n;
  is_served = true;
}

static void drop(struct newcomer *n) { newcomer_leave(n); }

static void queue_one(bool signs) {
  const struct source_key source = {.bytes = {1}};
  is_served = false;
  assert_int_equal(newcomer_enter(relay.worker.newcomers, &newcomer, NEWCOMER_PAID, &source, 1, drop), 0);
  assert_int_equal(newcomer_queue(&newcomer, &relay, signs, serve), 0);
  some_turns();
}

static void newcomers_queue_while_it_has_enough_to_do_but_those_who_need_no_signature(void **state) {
  (void)state;
  for (unsigned i = 0; i < SIGNATURES_AT_ONCE_MAX; i++) want(i);
  queue_one(false);
  assert_true(is_served);
  newcomer_leave(&newcomer);
  queue_one(true);
  assert_false(is_served);
  answer(1);
  some_turns();
  assert_true(is_served);
  newcomer_leave(&newcomer);
  answer(SIGNATURES_AT_ONCE_MAX - 1);
  some_turns();
  assert_signed(&all[SIGNATURES_AT_ONCE_MAX - 1], "signature");
}

static void newcomers_do_not_queue_for_a_key_process_that_does_not_answer(void **state) {
  (void)state;
  for (unsigned i = 0; i < SIGNATURES_AT_ONCE_MAX; i++) want(i);
  queue_one(true);
  assert_false(is_served);
  clock_ms_now += SIGNATURE_WAIT_MS;
  some_turns();
  assert_true(is_served);
  newcomer_leave(&newcomer);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(what_gathers_goes_in_one_message_and_comes_back_in_one, set_up, tear_down),
      cmocka_unit_test_setup_teardown(an_answer_may_come_in_pieces, set_up, tear_down),
      cmocka_unit_test_setup_teardown(the_answer_for_one_that_has_gone_is_nobody_elses, set_up, tear_down),
      cmocka_unit_test_setup_teardown(who_is_not_signed_for_in_time_is_refused_and_counted_and_others_at_once, set_up,
                                      tear_down),
      cmocka_unit_test_setup_teardown(an_answer_that_came_in_time_is_taken_however_late_it_is_read, set_up, tear_down),
      cmocka_unit_test_setup_teardown(when_the_key_process_ends_all_who_wait_learn_of_it, set_up, tear_down),
      cmocka_unit_test_setup_teardown(an_answer_that_is_none_is_the_end, set_up, tear_down),
      cmocka_unit_test_setup_teardown(an_answer_that_nobody_asked_for_is_the_end, set_up, tear_down),
      cmocka_unit_test_setup_teardown(newcomers_queue_while_it_has_enough_to_do_but_those_who_need_no_signature, set_up,
                                      tear_down),
      cmocka_unit_test_setup_teardown(newcomers_do_not_queue_for_a_key_process_that_does_not_answer, set_up,
                                      tear_down)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
