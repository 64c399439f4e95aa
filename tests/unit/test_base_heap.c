/* Memory that is given back. */
#include "cm.h"

#include <stdlib.h>
#include <string.h>

#include "base/heap.h"
#include "base/limits.h"

enum { PIECE_BYTES = 1024, PIECES = 4 * HEAP_TRIM_MIN_BYTES / PIECE_BYTES };

#ifndef SANITIZED
static void *pieces[PIECES];

/* Every hundredth stays, so that free() alone can give nothing back. */
static void what_a_burst_has_left_is_given_back_once(void **state) {
  struct heap_watch w = {0};
  (void)state;
  (void)heap_trim(&w);
  for (size_t i = 0; i < PIECES; i++) {
    pieces[i] = malloc(PIECE_BYTES);
    assert_non_null(pieces[i]);
    memset(pieces[i], 1, PIECE_BYTES);
  }
  assert_false(heap_trim(&w));     /* it is in use */
  for (size_t i = 0; i < PIECES; i++) {
    if (i % 100 != 0 && i != PIECES - 1) free(pieces[i]);
  }
  assert_true(heap_trim(&w));
  assert_false(heap_trim(&w));
  for (size_t i = 0; i < PIECES; i++) {
    if (i % 100 == 0 || i == PIECES - 1) free(pieces[i]);
  }
}

#endif

static void a_heap_that_has_little_to_give_is_left_alone(void **state) {
  struct heap_watch w = {0};
  (void)state;
  assert_false(heap_trim(&w));
}

int main(void) {
  const struct CMUnitTest tests[] = {
#ifndef SANITIZED                  /* sanitizers have allocators of their own */
      cmocka_unit_test(what_a_burst_has_left_is_given_back_once),
#endif
      cmocka_unit_test(a_heap_that_has_little_to_give_is_left_alone)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
