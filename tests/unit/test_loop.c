/* The loop's steps and guarantees: staleness, timers, messages, deferred frees. Pipes and eventfds stand for
   sockets. */
#include "cm.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/limits.h"
#include "loop/loop.h"

static int epoll_changes;

/* In the libc's place. */
int epoll_ctl(int set, int what, int fd, struct epoll_event *event) {
  epoll_changes++;
  return (int)syscall(SYS_epoll_ctl, set, what, fd, event);
}

struct end {                     /* one end of a pipe, counting its events */
  struct loop_io io;
  int calls;
  uint32_t last;
  void (*then)(struct end *e);
  struct end *other;
  int spare;
};

static struct loop *new_loop(void) {
  struct err e;
  struct loop *l = loop_new(&e);
  assert_non_null(l);
  return l;
}

static void count_event(struct loop_io *io, uint32_t events) {
  struct end *e = CONTAINER_OF(io, struct end, io);
  e->calls++;
  e->last = events;
  if (e->then != NULL) e->then(e);
}

static void make_pipe(int fds[2]) { assert_int_equal(pipe2(fds, O_NONBLOCK | O_CLOEXEC), 0); }
static void put_byte(int fd) { assert_int_equal(write(fd, "x", 1), 1); }

static void close_pipe(int fds[2]) {
  close(fds[0]);
  close(fds[1]);
}

static void an_event_is_delivered_until_it_is_consumed(void **state) {
  (void)state;
  struct loop *l = new_loop();
  int p[2];
  char byte;
  make_pipe(p);
  struct end e = {0};
  assert_int_equal(loop_io_add(l, &e.io, p[0], EPOLLIN, count_event), 0);
  loop_turn(l, 0);
  assert_int_equal(e.calls, 0);
  put_byte(p[1]);
  loop_turn(l, -1);
  loop_turn(l, -1);
  assert_int_equal(e.calls, 2);
  assert_int_equal(e.last, EPOLLIN);
  assert_int_equal(read(p[0], &byte, 1), 1);
  loop_turn(l, 0);
  assert_int_equal(e.calls, 2);
  loop_io_del(&e.io);
  loop_io_del(&e.io);
  loop_free(l);
  close_pipe(p);
}

static void no_events_wanted_means_no_hang_up_either(void **state) {
  (void)state;
  struct loop *l = new_loop();
  int p[2];
  make_pipe(p);
  struct end e = {0};
  assert_int_equal(loop_io_add(l, &e.io, p[0], EPOLLIN, count_event), 0);
  close(p[1]);
  loop_io_set(&e.io, 0);
  loop_turn(l, 0);
  assert_int_equal(e.calls, 0);
  loop_io_set(&e.io, EPOLLIN);
  loop_turn(l, 0);
  assert_int_equal(e.calls, 1);
  assert_int_equal(e.last, EPOLLHUP);
  loop_io_del(&e.io);
  loop_free(l);
  close(p[0]);
}

static void remove_other(struct end *e) { loop_io_del(&e->other->io); }

static void replace_other(struct end *e) {
  struct loop *l = e->io.loop;
  int fd = e->other->io.fd;
  loop_io_del(&e->other->io);
  close(fd);
  assert_int_equal(dup3(e->spare, fd, O_CLOEXEC), fd); /* the same number, another descriptor */
  assert_int_equal(loop_io_add(l, &e->other->io, fd, EPOLLIN, count_event), 0);
}

static void mask_other(struct end *e) { loop_io_set(&e->other->io, EPOLLOUT); }

/* Whichever of the two is called first acts on the other, whose event was fetched in the same turn. */
static void stale_event_is_dropped(void (*act)(struct end *e)) {
  struct loop *l = new_loop();
  int p[2], q[2], quiet[2];
  make_pipe(p);
  make_pipe(q);
  make_pipe(quiet);
  struct end a = {.then = act, .spare = quiet[0]}, b = {.then = act, .spare = quiet[0]};
  a.other = &b;
  b.other = &a;
  put_byte(p[1]);
  put_byte(q[1]);
  assert_int_equal(loop_io_add(l, &a.io, p[0], EPOLLIN, count_event), 0);
  assert_int_equal(loop_io_add(l, &b.io, q[0], EPOLLIN, count_event), 0);
  loop_turn(l, -1);
  assert_int_equal(a.calls + b.calls, 1);
  loop_io_del(&a.io);
  loop_io_del(&b.io);
  loop_free(l);
  close_pipe(p);
  close_pipe(q);
  close_pipe(quiet);
}

static void an_event_of_a_removed_descriptor_is_dropped(void **state) {
  (void)state;
  stale_event_is_dropped(remove_other);
}

static void an_event_of_an_earlier_descriptor_of_the_same_number_is_dropped(void **state) {
  (void)state;
  stale_event_is_dropped(replace_other);
}

static void an_event_that_is_no_longer_wanted_is_dropped(void **state) {
  (void)state;
  stale_event_is_dropped(mask_other);
}

static void a_descriptor_that_epoll_refuses_is_an_error(void **state) {
  (void)state;
  struct loop *l = new_loop();
  int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC); /* epoll takes no regular files */
  struct end e = {0};
  assert_int_equal(loop_io_add(l, &e.io, fd, EPOLLIN, count_event), ERR_IO);
  assert_null(e.io.loop);
  loop_io_del(&e.io);
  assert_int_equal(loop_io_add(l, &e.io, fd, 0, count_event), 0);
  loop_io_set(&e.io, EPOLLIN);
  assert_int_equal(e.calls, 0);
  loop_turn(l, -1);
  assert_int_equal(e.calls, 1);
  assert_int_equal(e.last, EPOLLERR);
  loop_turn(l, 0);
  assert_int_equal(e.calls, 1);
  loop_io_del(&e.io);
  loop_free(l);
  close(fd);
}

struct ring { struct loop_timer timer; int order; };
static int rung[64], rung_count;

static void ring(struct loop_timer *t) { rung[rung_count++] = CONTAINER_OF(t, struct ring, timer)->order; }

/* The clock is the machine's; delays of a few milliseconds are waited for by the loop itself. */
static void turn_until_rung(struct loop *l, int count) {
  while (rung_count < count) loop_turn(l, -1);
}

static void timers_run_in_order_of_time(void **state) {
  (void)state;
  struct loop *l = new_loop();
  static const int delays[] = {7, 3, 9, 1, 8, 2, 6, 4, 5, 0};
  struct ring rings[10] = {0};
  rung_count = 0;
  for (size_t i = 0; i < 10; i++) {
    rings[i].order = delays[i];
    assert_int_equal(loop_timer_set(l, &rings[i].timer, (uint64_t)delays[i], ring), 0);
  }
  loop_timer_stop(&rings[2].timer); /* 9 */
  loop_timer_stop(&rings[5].timer); /* 2 */
  assert_false(loop_timer_is_set(&rings[2].timer));
  turn_until_rung(l, 8);
  static const int expected[] = {0, 1, 3, 4, 5, 6, 7, 8};
  assert_memory_equal(rung, expected, sizeof expected);
  for (size_t i = 0; i < 10; i++) assert_false(loop_timer_is_set(&rings[i].timer));
  loop_timer_stop(&rings[0].timer);
  loop_free(l);
}

static void a_timer_that_is_set_again_moves(void **state) {
  (void)state;
  struct loop *l = new_loop();
  struct ring a = {.order = 1}, b = {.order = 2};
  rung_count = 0;
  assert_int_equal(loop_timer_set(l, &a.timer, 1000000, ring), 0);
  assert_int_equal(loop_timer_set(l, &b.timer, 2, ring), 0);
  assert_int_equal(loop_timer_set(l, &a.timer, 0, ring), 0);
  turn_until_rung(l, 2);
  assert_int_equal(rung[0], 1);
  assert_int_equal(rung[1], 2);
  assert_int_equal(loop_timer_set(l, &a.timer, UINT64_MAX, ring), 0);
  loop_turn(l, 0);
  assert_int_equal(rung_count, 2);
  loop_free(l);
}

static void ring_again(struct loop_timer *t) {
  rung_count++;
  assert_int_equal(loop_timer_set(t->loop, t, 0, ring_again), 0);
}

static void a_timer_that_sets_itself_does_not_hold_the_turn(void **state) {
  (void)state;
  struct loop *l = new_loop();
  struct ring a = {0};
  rung_count = 0;
  assert_int_equal(loop_timer_set(l, &a.timer, 0, ring_again), 0);
  loop_turn(l, -1);
  assert_int_equal(rung_count, 1);
  loop_turn(l, -1);
  assert_int_equal(rung_count, 2);
  loop_free(l);
}

static void many_timers_keep_their_order_under_random_removal(void **state) {
  (void)state;
  enum { COUNT = 500 };
  struct loop *l = new_loop();
  static struct loop_timer timers[COUNT];
  uint32_t random = 7;
  for (int step = 0; step < 5000; step++) {
    random = random * 1664525 + 1013904223;
    struct loop_timer *t = &timers[(random >> 8) % COUNT];
    if (random >> 30 == 0) loop_timer_stop(t);
    else assert_int_equal(loop_timer_set(l, t, 1000000 + (random >> 16), ring), 0);
  }
  for (size_t i = 0; i < COUNT; i++) loop_timer_stop(&timers[i]);
  rung_count = 0;
  loop_turn(l, 0);
  assert_int_equal(rung_count, 0);
  loop_free(l);
}

struct note { struct loop_msg msg; int order; };
static int noted[4000], noted_count, noted_without_loop;

static void note(struct loop *l, struct loop_msg *m) {
  struct note *n = CONTAINER_OF(m, struct note, msg);
  if (l == NULL) noted_without_loop++;
  else noted[noted_count++] = n->order;
  free(n);
}

static void note_only(struct loop *l, struct loop_msg *m) {
  (void)l;
  noted[noted_count++] = CONTAINER_OF(m, struct note, msg)->order;
}

static void post_note(struct loop *l, int order) {
  struct note *n = calloc(1, sizeof *n);
  assert_non_null(n);
  n->order = order;
  n->msg.fn = note;
  loop_post(l, &n->msg);
}

static void a_descriptor_that_changes_hands_stays_where_it_is(void **state) {
  (void)state;
  struct loop *l = new_loop();
  int p[2];
  struct end first = {0}, second = {0}, late = {0}, last = {0};
  make_pipe(p);
  put_byte(p[1]);
  assert_int_equal(loop_io_add(l, &first.io, p[0], EPOLLIN, count_event), 0);
  epoll_changes = 0;
  assert_int_equal(loop_io_take(l, &second.io, p[0], EPOLLIN, count_event, &first.io), 0);
  assert_int_equal(epoll_changes, 0);
  loop_turn(l, 0);
  assert_int_equal(first.calls, 0);
  assert_int_equal(second.calls, 1);
  assert_int_equal(loop_io_take_late(l, &late.io, p[0], EPOLLIN, count_event, &second.io), 0);
  loop_turn(l, 0);
  assert_int_equal(second.calls, 1);
  assert_int_equal(late.calls, 1);
  loop_io_del(&late.io);
  assert_int_equal(loop_io_take(l, &last.io, p[0], EPOLLIN, count_event, &late.io), 0);
  loop_io_del(&first.io);          /* whose it is no longer */
  loop_turn(l, 0);
  assert_int_equal(last.calls, 1);
  loop_io_del(&last.io);
  close_pipe(p);
  loop_free(l);
}

static void messages_run_in_order_and_wake_the_loop(void **state) {
  (void)state;
  struct loop *l = new_loop();
  noted_count = 0;
  for (int i = 0; i < 5; i++) post_note(l, i);
  loop_turn(l, -1);
  assert_int_equal(noted_count, 5);
  for (int i = 0; i < 5; i++) assert_int_equal(noted[i], i);
  post_note(l, 5);
  loop_turn(l, -1);
  assert_int_equal(noted_count, 6);
  loop_free(l);
}

static int noted_at_timer;

static void look_at_notes(struct loop_timer *t) {
  (void)t;
  noted_at_timer = noted_count;
}

static void a_flood_of_messages_leaves_timers_and_descriptors_their_turn(void **state) {
  enum { MANY = 5 * LOOP_MESSAGES_PER_TURN_MAX + 1 };
  (void)state;
  struct loop *l = new_loop();
  struct loop_timer timer = {0};
  noted_count = 0;
  for (int i = 0; i < MANY; i++) post_note(l, i);
  loop_turn(l, -1);
  assert_int_equal(noted_count, LOOP_MESSAGES_PER_TURN_MAX);
  assert_int_equal(loop_timer_set(l, &timer, 0, look_at_notes), 0);
  post_note(l, MANY);              /* behind all that are left */
  while (noted_count <= MANY) loop_turn(l, -1);
  assert_int_equal(noted_at_timer, LOOP_MESSAGES_PER_TURN_MAX);
  for (int i = 0; i <= MANY; i++) assert_int_equal(noted[i], i);
  loop_turn(l, 0);                 /* and nothing is left to wake it */
  struct pollfd p = {.fd = loop_epoll_fd(l), .events = POLLIN};
  assert_int_equal(poll(&p, 1, 0), 0);
  loop_free(l);
}

static void messages_that_woke_nobody_all_run_once_something_else_does(void **state) {
  (void)state;
  enum { MANY = 3 * LOOP_MESSAGES_PER_TURN_MAX };
  static struct note many[MANY];
  struct loop *l = new_loop();
  noted_count = 0;
  for (int i = 0; i < MANY; i++) {
    many[i] = (struct note){.order = i, .msg.fn = note_only};
    loop_post_unwoken(l, &many[i].msg);
  }
  loop_turn(l, 0);
  while (noted_count < MANY) loop_turn(l, -1);   /* those that are left wake the loop themselves */
  for (int i = 0; i < MANY; i++) assert_int_equal(noted[i], i);
  loop_free(l);
}

static struct note late_note;

/* Another thread posts and rings between the turn's messages and the reading of its bell. */
static void read_bell(struct end *e) {
  char bytes[8];
  late_note = (struct note){.order = 7, .msg.fn = note_only};
  loop_post_unwoken(e->io.loop, &late_note.msg);
  put_byte(e->spare);
  assert_int_equal(read(e->io.fd, bytes, sizeof bytes), 2);
  e->then = NULL;
  loop_rouse(e->io.loop);
}

static void a_message_whose_bell_was_read_with_an_earlier_one_is_not_forgotten(void **state) {
  (void)state;
  struct loop *l = new_loop();
  int p[2];
  make_pipe(p);
  struct end e = {.then = read_bell, .spare = p[1]};
  noted_count = 0;
  assert_int_equal(loop_io_add(l, &e.io, p[0], EPOLLIN, count_event), 0);
  put_byte(p[1]);
  loop_turn(l, -1);
  assert_int_equal(noted_count, 0);
  loop_turn(l, 0);
  assert_int_equal(noted_count, 1);
  loop_io_del(&e.io);
  close_pipe(p);
  loop_free(l);
}

static void all_messages_run_in_the_turn_after_the_stop(void **state) {
  enum { MANY = 5 * LOOP_MESSAGES_PER_TURN_MAX };
  (void)state;
  struct loop *l = new_loop();
  noted_count = 0;
  for (int i = 0; i < MANY; i++) post_note(l, i);
  loop_stop(l);
  assert_false(loop_turn(l, 0));
  assert_int_equal(noted_count, MANY);
  loop_free(l);
}

static void messages_that_never_ran_are_given_back(void **state) {
  (void)state;
  struct loop *l = new_loop();
  noted_count = noted_without_loop = 0;
  post_note(l, 1);
  post_note(l, 2);
  loop_free(l);
  assert_int_equal(noted_count, 0);
  assert_int_equal(noted_without_loop, 2);
}

struct poster { struct loop *loop; int base; };

static void *post_many(void *arg) {
  struct poster *p = arg;
  for (int i = 0; i < 1000; i++) post_note(p->loop, p->base + i);
  return NULL;
}

static void messages_of_several_threads_all_arrive_each_in_its_order(void **state) {
  (void)state;
  struct loop *l = new_loop();
  pthread_t threads[3];
  struct poster posters[3];
  noted_count = 0;
  for (int i = 0; i < 3; i++) {
    posters[i] = (struct poster){l, i * 1000};
    assert_int_equal(pthread_create(&threads[i], NULL, post_many, &posters[i]), 0);
  }
  while (noted_count < 3000) loop_turn(l, -1);
  for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
  int next[3] = {0, 1000, 2000};
  for (int i = 0; i < 3000; i++) assert_int_equal(noted[i], next[noted[i] / 1000]++);
  loop_free(l);
}

static void *stop_it(void *arg) {
  loop_stop(arg);
  return NULL;
}

static void stop_from_another_thread_ends_the_run(void **state) {
  (void)state;
  struct loop *l = new_loop();
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, stop_it, l), 0);
  loop_run(l);
  pthread_join(thread, NULL);
  assert_false(loop_turn(l, -1));
  loop_free(l);
}

struct corpse { struct loop_deferred d; struct end e; };
static int buried;

static void bury(struct loop_deferred *d) {
  buried++;
  free(CONTAINER_OF(d, struct corpse, d));
}

static void die(struct end *e) {
  struct corpse *c = CONTAINER_OF(e, struct corpse, e);
  struct loop *l = e->io.loop;
  loop_io_del(&e->io);
  loop_defer(l, &c->d, bury);
  assert_int_equal(buried, 0);
  e->calls = 77; /* still there */
}

static void memory_is_freed_at_the_end_of_the_turn(void **state) {
  (void)state;
  struct loop *l = new_loop();
  int p[2];
  make_pipe(p);
  struct corpse *c = calloc(1, sizeof *c);
  assert_non_null(c);
  c->e.then = die;
  buried = 0;
  assert_int_equal(loop_io_add(l, &c->e.io, p[0], EPOLLIN, count_event), 0);
  put_byte(p[1]);
  loop_turn(l, -1);
  assert_int_equal(buried, 1);
  c = calloc(1, sizeof *c);
  assert_non_null(c);
  loop_defer(l, &c->d, bury);
  loop_free(l);
  assert_int_equal(buried, 2);
  close_pipe(p);
}

static void the_clock_stands_during_a_turn(void **state) {
  (void)state;
  struct loop *l = new_loop();
  uint64_t before = loop_now_ms(l);
  struct ring a = {0};
  rung_count = 0;
  assert_int_equal(loop_timer_set(l, &a.timer, 3, ring), 0);
  assert_true(loop_now_ms(l) == before);
  turn_until_rung(l, 1);
  assert_true(loop_now_ms(l) >= before + 3);
  assert_true(loop_wall_s(l) > 1600000000);
  loop_free(l);
}

static void randomness_fills_what_it_is_given(void **state) {
  (void)state;
  struct loop *l = new_loop();
  static uint8_t a[1000], b[1000];
  loop_random(l, a, sizeof a - 1);
  loop_random(l, b, sizeof b - 1);
  loop_random(l, b, 0);
  assert_memory_not_equal(a, b, sizeof a);
  assert_memory_not_equal(a + 983, b + 983, 16);
  assert_int_equal(a[999], 0);
  loop_free(l);
}

/* Late descriptors and calls */

static char order[64];             /* what has run, the last first */
static int late_calls;

static void say(char c) {
  memmove(order + 1, order, sizeof order - 2);
  order[0] = c;
}

static void say_late(struct end *e) { (void)e; say('l'); }
static void say_prompt(struct end *e) { (void)e; say('p'); }

static void say_call(struct loop_deferred *d) {
  (void)d;
  say('c');
  late_calls++;
}

static uint64_t now_us(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void work_us(uint64_t us) {
  for (uint64_t end = now_us() + us; now_us() < end;) {
  }
}

static void late_events_come_after_all_others_and_calls_after_them(void **state) {
  (void)state;
  struct loop *l = new_loop();
  int late[2], prompt[2];
  make_pipe(late);
  make_pipe(prompt);
  struct end a = {.then = say_late}, b = {.then = say_prompt};
  struct loop_deferred call;
  assert_int_equal(loop_io_add_late(l, &a.io, late[0], EPOLLIN, count_event), 0);
  assert_int_equal(loop_io_add(l, &b.io, prompt[0], EPOLLIN, count_event), 0);
  memset(order, 0, sizeof order);
  late_calls = 0;
  put_byte(late[1]);
  loop_turn(l, -1);                /* alone it is delivered at once, though it is late */
  assert_string_equal(order, "l");
  loop_call_late(l, &call, say_call);
  loop_turn(l, -1);
  assert_string_equal(order, "cll");
  put_byte(prompt[1]);
  loop_turn(l, -1);
  assert_non_null(strstr(order, "pcll"));
  for (int calls = a.calls; a.calls == calls;) loop_turn(l, -1);
  assert_memory_equal(order, "lp", 2);   /* the turn's last is late, and the other was before it */
  loop_io_del(&a.io);
  loop_io_del(&b.io);
  loop_free(l);
  close_pipe(late);
  close_pipe(prompt);
}

static void late_calls_wait_for_nothing_when_there_is_nothing(void **state) {
  (void)state;
  struct loop *l = new_loop();
  struct loop_deferred first, second;
  late_calls = 0;
  loop_call_late(l, &first, say_call);
  loop_call_late(l, &second, say_call);
  while (late_calls < 2) loop_turn(l, -1);
  loop_free(l);
}

static void work_prompt(struct end *e) { (void)e; work_us(LOOP_LATE_TURN_US / 10); }

static void work_too_long(struct end *e) { (void)e; work_us(2 * LOOP_LATE_TURN_US); }

/* Those events need more than the whole of the time, in every turn. */
static void late_events_leave_late_calls_their_turn(void **state) {
  (void)state;
  struct loop *l = new_loop();
  int late[2], prompt[2];
  make_pipe(late);
  make_pipe(prompt);
  struct end a = {.then = work_too_long}, b = {.then = work_prompt};
  struct loop_deferred call;
  assert_int_equal(loop_io_add_late(l, &a.io, late[0], EPOLLIN, count_event), 0);
  assert_int_equal(loop_io_add(l, &b.io, prompt[0], EPOLLIN, count_event), 0);
  put_byte(late[1]);
  put_byte(prompt[1]);
  late_calls = 0;
  loop_call_late(l, &call, say_call);
  while (a.calls < 3) loop_turn(l, -1);
  assert_int_equal(late_calls, 1);
  loop_io_del(&a.io);
  loop_io_del(&b.io);
  loop_free(l);
  close_pipe(late);
  close_pipe(prompt);
}

static void a_crowd_of_late_ones_hides_no_other(void **state) {
  (void)state;
  enum { CROWD = 400 };            /* more than one wait brings */
  struct loop *l = new_loop();
  static int pipes[CROWD][2];
  static struct end crowd[CROWD];
  int prompt[2];
  make_pipe(prompt);
  struct end b = {0};
  memset(crowd, 0, sizeof crowd);
  for (int i = 0; i < CROWD; i++) {
    make_pipe(pipes[i]);
    assert_int_equal(loop_io_add_late(l, &crowd[i].io, pipes[i][0], EPOLLIN, count_event), 0);
    put_byte(pipes[i][1]);
  }
  assert_int_equal(loop_io_add(l, &b.io, prompt[0], EPOLLIN, count_event), 0);
  put_byte(prompt[1]);
  for (int turn = 1; turn <= 50; turn++) {
    loop_turn(l, -1);
    assert_int_equal(b.calls, turn);
  }
  for (int i = 0; i < CROWD; i++) {
    loop_io_del(&crowd[i].io);
    close_pipe(pipes[i]);
  }
  loop_io_del(&b.io);
  loop_free(l);
  close_pipe(prompt);
}

static const struct loop_io *called[64];
static size_t called_n, prompt_calls;
static bool bulk_goes_on;

static void move_a_share(struct loop_io *io, uint32_t events) {
  (void)events;
  if (called_n < ARRAY_LEN(called)) called[called_n++] = io;
  loop_spend(io->loop, loop_share(io->loop), bulk_goes_on);
}

static void count_prompt(struct loop_io *io, uint32_t events) {
  char byte;
  (void)events;
  prompt_calls++;
  assert_int_equal(read(io->fd, &byte, 1), 1);
}

enum { A_WHILE_MS = 1000 * 1000, A_MOMENT_MS = 2 };

struct bulk_fixture {
  struct loop *l;
  int fds[4][2];                   /* the last one is not bulk */
  struct loop_io io[4];
};

/* Three that always have something to do. */
static void bulk_begin(struct bulk_fixture *f) {
  *f = (struct bulk_fixture){.l = new_loop()};
  called_n = prompt_calls = 0;
  for (int i = 0; i < 4; i++) {
    make_pipe(f->fds[i]);
    assert_int_equal(loop_io_add(f->l, &f->io[i], f->fds[i][0], EPOLLIN, i < 3 ? move_a_share : count_prompt), 0);
    if (i < 3) put_byte(f->fds[i][1]);
    loop_io_set_bulk(&f->io[i], i < 3 ? A_WHILE_MS : 0);
  }
}

static void bulk_end(struct bulk_fixture *f) {
  for (int i = 0; i < 4; i++) {
    loop_io_del(&f->io[i]);
    close_pipe(f->fds[i]);
  }
  loop_free(f->l);
}

static void bulk_has_one_share_of_a_turn_and_others_come_first(void **state) {
  struct bulk_fixture f;
  (void)state;
  bulk_begin(&f);
  bulk_goes_on = false;
  for (size_t turn = 1; turn <= 12; turn++) {
    put_byte(f.fds[3][1]);
    loop_turn(f.l, -1);
    assert_int_equal(called_n, turn);
    assert_int_equal(prompt_calls, turn);
  }
  for (size_t i = 3; i < called_n; i++) assert_ptr_equal(called[i], called[i - 3]);    /* by turns */
  bulk_end(&f);
}

static void the_share_is_large_until_somebody_else_has_an_event(void **state) {
  struct bulk_fixture f;
  (void)state;
  bulk_begin(&f);
  loop_turn(f.l, -1);
  assert_int_equal(loop_share(f.l), LOOP_SHARE_BYTES);
  put_byte(f.fds[3][1]);
  loop_turn(f.l, -1);
  assert_int_equal(loop_share(f.l), LOOP_SHARE_CONTENDED_BYTES);
  bulk_end(&f);
}

static void a_bulk_one_that_could_go_on_does_until_it_has_had_a_large_share(void **state) {
  enum { TIMES = LOOP_SHARE_BYTES / LOOP_SHARE_CONTENDED_BYTES };
  struct bulk_fixture f;
  (void)state;
  bulk_begin(&f);
  bulk_goes_on = true;
  put_byte(f.fds[3][1]);
  for (size_t turn = 0; turn < 3 * TIMES; turn++) loop_turn(f.l, -1);
  assert_int_equal(called_n, 3 * TIMES);
  for (size_t i = 0; i < called_n; i++) assert_ptr_equal(called[i], called[i / TIMES * TIMES]);
  assert_ptr_not_equal(called[0], called[TIMES]);
  assert_ptr_not_equal(called[TIMES], called[2 * TIMES]);
  bulk_end(&f);
}

static void a_bulk_one_that_was_removed_while_it_waited_is_not_called(void **state) {
  struct bulk_fixture f;
  (void)state;
  bulk_begin(&f);
  bulk_goes_on = false;
  loop_turn(f.l, -1);              /* two are left in the queue */
  for (int i = 0; i < 3; i++) loop_io_del(&f.io[i]);
  assert_int_equal(loop_io_add(f.l, &f.io[0], f.fds[0][0], EPOLLIN, move_a_share), 0);
  loop_io_set_bulk(&f.io[0], A_WHILE_MS);
  for (int i = 0; i < 5; i++) loop_turn(f.l, 0);
  assert_true(called_n > 1);
  for (size_t i = 1; i < called_n; i++) assert_ptr_equal(called[i], &f.io[0]);
  bulk_end(&f);
}

static void a_bulk_one_that_wanted_nothing_for_a_while_is_called_again(void **state) {
  struct bulk_fixture f;
  (void)state;
  bulk_begin(&f);
  bulk_goes_on = false;
  loop_turn(f.l, -1);              /* two are left in the queue */
  for (int i = 0; i < 3; i++) loop_io_set(&f.io[i], 0);
  for (int i = 0; i < 3; i++) loop_turn(f.l, 0);
  assert_int_equal(called_n, 1);
  for (int i = 0; i < 3; i++) loop_io_set(&f.io[i], EPOLLIN);
  for (int i = 0; i < 3; i++) loop_turn(f.l, -1);
  assert_int_equal(called_n, 4);
  for (size_t i = 2; i < called_n; i++) assert_ptr_not_equal(called[i], called[i - 1]);
  bulk_end(&f);
}

static void whoever_has_moved_nothing_for_a_while_goes_before_bulk_again(void **state) {
  struct bulk_fixture f;
  (void)state;
  bulk_begin(&f);
  loop_turn(f.l, -1);
  loop_io_set_bulk(&f.io[3], A_MOMENT_MS);
  uint64_t then_ms = loop_now_ms(f.l) + A_MOMENT_MS;
  while (loop_now_ms(f.l) < then_ms) loop_turn(f.l, -1);
  assert_int_equal(loop_share(f.l), LOOP_SHARE_BYTES);
  put_byte(f.fds[3][1]);
  loop_turn(f.l, -1);
  assert_int_equal(prompt_calls, 1);
  assert_int_equal(loop_share(f.l), LOOP_SHARE_CONTENDED_BYTES);
  bulk_end(&f);
}

static void become_bulk(struct loop_io *io, uint32_t events) {
  count_prompt(io, events);
  loop_io_set_bulk(io, A_WHILE_MS);
}

static void bulk_that_comes_back_does_not_make_the_share_small(void **state) {
  struct bulk_fixture f;
  (void)state;
  bulk_begin(&f);
  f.io[3].fn = become_bulk;
  put_byte(f.fds[3][1]);
  loop_turn(f.l, -1);
  assert_int_equal(prompt_calls, 1);
  assert_int_equal(loop_share(f.l), LOOP_SHARE_BYTES);
  bulk_end(&f);
}

static uint32_t told_last;

static void note_told(struct loop_io *io, uint32_t events) {
  (void)io;
  told_last = events;
}

static void what_a_bulk_one_is_told_once_while_it_waits_it_hears(void **state) {
  struct bulk_fixture f;
  (void)state;
  bulk_begin(&f);
  bulk_goes_on = true;
  told_last = 0;
  f.io[2].fn = note_told;
  loop_turn(f.l, -1);              /* all stand in the queue, and the first one stays so */
  loop_io_set(&f.io[2], EPOLLET);
  close(f.fds[2][1]);
  f.fds[2][1] = dup(f.fds[2][0]);
  loop_turn(f.l, -1);
  assert_int_equal(told_last, 0);
  bulk_goes_on = false;
  for (int i = 0; i < 3; i++) loop_turn(f.l, -1);
  assert_int_equal(told_last, EPOLLHUP);
  bulk_end(&f);
}

static void a_bulk_one_that_changes_hands_while_it_waits_keeps_its_place(void **state) {
  struct bulk_fixture f;
  struct loop_io heir = {0};
  (void)state;
  bulk_begin(&f);
  bulk_goes_on = false;
  loop_turn(f.l, -1);
  size_t next = called[0] == &f.io[0] ? 1 : 0;
  assert_int_equal(loop_io_take(f.l, &heir, f.fds[next][0], EPOLLIN, move_a_share, &f.io[next]), 0);
  for (int i = 0; i < 3; i++) loop_turn(f.l, -1);
  assert_int_equal(called_n, 4);
  assert_true(called[1] == &heir || called[2] == &heir);
  assert_ptr_equal(called[3], called[0]);
  loop_io_del(&heir);
  bulk_end(&f);
}

static void count_share(struct loop_io *io, uint32_t events) {
  (void)events;
  CONTAINER_OF(io, struct end, io)->calls++;
  loop_spend(io->loop, loop_share(io->loop), false);
}

static void each_of_a_crowd_of_bulk_has_its_turns(void **state) {
  (void)state;
  enum { CROWD = 512, ROUNDS = 3 };        /* twice what one wait brings */
  struct loop *l = new_loop();
  static int pipes[CROWD][2];
  static struct end crowd[CROWD];
  memset(crowd, 0, sizeof crowd);
  for (int i = 0; i < CROWD; i++) {
    make_pipe(pipes[i]);
    assert_int_equal(loop_io_add(l, &crowd[i].io, pipes[i][0], EPOLLIN, count_share), 0);
    loop_io_set_bulk(&crowd[i].io, A_WHILE_MS);
    put_byte(pipes[i][1]);
  }
  for (int turn = 0; turn < ROUNDS * CROWD; turn++) loop_turn(l, -1);
  for (int i = 0; i < CROWD; i++) {
    assert_in_range(crowd[i].calls, ROUNDS - 1, ROUNDS + 1);
    loop_io_del(&crowd[i].io);
    close_pipe(pipes[i]);
  }
  loop_free(l);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(an_event_is_delivered_until_it_is_consumed),
      cmocka_unit_test(no_events_wanted_means_no_hang_up_either),
      cmocka_unit_test(an_event_of_a_removed_descriptor_is_dropped),
      cmocka_unit_test(an_event_of_an_earlier_descriptor_of_the_same_number_is_dropped),
      cmocka_unit_test(an_event_that_is_no_longer_wanted_is_dropped),
      cmocka_unit_test(a_descriptor_that_epoll_refuses_is_an_error),
      cmocka_unit_test(timers_run_in_order_of_time),
      cmocka_unit_test(a_timer_that_is_set_again_moves),
      cmocka_unit_test(a_timer_that_sets_itself_does_not_hold_the_turn),
      cmocka_unit_test(many_timers_keep_their_order_under_random_removal),
      cmocka_unit_test(a_descriptor_that_changes_hands_stays_where_it_is),
      cmocka_unit_test(messages_run_in_order_and_wake_the_loop),
      cmocka_unit_test(a_flood_of_messages_leaves_timers_and_descriptors_their_turn),
      cmocka_unit_test(messages_that_woke_nobody_all_run_once_something_else_does),
      cmocka_unit_test(a_message_whose_bell_was_read_with_an_earlier_one_is_not_forgotten),
      cmocka_unit_test(all_messages_run_in_the_turn_after_the_stop),
      cmocka_unit_test(messages_that_never_ran_are_given_back),
      cmocka_unit_test(messages_of_several_threads_all_arrive_each_in_its_order),
      cmocka_unit_test(stop_from_another_thread_ends_the_run),
      cmocka_unit_test(memory_is_freed_at_the_end_of_the_turn),
      cmocka_unit_test(the_clock_stands_during_a_turn),
      cmocka_unit_test(randomness_fills_what_it_is_given),
      cmocka_unit_test(late_events_come_after_all_others_and_calls_after_them),
      cmocka_unit_test(late_calls_wait_for_nothing_when_there_is_nothing),
      cmocka_unit_test(late_events_leave_late_calls_their_turn),
      cmocka_unit_test(a_crowd_of_late_ones_hides_no_other),
      cmocka_unit_test(bulk_has_one_share_of_a_turn_and_others_come_first),
      cmocka_unit_test(the_share_is_large_until_somebody_else_has_an_event),
      cmocka_unit_test(a_bulk_one_that_could_go_on_does_until_it_has_had_a_large_share),
      cmocka_unit_test(a_bulk_one_that_was_removed_while_it_waited_is_not_called),
      cmocka_unit_test(a_bulk_one_that_wanted_nothing_for_a_while_is_called_again),
      cmocka_unit_test(whoever_has_moved_nothing_for_a_while_goes_before_bulk_again),
      cmocka_unit_test(bulk_that_comes_back_does_not_make_the_share_small),
      cmocka_unit_test(what_a_bulk_one_is_told_once_while_it_waits_it_hears),
      cmocka_unit_test(a_bulk_one_that_changes_hands_while_it_waits_keeps_its_place),
      cmocka_unit_test(each_of_a_crowd_of_bulk_has_its_turns)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
