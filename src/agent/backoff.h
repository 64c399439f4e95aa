/* When to try again. A link: 50 to 400 ms at random for the first seconds, then exponentially with jitter. Data
   connections, of which the link says that the relay is there: exponentially with jitter to a few seconds. */
#ifndef AGENT_BACKOFF_H
#define AGENT_BACKOFF_H

#include "base/limits.h"

#include <stdint.h>

struct backoff {
  uint64_t since_ms;               /* of the first failure in a row; 0: none */
  uint64_t ceiling_ms;
};
void backoff_reset(struct backoff *b);
/* The delay after a failure at now_ms; `random` is fresh for each call. */
uint64_t backoff_next_ms(struct backoff *b, uint64_t now_ms, uint32_t random);
/* *ceiling_ms is 0 before the first failure in a row. */
uint64_t backoff_redial_ms(uint64_t *ceiling_ms, uint32_t random);

#endif
