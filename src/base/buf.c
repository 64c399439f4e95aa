/* The byte queue. Bytes are consumed at the front by moving `start`; room at the end is made by moving what is left to
   the front before the memory grows. Whenever memory is given back, the bytes in it are wiped: a queue may have held
   a secret. */
#include "base/buf.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/secret.h"

enum { BUF_FIRST_BYTES = 256 };

void buf_init(struct buf *b, size_t max) { *b = (struct buf){.max = max}; }

void buf_free(struct buf *b) {
  if (b->base != NULL) {
    wipe(b->base, b->cap);
    free(b->base);
  }
  buf_init(b, b->max);
}

static int make_room(struct buf *b, size_t n) {
  if (n > b->max - b->len) return ERR_LIMIT;
  if (n <= b->cap - b->start - b->len) return 0;
  if (n <= b->cap - b->len) {
    memmove(b->base, b->base + b->start, b->len);
    b->start = 0;
    return 0;
  }
  size_t cap = size_max(b->cap, BUF_FIRST_BYTES);
  while (cap < b->len + n) cap = cap > b->max / 2 ? b->max : cap * 2;
  cap = size_min(cap, b->max);
  uint8_t *base = malloc(cap);
  if (base == NULL) return ERR_NOMEM;
  if (b->base != NULL) {
    memcpy(base, b->base + b->start, b->len);
    wipe(b->base, b->cap);
    free(b->base);
  }
  b->base = base;
  b->cap = cap;
  b->start = 0;
  return 0;
}

int buf_append(struct buf *b, const void *p, size_t n) {
  if (n == 0) return 0;
  int r = make_room(b, n);
  if (r != 0) return r;
  memcpy(b->base + b->start + b->len, p, n);
  b->len += n;
  return 0;
}

uint8_t *buf_reserve(struct buf *b, size_t n) {
  if (make_room(b, size_max(n, 1)) != 0) return NULL;
  return b->base + b->start + b->len;
}

void buf_added(struct buf *b, size_t n) {
  ASSERT(n <= b->cap - b->start - b->len);
  b->len += n;
}

void buf_cut(struct buf *b, size_t n) {
  ASSERT(n <= b->len);
  if (n < b->len) wipe(buf_data(b) + n, b->len - n);
  b->len = n;
}

void buf_consume(struct buf *b, size_t n) {
  ASSERT(n <= b->len);
  b->start += n;
  b->len -= n;
  if (b->len == 0) b->start = 0;
}
