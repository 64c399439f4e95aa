/* How many bytes a second the streams of one owner may move together, whatever threads they are in. Nothing is refused:
   a stream that wants to read reserves bytes and learns from when on it may. Reservations stand in one row, so that
   every stream has its turn: one that always has something to read gets no more turns than any other, and which thread
   looks first does not matter.

   A value object; what it does not use comes back for RATE_BURST_MS and no longer. */
#ifndef PUMP_RATE_H
#define PUMP_RATE_H

#include "base/base.h"

struct rate {                                    /* all fields private */
  struct rate *outer;
  uint64_t bytes_per_s;
  uint64_t reserved;                             /* atomic: bytes from time 0 on, used or lost */
};

/* Not 0. Its bytes count for the outer one as well, which must live as long; NULL: none. */
struct rate rate_within(uint64_t bytes_per_s, struct rate *outer);
/* What is reserved at most at a time. The smaller, the sooner others have their turn. */
size_t rate_step_bytes(const struct rate *r);
/* Reserves n bytes, at most a step; they may be read at the time that is returned: now_ms or later. Times are
   loop_now_ms's. */
uint64_t rate_reserve(struct rate *r, uint64_t now_ms, size_t n);
void rate_give_back(struct rate *r, size_t n);   /* of what was reserved, what is not read */
/* How far its own row reaches beyond now, and that of another process that it goes on with. */
uint64_t rate_ahead_ms(const struct rate *r, uint64_t now_ms);
void rate_set_ahead(struct rate *r, uint64_t now_ms, uint64_t ahead_ms);

#endif
