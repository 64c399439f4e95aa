/* Retry delays. The hard thing: thousands of agents lose a restarted relay in the same instant, and must not come back in one. */
#include "agent/backoff.h"

void backoff_reset(struct backoff *b) {
  b->since_ms = 0;
  b->ceiling_ms = 0;
}

uint64_t backoff_next_ms(struct backoff *b, uint64_t now_ms, uint32_t random) {
  if (b->since_ms == 0) b->since_ms = now_ms == 0 ? 1 : now_ms;
  if (now_ms < b->since_ms + RECONNECT_EARLY_FOR_MS) {
    b->ceiling_ms = RECONNECT_EARLY_MAX_MS;
    return RECONNECT_EARLY_MIN_MS + random % (RECONNECT_EARLY_MAX_MS - RECONNECT_EARLY_MIN_MS + 1);
  }
  b->ceiling_ms *= 2;
  if (b->ceiling_ms > RECONNECT_MAX_MS) b->ceiling_ms = RECONNECT_MAX_MS;
  return b->ceiling_ms / 2 + random % (b->ceiling_ms / 2 + 1);
}
