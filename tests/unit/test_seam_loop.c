/* How a loop divides its time, by a clock that stands still but for what its handlers take. */
#include "cm.h"

#include <time.h>
#include <unistd.h>

#include "base/limits.h"
#include "loop/loop.h"

static uint64_t clock_us = 1000000;

int __wrap_clock_gettime(clockid_t id, struct timespec *t);
int __wrap_clock_gettime(clockid_t id, struct timespec *t) {
  (void)id;
  *t = (struct timespec){.tv_sec = (time_t)(clock_us / 1000000), .tv_nsec = (long)(clock_us % 1000000) * 1000};
  return 0;
}

struct worker {                    /* a pipe that always has something for it */
  struct loop_io io;
  int fds[2];
  uint64_t each_us, took_us;
};

static void work(struct loop_io *io, uint32_t events) {
  struct worker *w = CONTAINER_OF(io, struct worker, io);
  (void)events;
  clock_us += w->each_us;
  w->took_us += w->each_us;
}

static void begin(struct loop *l, struct worker *w, uint64_t each_us,
                  int (*add)(struct loop *, struct loop_io *, int, uint32_t, loop_io_fn *)) {
  *w = (struct worker){.each_us = each_us};
  assert_int_equal(pipe(w->fds), 0);
  assert_int_equal(write(w->fds[1], "x", 1), 1);
  assert_int_equal(add(l, &w->io, w->fds[0], EPOLLIN, work), 0);
}

static void end(struct worker *w) {
  loop_io_del(&w->io);
  close(w->fds[0]);
  close(w->fds[1]);
}

static void late_ones_have_a_share_of_the_time_of_the_others_and_no_more(void **state) {
  enum { SOME_MS = 1000 };
  static const uint64_t late_us[] = {LOOP_LATE_TURN_US / 100, LOOP_LATE_TURN_US, 3 * LOOP_LATE_TURN_US};
  (void)state;
  for (size_t i = 0; i < ARRAY_LEN(late_us); i++) {
    struct err e;
    struct loop *l = loop_new(&e);
    struct worker late, prompt;
    begin(l, &late, late_us[i], loop_io_add_late);
    begin(l, &prompt, LOOP_LATE_TURN_US / 10, loop_io_add);
    while (late.took_us + prompt.took_us < SOME_MS * 1000) loop_turn(l, -1);
    uint64_t share_us = SOME_MS * 1000 / LOOP_LATE_PART;
    assert_in_range(late.took_us, share_us * 9 / 10, share_us * 11 / 10);
    end(&late);
    end(&prompt);
    loop_free(l);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(late_ones_have_a_share_of_the_time_of_the_others_and_no_more),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
