/* A token bucket as one number, so that threads need no lock: the bytes that were reserved since time 0, set beside
   those that the rate has brought by now. Who reserves moves it on. It never lies behind the clock, and where it lies
   ahead by more than a burst, its reader waits until the clock has come so near. */
#include "pump/rate.h"

#include "base/limits.h"

enum { BYTES_PER_GB = 1000000000 };

struct rate rate_within(uint64_t bytes_per_s, struct rate *outer) {
  ASSERT(bytes_per_s > 0);
  uint64_t most = (uint64_t)RATE_MAX_GB_PER_S * BYTES_PER_GB;
  return (struct rate){.outer = outer, .bytes_per_s = bytes_per_s < most ? bytes_per_s : most};
}

/* What so much time brings, in whole bytes. (ms * bytes_per_s would not fit 64 bits.) */
static uint64_t rate_bytes_in(const struct rate *r, uint64_t ms) {
  return ms / 1000 * r->bytes_per_s + ms % 1000 * r->bytes_per_s / 1000;
}

/* The least time that brings so much. */
static uint64_t rate_ms_for(const struct rate *r, uint64_t bytes) {
  return bytes / r->bytes_per_s * 1000 + (bytes % r->bytes_per_s * 1000 + r->bytes_per_s - 1) / r->bytes_per_s;
}

static uint64_t rate_burst_bytes(const struct rate *r) {
  uint64_t n = rate_bytes_in(r, RATE_BURST_MS);
  return n > RATE_BURST_MIN_BYTES ? n : RATE_BURST_MIN_BYTES;
}

size_t rate_step_bytes(const struct rate *r) {
  size_t own = size_max(RATE_STEP_MIN_BYTES, size_min(rate_bytes_in(r, RATE_STEP_MS), RATE_STEP_MAX_BYTES));
  return r->outer == NULL ? own : size_min(own, rate_step_bytes(r->outer));
}

uint64_t rate_reserve(struct rate *r, uint64_t now_ms, size_t n) {
  uint64_t brought = rate_bytes_in(r, now_ms), burst = rate_burst_bytes(r);
  uint64_t was = __atomic_load_n(&r->reserved, __ATOMIC_RELAXED), is;
  do {
    is = (was > brought ? was : brought) + n;
  } while (!__atomic_compare_exchange_n(&r->reserved, &was, is, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  uint64_t at_ms = is > burst ? rate_ms_for(r, is - burst) : 0;
  uint64_t from_ms = r->outer == NULL ? now_ms : rate_reserve(r->outer, now_ms, n);
  return at_ms > from_ms ? at_ms : from_ms;
}

void rate_give_back(struct rate *r, size_t n) {
  for (; r != NULL; r = r->outer) (void)__atomic_fetch_sub(&r->reserved, n, __ATOMIC_RELAXED);
}

uint64_t rate_ahead_ms(const struct rate *r, uint64_t now_ms) {
  uint64_t brought = rate_bytes_in(r, now_ms), reserved = __atomic_load_n(&r->reserved, __ATOMIC_RELAXED);
  return reserved > brought ? rate_ms_for(r, reserved - brought) : 0;
}

void rate_set_ahead(struct rate *r, uint64_t now_ms, uint64_t ahead_ms) {
  uint64_t is = rate_bytes_in(r, now_ms + ahead_ms), was = __atomic_load_n(&r->reserved, __ATOMIC_RELAXED);
  while (was < is &&
         !__atomic_compare_exchange_n(&r->reserved, &was, is, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
}
