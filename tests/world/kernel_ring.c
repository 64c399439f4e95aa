#include "kernel_ring.h"

#include <string.h>

#include "base/base.h"

enum { RING_FIRST_BYTES = 1024 };

/* What is at a position without a break, at most n bytes. */
static struct iovec ring_span(const struct ring *r, uint64_t at, size_t n) {
  size_t place = (size_t)at & (r->size - 1);
  return (struct iovec){.iov_base = r->bytes + place, .iov_len = size_min(n, r->size - place)};
}

static void ring_put(struct ring *r, const uint8_t *p, size_t n) {
  while (n > 0) {
    struct iovec span = ring_span(r, r->to, n);
    memcpy(span.iov_base, p, span.iov_len);
    p += span.iov_len;
    n -= span.iov_len;
    r->to += span.iov_len;
  }
}

static void ring_fit(struct ring *r, size_t n) {
  size_t held = (size_t)(r->to - r->from), size = size_max(r->size, RING_FIRST_BYTES);
  while (size < held + n) size *= 2;
  if (size == r->size) return;
  struct ring grown = {.bytes = world_alloc(size), .size = size, .from = r->from, .to = r->from};
  while (grown.to < r->to) {
    struct iovec span = ring_span(r, grown.to, (size_t)(r->to - grown.to));
    ring_put(&grown, span.iov_base, span.iov_len);
  }
  world_free(r->bytes);
  *r = grown;
}

void ring_write(struct ring *r, const struct iovec *iov, int iov_n, size_t skip, size_t n) {
  if (n == 0) return;
  ring_fit(r, n);
  for (int i = 0; i < iov_n && n > 0; i++) {
    size_t passed = size_min(skip, iov[i].iov_len), some = size_min(n, iov[i].iov_len - passed);
    if (some > 0) ring_put(r, (const uint8_t *)iov[i].iov_base + passed, some);
    skip -= passed;
    n -= some;
  }
  ASSERT(n == 0);
}

void ring_peek(const struct ring *r, const struct iovec *iov, int iov_n, size_t n) {
  uint64_t at = r->from;
  ASSERT(n <= r->to - r->from);
  for (int i = 0; i < iov_n && n > 0; i++) {
    uint8_t *to = iov[i].iov_base;
    for (size_t left = size_min(n, iov[i].iov_len); left > 0;) {
      struct iovec span = ring_span(r, at, left);
      memcpy(to, span.iov_base, span.iov_len);
      to += span.iov_len;
      at += span.iov_len;
      left -= span.iov_len;
      n -= span.iov_len;
    }
  }
}

void ring_drop(struct ring *r, size_t n) {
  ASSERT(n <= r->to - r->from);
  r->from += n;
}

void ring_cut(struct ring *r, uint64_t to) {
  ASSERT(to >= r->from && to <= r->to);
  r->to = to;
}

void ring_move(struct ring *from, struct ring *to, size_t n) {
  ASSERT(n <= from->to - from->from);
  ring_fit(to, n);
  while (n > 0) {
    struct iovec span = ring_span(from, from->from, n);
    ring_put(to, span.iov_base, span.iov_len);
    from->from += span.iov_len;
    n -= span.iov_len;
  }
}

void ring_free(struct ring *r) {
  world_free(r->bytes);
  *r = (struct ring){0};
}
