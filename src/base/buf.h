/* A growable byte queue that takes its maximum when it is made. Contents are wiped when freed. */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include "base/base.h"

struct buf {
  uint8_t *base;
  size_t start, len, cap, max;
};

void buf_init(struct buf *b, size_t max);                      /* allocates nothing yet */
void buf_free(struct buf *b);                                  /* wipes; the buf may be used again */
int buf_append(struct buf *b, const void *p, size_t n) MUST_USE; /* ERR_LIMIT, ERR_NOMEM: nothing was appended */
/* room for n more bytes at the end, or NULL; then buf_added */
uint8_t *buf_reserve(struct buf *b, size_t n) MUST_USE;
void buf_added(struct buf *b, size_t n);
/* NULL when nothing was ever put in: C has no NULL + 0. */
static inline uint8_t *buf_data(const struct buf *b) { return b->base == NULL ? NULL : b->base + b->start; }
void buf_consume(struct buf *b, size_t n);
void buf_cut(struct buf *b, size_t n);                         /* all but the first n bytes go, wiped */

#endif
