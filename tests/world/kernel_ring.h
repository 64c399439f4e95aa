/* Bytes in a ring that grows to what is needed, by positions that only grow: what is at a position stays there until it
   was read. */
#ifndef WORLD_KERNEL_RING_H
#define WORLD_KERNEL_RING_H

#include <sys/uio.h>

#include "world.h"

struct ring {                      /* zero-initialised: empty */
  uint8_t *bytes;
  size_t size;                     /* a power of 2, or 0 */
  uint64_t from, to;               /* positions: what is held */
};

/* n bytes of iov, from its byte `skip` on; all of them are taken. */
void ring_write(struct ring *r, const struct iovec *iov, int iov_n, size_t skip, size_t n);
/* Copies n bytes that are held, from r->from on; they stay. */
void ring_peek(const struct ring *r, const struct iovec *iov, int iov_n, size_t n);
void ring_drop(struct ring *r, size_t n);            /* the first n */
void ring_cut(struct ring *r, uint64_t to);          /* the last ones, from there on */
/* Moves the first n to the end of another. */
void ring_move(struct ring *from, struct ring *to, size_t n);
void ring_free(struct ring *r);

#endif
