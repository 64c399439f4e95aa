/* The keys of tickets, here or in the key process. Thread-safe. */
#ifndef RELAY_TICKETS_H
#define RELAY_TICKETS_H

#include "relay/context.h"

/* The keeper's: reads the keys, and rotates them when that is due. */
int tickets_refresh(struct relay *r, int64_t now_s, struct err *e) MUST_USE;
int tickets_make(struct relay *r, const struct ticket *t, uint8_t out[TICKET_MAX_BYTES], size_t *n) MUST_USE;
int tickets_read(struct relay *r, const uint8_t *p, size_t n, struct ticket *out) MUST_USE;

#endif
