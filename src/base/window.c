/* A ring of bits: that of number n is at n % WINDOW_NUMBERS while n is one of the last so many below `next`. */
#include "base/window.h"

#include <string.h>

static uint64_t *word_of(struct window *w, uint64_t number) { return &w->used[number % WINDOW_NUMBERS / 64]; }

static uint64_t bit_of(uint64_t number) { return (uint64_t)1 << number % 64; }

/* Moves on so that `number` is the highest; those that are passed over have not been used. */
static void advance(struct window *w, uint64_t number) {
  if (number - w->next >= WINDOW_NUMBERS) memset(w->used, 0, sizeof w->used);
  else
    for (uint64_t n = w->next; n <= number; n++) *word_of(w, n) &= ~bit_of(n);
  w->next = number + 1;
}

bool window_take(struct window *w, uint64_t number) {
  ASSERT(number < UINT64_MAX);
  if (number >= w->next) advance(w, number);
  else if (w->next - number > WINDOW_NUMBERS || (*word_of(w, number) & bit_of(number)) != 0) return false;
  *word_of(w, number) |= bit_of(number);
  return true;
}

void window_give_back(struct window *w, uint64_t number) {
  if (number < w->next && w->next - number <= WINDOW_NUMBERS) *word_of(w, number) &= ~bit_of(number);
}

void window_write(const struct window *w, struct writer *to) {
  write_u64(to, w->next);
  for (size_t i = 0; i < ARRAY_LEN(w->used); i++) write_u64(to, w->used[i]);
}

void window_read(struct window *w, struct reader *r) {
  w->next = read_u64(r);
  for (size_t i = 0; i < ARRAY_LEN(w->used); i++) w->used[i] = read_u64(r);
}
