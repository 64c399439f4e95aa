/* Retry delays. Thousands of agents lose a restarted relay in the same instant, and must not come back in one. */
#include "agent/backoff.h"

void backoff_reset(struct backoff *b) {
  b->since_ms = 0;
  b->ceiling_ms = 0;
}

static uint64_t upper_half(uint64_t ceiling_ms, uint32_t random) {
  return ceiling_ms / 2 + random % (ceiling_ms / 2 + 1);
}

uint64_t backoff_next_ms(struct backoff *b, uint64_t now_ms, uint32_t random) {
  if (b->since_ms == 0) b->since_ms = now_ms == 0 ? 1 : now_ms;
  if (now_ms < b->since_ms + RECONNECT_EARLY_FOR_MS) {
    b->ceiling_ms = RECONNECT_EARLY_MAX_MS;
    return RECONNECT_EARLY_MIN_MS + random % (RECONNECT_EARLY_MAX_MS - RECONNECT_EARLY_MIN_MS + 1);
  }
  b->ceiling_ms *= 2;
  if (b->ceiling_ms > RECONNECT_MAX_MS) b->ceiling_ms = RECONNECT_MAX_MS;
  return upper_half(b->ceiling_ms, random);
}

uint64_t backoff_redial_ms(uint64_t *ceiling_ms, uint32_t random) {
  *ceiling_ms = *ceiling_ms == 0 ? DATA_REDIAL_MIN_MS : *ceiling_ms * 2;
  if (*ceiling_ms > DATA_REDIAL_MAX_MS) *ceiling_ms = DATA_REDIAL_MAX_MS;
  return upper_half(*ceiling_ms, random);
}
