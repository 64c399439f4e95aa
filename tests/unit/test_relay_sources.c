/* The cap on a source's unfinished handshakes, whichever threads its connections come in at. */
#include "cm.h"

#include <pthread.h>
#include <string.h>

#include "base/err.h"
#include "base/limits.h"
#include "relay/sources.h"

enum { THREADS = 4 };

static struct source_key key_of(uint8_t number) {
  struct source_key key;
  memset(&key, number, sizeof key);
  key.bytes[0] = 4;
  return key;
}

static void a_source_has_so_many_and_no_more(void **state) {
  (void)state;
  struct sources *s = sources_new();
  struct source_key one = key_of(1), two = key_of(2);
  assert_non_null(s);
  for (int i = 0; i < HANDSHAKES_PER_SOURCE_MAX; i++) assert_int_equal(sources_enter(s, &one), 0);
  assert_int_equal(sources_enter(s, &one), ERR_LIMIT);
  assert_int_equal(sources_enter(s, &two), 0);     /* another has its own */
  sources_leave(s, &one);
  assert_int_equal(sources_enter(s, &one), 0);
  assert_int_equal(sources_enter(s, &one), ERR_LIMIT);
  for (int i = 0; i < HANDSHAKES_PER_SOURCE_MAX; i++) sources_leave(s, &one);
  assert_int_equal(sources_enter(s, &one), 0);
  sources_free(s);
}

static void all_sources_of_a_part_are_told_apart(void **state) {
  (void)state;
  struct sources *s = sources_new();
  for (int round = 0; round < 2; round++) {
    for (unsigned i = 0; i < 4096; i++) {
      /* all sums are equal */
      struct source_key key = {.bytes = {4, (uint8_t)(i >> 8), (uint8_t)i, (uint8_t)(i >> 8), (uint8_t)i}};
      if (round == 0) assert_int_equal(sources_enter(s, &key), 0);
      else sources_leave(s, &key);
    }
  }
  sources_free(s);
}

struct thread {
  pthread_t id;
  struct sources *sources;
  int entered;
};

static void *enter_until_full(void *arg) {
  struct thread *t = arg;
  struct source_key key = key_of(7);
  while (sources_enter(t->sources, &key) == 0) t->entered++;
  return NULL;
}

static void *leave_what_was_entered(void *arg) {
  struct thread *t = arg;
  struct source_key key = key_of(7);
  for (; t->entered > 0; t->entered--) sources_leave(t->sources, &key);
  return NULL;
}

static void run_all(struct thread *threads, void *(*fn)(void *)) {
  for (int i = 0; i < THREADS; i++) assert_int_equal(pthread_create(&threads[i].id, NULL, fn, &threads[i]), 0);
  for (int i = 0; i < THREADS; i++) pthread_join(threads[i].id, NULL);
}

static void the_cap_holds_for_all_threads_together(void **state) {
  (void)state;
  struct sources *s = sources_new();
  struct thread threads[THREADS];
  struct source_key key = key_of(7);
  int sum = 0;
  for (int i = 0; i < THREADS; i++) threads[i] = (struct thread){.sources = s};
  run_all(threads, enter_until_full);
  for (int i = 0; i < THREADS; i++) sum += threads[i].entered;
  assert_int_equal(sum, HANDSHAKES_PER_SOURCE_MAX);
  run_all(threads, leave_what_was_entered);
  for (int i = 0; i < HANDSHAKES_PER_SOURCE_MAX; i++) assert_int_equal(sources_enter(s, &key), 0);
  sources_free(s);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(a_source_has_so_many_and_no_more),
      cmocka_unit_test(all_sources_of_a_part_are_told_apart),
                                     cmocka_unit_test(the_cap_holds_for_all_threads_together)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
