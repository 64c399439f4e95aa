/* Newcomers: whose turn it is, and who goes when there is no place. */
#include "cm.h"

#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "relay/newcomers.h"

enum { SOME_BYTES = 1000, MANY = 64 };

struct guest {
  struct newcomer newcomer;
  int owner;                       /* 0: asks for a link */
  bool served, dropped;
};

static struct loop *loop;
static struct sources *sources;
static struct metrics metrics;
static struct newcomers *all;
static size_t strangers_max = SIZE_MAX;
static int owners[MANY + 1];       /* only their addresses count */
static struct guest *served_order[4 * NEWCOMERS_QUEUED_PER_WORKER_MAX];
static size_t served_n;

static unsigned workers = 1;

static void make(size_t bytes_max) {
  struct err e;
  loop = loop_new(&e);
  sources = sources_new();
  assert_non_null(loop);
  assert_non_null(sources);
  memset(&metrics, 0, sizeof metrics);
  served_n = 0;
  all = newcomers_new(loop, sources, &metrics, bytes_max, strangers_max, workers);
  assert_non_null(all);
}

static void unmake(void) {
  newcomers_free(all);
  sources_free(sources);
  loop_free(loop);
}

static struct source_key source_of(unsigned number) {
  struct source_key key = {.bytes = {4, (uint8_t)(number >> 16), (uint8_t)(number >> 8), (uint8_t)number}};
  return key;
}

static void dropped(struct newcomer *n) {
  struct guest *g = CONTAINER_OF(n, struct guest, newcomer);
  assert_false(g->dropped);
  g->dropped = true;
  newcomer_leave(n);
}

static void served(struct newcomer *n) {
  struct guest *g = CONTAINER_OF(n, struct guest, newcomer);
  assert_false(g->served);
  g->served = true;
  assert_true(served_n < ARRAY_LEN(served_order));
  served_order[served_n++] = g;
}

static int come(struct guest *g, unsigned source) {
  struct source_key key = source_of(source);
  memset(g, 0, sizeof *g);
  return newcomer_enter(all, &g->newcomer, NEWCOMER_STRANGERS, &key, SOME_BYTES, dropped);
}

static int queue(struct guest *g, int owner) {
  g->owner = owner;
  return newcomer_queue(&g->newcomer, owner != 0 ? &owners[owner] : NULL, true, served);
}

static void come_and_queue(struct guest *g, unsigned source, int owner) {
  assert_int_equal(come(g, source), 0);
  assert_int_equal(queue(g, owner), 0);
}

static void leave_all(struct guest *guests, size_t n) {
  for (size_t i = 0; i < n; i++) newcomer_leave(&guests[i].newcomer);
}

static void serve_all(size_t n) {
  while (served_n < n) loop_turn(loop, 0);
}

static void owners_are_served_in_turn_whatever_one_of_them_sends(void **state) {
  static struct guest flood[MANY], other, third;
  (void)state;
  make(SIZE_MAX);
  for (unsigned i = 0; i < MANY; i++) come_and_queue(&flood[i], 100 + i, 1);
  come_and_queue(&other, 7, 2);
  come_and_queue(&third, 8, 0);
  serve_all(MANY + 2);
  assert_ptr_equal(served_order[0], &flood[0]);
  assert_ptr_equal(served_order[1], &other);
  assert_ptr_equal(served_order[2], &third);
  assert_ptr_equal(served_order[3], &flood[1]);  /* and its own are served in their order */
  leave_all(flood, MANY);
  newcomer_leave(&other.newcomer);
  newcomer_leave(&third.newcomer);
  unmake();
}

static void sources_of_an_owner_are_served_in_turn(void **state) {
  static struct guest flood[MANY], other;
  (void)state;
  make(SIZE_MAX);
  for (unsigned i = 0; i < MANY; i++) come_and_queue(&flood[i], 1, 1);
  come_and_queue(&other, 2, 1);
  serve_all(MANY + 1);
  assert_ptr_equal(served_order[1], &other);
  leave_all(flood, MANY);
  newcomer_leave(&other.newcomer);
  unmake();
}

static void whoever_leaves_while_he_queues_is_not_served(void **state) {
  static struct guest one, two;
  (void)state;
  make(SIZE_MAX);
  come_and_queue(&one, 1, 1);
  come_and_queue(&two, 1, 1);
  newcomer_leave(&one.newcomer);
  serve_all(1);
  loop_turn(loop, 0);
  assert_false(one.served);
  assert_true(two.served);
  newcomer_leave(&two.newcomer);
  unmake();
}

static void at_the_cap_of_a_source_the_longest_silent_makes_room(void **state) {
  static struct guest guests[HANDSHAKES_PER_SOURCE_MAX + 2], other;
  (void)state;
  make(SIZE_MAX);
  for (unsigned i = 0; i < HANDSHAKES_PER_SOURCE_MAX; i++) assert_int_equal(come(&guests[i], 1), 0);
  assert_int_equal(queue(&guests[0], 1), 0);     /* has spoken */
  assert_int_equal(come(&other, 2), 0);
  assert_false(guests[1].dropped);               /* another source's cap is its own */
  assert_int_equal(come(&guests[HANDSHAKES_PER_SOURCE_MAX], 1), 0);
  assert_true(guests[1].dropped);
  assert_false(guests[0].dropped);
  assert_int_equal(come(&guests[HANDSHAKES_PER_SOURCE_MAX + 1], 1), 0);
  assert_true(guests[2].dropped);
  assert_int_equal(metrics.handshakes_over_cap_total, 2);
  leave_all(guests, ARRAY_LEN(guests));
  newcomer_leave(&other.newcomer);
  unmake();
}

/* As those of a stranger and those of an agent, behind one address at a relay of many workers. */
static void assert_a_few_stay_here(size_t few) {
  struct source_key key = source_of(1);
  static struct guest guests[HANDSHAKES_PER_SOURCE_SPARE + 1];
  make(SIZE_MAX);
  /* at another worker */
  for (int i = 0; i < HANDSHAKES_PER_SOURCE_MAX; i++) assert_int_equal(sources_enter(sources, &key), 0);
  for (size_t i = 0; i < few; i++) assert_int_equal(come(&guests[i], 1), 0);
  for (size_t i = 0; i < few; i++) assert_false(guests[i].dropped);
  assert_int_equal(metrics.handshakes_over_cap_total, 0);
  assert_int_equal(come(&guests[few], 1), 0);
  assert_true(guests[0].dropped);                /* and no more */
  assert_int_equal(metrics.handshakes_over_cap_total, 1);
  leave_all(guests, few + 1);
  assert_int_equal(sources_enter(sources, &key), ERR_LIMIT);
  sources_leave(sources, &key);
  assert_int_equal(sources_enter(sources, &key), 0);
  unmake();
}

static void a_source_whose_newcomers_are_all_elsewhere_has_a_few_here_all_the_same(void **state) {
  (void)state;
  workers = 2;
  assert_a_few_stay_here(HANDSHAKES_PER_SOURCE_SPARE / 2);
  workers = RELAY_WORKERS_MAX;
  assert_a_few_stay_here(HANDSHAKES_PER_SOURCE_SPARE_MIN);
  workers = 1;
}

static void who_waits_for_a_data_connection_is_not_of_those_few(void **state) {
  struct source_key key = source_of(1);
  static struct guest one, others[HANDSHAKES_PER_SOURCE_SPARE_MIN];
  (void)state;
  workers = RELAY_WORKERS_MAX;
  make(SIZE_MAX);
  come_and_queue(&one, 1, 1);
  serve_all(1);
  newcomer_proven(&one.newcomer);
  for (int i = 0; i < HANDSHAKES_PER_SOURCE_MAX; i++) assert_int_equal(sources_enter(sources, &key), 0);
  for (size_t i = 0; i < ARRAY_LEN(others); i++) assert_int_equal(come(&others[i], 1), 0);
  assert_false(others[0].dropped);
  newcomer_leave(&one.newcomer);
  leave_all(others, ARRAY_LEN(others));
  unmake();
  workers = 1;
}

static void who_waits_for_a_data_connection_does_not_count_at_his_source(void **state) {
  struct source_key key = source_of(1);
  static struct guest one;
  (void)state;
  make(SIZE_MAX);
  come_and_queue(&one, 1, 1);
  serve_all(1);
  for (int i = 1; i < HANDSHAKES_PER_SOURCE_MAX; i++) assert_int_equal(sources_enter(sources, &key), 0);
  assert_int_equal(sources_enter(sources, &key), ERR_LIMIT);
  newcomer_proven(&one.newcomer);
  assert_int_equal(sources_enter(sources, &key), 0);
  newcomer_leave(&one.newcomer);
  assert_int_equal(sources_enter(sources, &key), ERR_LIMIT);   /* it was not taken off twice */
  unmake();
}

/* The flood has one source; the others have one newcomer each, of as many sources. */
static void beyond_the_memory_those_go_who_have_most(void **state) {
  enum { OTHERS = 32, FLOOD = 256, ROOM = OTHERS + 64 };
  static struct guest flood[FLOOD], others[OTHERS];
  unsigned gone = 0;
  (void)state;
  make(ROOM * SOME_BYTES);
  for (unsigned i = 0; i < OTHERS; i++) assert_int_equal(come(&others[i], 100 + i), 0);
  for (unsigned i = 0; i < FLOOD; i++) assert_int_equal(come(&flood[i], 1), 0);
  for (unsigned i = 0; i < OTHERS; i++) gone += others[i].dropped;
  assert_true(gone <= OTHERS / 4); /* lots decide: 192 draws of four each, of which a third are the others' */
  assert_int_equal(metrics.newcomers_dropped_memory_total, OTHERS + FLOOD - ROOM);
  leave_all(flood, FLOOD);
  leave_all(others, OTHERS);
  unmake();
}

static void whoever_grows_makes_others_go_and_never_himself(void **state) {
  static struct guest one, two;
  (void)state;
  make(3 * SOME_BYTES);
  assert_int_equal(come(&one, 1), 0);
  assert_int_equal(come(&two, 1), 0);
  newcomer_set_bytes(&one.newcomer, 4 * SOME_BYTES);
  assert_true(two.dropped);
  assert_false(one.dropped);
  newcomer_leave(&one.newcomer);
  unmake();
}

static void beyond_what_can_be_served_those_go_who_have_most(void **state) {
  static struct guest flood[2 * NEWCOMERS_QUEUED_PER_WORKER_MAX], other;
  unsigned left = 0;
  (void)state;
  make(SIZE_MAX);
  come_and_queue(&other, 1, 2);
  for (unsigned i = 0; i < ARRAY_LEN(flood); i++) {
    assert_int_equal(come(&flood[i], 1000 + i), 0);            /* each from a source of its own, all for one owner */
    if (queue(&flood[i], 1) != 0) dropped(&flood[i].newcomer);
  }
  for (unsigned i = 0; i < ARRAY_LEN(flood); i++) left += !flood[i].dropped;
  assert_false(other.dropped);
  assert_int_equal(left, NEWCOMERS_QUEUED_PER_WORKER_MAX - 1);
  assert_int_equal(metrics.newcomers_dropped_load_total, ARRAY_LEN(flood) - left);
  leave_all(flood, ARRAY_LEN(flood));
  newcomer_leave(&other.newcomer);
  unmake();
}

static void what_is_known_of_a_newcomer_passes_on(void **state) {
  static struct guest guests[HANDSHAKES_PER_SOURCE_MAX + 1], heir;
  (void)state;
  make(SIZE_MAX);
  for (unsigned i = 0; i < HANDSHAKES_PER_SOURCE_MAX; i++) assert_int_equal(come(&guests[i], 1), 0);
  newcomer_pass(&guests[0].newcomer, &heir.newcomer, dropped);
  newcomer_leave(&guests[0].newcomer);           /* nobody any more */
  assert_int_equal(come(&guests[HANDSHAKES_PER_SOURCE_MAX], 1), 0);
  assert_true(heir.dropped);       /* it was the longest silent */
  leave_all(guests, ARRAY_LEN(guests));
  unmake();
}

static void a_newcomer_may_turn_out_to_be_from_elsewhere(void **state) {
  static struct guest one, two;
  struct source_key real = source_of(2), full = source_of(3);
  (void)state;
  make(SIZE_MAX);
  assert_int_equal(come(&one, 1), 0);
  assert_int_equal(come(&two, 1), 0);
  assert_int_equal(newcomer_set_source(&one.newcomer, &real), 0);
  assert_int_equal(newcomer_set_source(&one.newcomer, &real), 0);
  for (int i = 0; i < HANDSHAKES_PER_SOURCE_MAX; i++) assert_int_equal(sources_enter(sources, &full), 0);
  assert_int_equal(newcomer_set_source(&two.newcomer, &full), 0);
  newcomer_leave(&one.newcomer);
  newcomer_leave(&two.newcomer);
  assert_int_equal(sources_enter(sources, &full), ERR_LIMIT);
  for (int i = 0; i < HANDSHAKES_PER_SOURCE_MAX; i++) assert_int_equal(sources_enter(sources, &real), 0);
  unmake();
}

static void strangers_are_few_and_those_who_are_paid_for_do_not_count(void **state) {
  enum { ROOM = 8 };
  static struct guest paid[MANY], strangers[MANY];
  unsigned left = 0;
  (void)state;
  strangers_max = ROOM;
  make(SIZE_MAX);
  for (unsigned i = 0; i < MANY; i++) come_and_queue(&paid[i], 100 + i, 1);
  for (unsigned i = 0; i < MANY; i++) assert_int_equal(come(&strangers[i], 1000 + i), 0);
  for (unsigned i = 0; i < MANY; i++) {
    assert_false(paid[i].dropped);
    left += !strangers[i].dropped;
  }
  assert_int_equal(left, ROOM);
  assert_int_equal(metrics.newcomers_dropped_descriptors_total, MANY - ROOM);
  leave_all(paid, MANY);
  leave_all(strangers, MANY);
  unmake();
  strangers_max = SIZE_MAX;
}

static void who_asks_for_a_link_is_a_stranger_still(void **state) {
  static struct guest one, two;
  (void)state;
  strangers_max = 1;
  make(SIZE_MAX);
  come_and_queue(&one, 1, 0);
  come_and_queue(&two, 2, 0);
  assert_true(one.dropped);
  newcomer_leave(&two.newcomer);
  unmake();
  strangers_max = SIZE_MAX;
}

static void strangers_take_no_memory_from_those_who_are_paid_for(void **state) {
  enum { PAID = 16, ROOM = 4 * PAID };
  static struct guest paid[PAID], strangers[8 * ROOM];
  (void)state;
  make(ROOM * SOME_BYTES);
  for (unsigned i = 0; i < PAID; i++) come_and_queue(&paid[i], 100 + i, 1);  /* one owner's: they weigh much */
  for (unsigned i = 0; i < ARRAY_LEN(strangers); i++) assert_int_equal(come(&strangers[i], 1000 + i), 0);
  for (unsigned i = 0; i < PAID; i++) assert_false(paid[i].dropped);
  assert_int_equal(metrics.newcomers_dropped_memory_total, PAID + ARRAY_LEN(strangers) - ROOM);
  leave_all(paid, PAID);
  leave_all(strangers, ARRAY_LEN(strangers));
  unmake();
}

/* Thousands who have said nothing hide nobody who queues. */
static void lots_for_a_place_in_line_are_drawn_among_those_in_line(void **state) {
  static struct guest silent[8 * NEWCOMERS_QUEUED_PER_WORKER_MAX], flood[NEWCOMERS_QUEUED_PER_WORKER_MAX], others[MANY];
  unsigned gone = 0;
  (void)state;
  make(SIZE_MAX);
  for (unsigned i = 0; i < ARRAY_LEN(silent); i++) assert_int_equal(come(&silent[i], 100000 + i), 0);
  for (unsigned i = 0; i < ARRAY_LEN(flood); i++) come_and_queue(&flood[i], 1000 + i, 1);
  for (unsigned i = 0; i < MANY; i++) come_and_queue(&others[i], i, 2);      /* each makes one go */
  for (unsigned i = 0; i < MANY; i++) gone += others[i].dropped;
  assert_int_equal(gone, 0);
  leave_all(silent, ARRAY_LEN(silent));
  leave_all(flood, ARRAY_LEN(flood));
  leave_all(others, MANY);
  unmake();
}

/* Whoever asks for a link weighs no more for all the others who do. */
static void agents_that_come_back_together_weigh_no_more_than_strangers(void **state) {
  enum { AGENTS = 32, CROWD = 256, ROOM = AGENTS + CROWD };
  static struct guest agents[AGENTS], crowd[4 * CROWD];
  unsigned gone = 0;
  (void)state;
  strangers_max = ROOM;
  make(SIZE_MAX);
  for (unsigned i = 0; i < AGENTS; i++) come_and_queue(&agents[i], 100 + i, 0);
  for (unsigned i = 0; i < ARRAY_LEN(crowd); i++) assert_int_equal(come(&crowd[i], 1000 + i / 16), 0);
  for (unsigned i = 0; i < AGENTS; i++) gone += agents[i].dropped;
  assert_true(gone <= AGENTS / 4);
  leave_all(agents, AGENTS);
  leave_all(crowd, ARRAY_LEN(crowd));
  unmake();
  strangers_max = SIZE_MAX;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(owners_are_served_in_turn_whatever_one_of_them_sends),
      cmocka_unit_test(sources_of_an_owner_are_served_in_turn),
      cmocka_unit_test(whoever_leaves_while_he_queues_is_not_served),
      cmocka_unit_test(at_the_cap_of_a_source_the_longest_silent_makes_room),
      cmocka_unit_test(a_source_whose_newcomers_are_all_elsewhere_has_a_few_here_all_the_same),
      cmocka_unit_test(who_waits_for_a_data_connection_is_not_of_those_few),
      cmocka_unit_test(who_waits_for_a_data_connection_does_not_count_at_his_source),
      cmocka_unit_test(beyond_the_memory_those_go_who_have_most),
      cmocka_unit_test(whoever_grows_makes_others_go_and_never_himself),
      cmocka_unit_test(beyond_what_can_be_served_those_go_who_have_most),
      cmocka_unit_test(what_is_known_of_a_newcomer_passes_on),
      cmocka_unit_test(strangers_take_no_memory_from_those_who_are_paid_for),
      cmocka_unit_test(lots_for_a_place_in_line_are_drawn_among_those_in_line),
      cmocka_unit_test(agents_that_come_back_together_weigh_no_more_than_strangers),
      cmocka_unit_test(strangers_are_few_and_those_who_are_paid_for_do_not_count),
      cmocka_unit_test(who_asks_for_a_link_is_a_stranger_still),
      cmocka_unit_test(a_newcomer_may_turn_out_to_be_from_elsewhere)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
