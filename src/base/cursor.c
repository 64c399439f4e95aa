/* The bounded cursor. Failure is sticky: after a read past the end every further read yields zeros, so that a parser
   may read a whole message and look at `bad` once. */
#include "base/cursor.h"

#include <string.h>

struct reader reader_of(const void *bytes, size_t n) { return (struct reader){.at = bytes, .left = n}; }

const uint8_t *read_bytes(struct reader *r, size_t n) {
  static const uint8_t nothing[1];
  if (r->bad || n > r->left) {
    r->bad = true;
    r->left = 0;
    return NULL;
  }
  if (r->at == NULL) return nothing; /* an empty input read for zero bytes is no failure */
  const uint8_t *p = r->at;
  r->at += n;
  r->left -= n;
  return p;
}

static uint64_t read_number(struct reader *r, size_t bytes) {
  const uint8_t *p = read_bytes(r, bytes);
  if (p == NULL) return 0;
  uint64_t v = 0;
  for (size_t i = 0; i < bytes; i++) v = v << 8 | p[i];
  return v;
}

uint8_t read_u8(struct reader *r) { return (uint8_t)read_number(r, 1); }
uint16_t read_u16(struct reader *r) { return (uint16_t)read_number(r, 2); }
uint32_t read_u24(struct reader *r) { return (uint32_t)read_number(r, 3); }
uint32_t read_u32(struct reader *r) { return (uint32_t)read_number(r, 4); }
uint64_t read_u64(struct reader *r) { return read_number(r, 8); }

bool read_flag(struct reader *r) {
  uint8_t v = read_u8(r);
  if (v > 1) r->bad = true;
  return v == 1;
}

void read_copy(struct reader *r, void *to, size_t n) {
  const uint8_t *p = read_bytes(r, n);
  if (n == 0) return;
  if (p != NULL) memcpy(to, p, n);
  else memset(to, 0, n);
}

static struct reader read_vec(struct reader *r, size_t size) {
  size_t n = (size_t)read_number(r, size);
  const uint8_t *p = read_bytes(r, n);
  if (p == NULL) return (struct reader){.bad = true};
  return reader_of(p, n);
}

struct reader read_vec8(struct reader *r) { return read_vec(r, 1); }
struct reader read_vec16(struct reader *r) { return read_vec(r, 2); }
struct reader read_vec24(struct reader *r) { return read_vec(r, 3); }

void read_text8(struct reader *r, char *to, size_t cap) {
  struct reader v = read_vec8(r);
  ASSERT(cap > 0);
  to[0] = 0;
  if (v.bad) return;
  if (v.left >= cap || memchr(v.at, 0, v.left) != NULL) {
    r->bad = true;
    r->left = 0;
    return;
  }
  memcpy(to, v.at, v.left);
  to[v.left] = 0;
}

bool reader_done(const struct reader *r) { return !r->bad && r->left == 0; }

struct writer writer_of(void *to, size_t cap) { return (struct writer){.base = to, .cap = cap}; }

uint8_t *write_skip(struct writer *w, size_t n) {
  if (w->bad || n > w->cap - w->len) {
    w->bad = true;
    return NULL;
  }
  uint8_t *p = w->base + w->len;
  w->len += n;
  return p;
}

static void put_number(uint8_t *p, uint64_t v, size_t bytes) {
  for (size_t i = bytes; i > 0; i--, v >>= 8) p[i - 1] = (uint8_t)v;
}

static void write_number(struct writer *w, uint64_t v, size_t bytes) {
  uint8_t *p = write_skip(w, bytes);
  if (p != NULL) put_number(p, v, bytes);
}

void write_u8(struct writer *w, uint8_t v) { write_number(w, v, 1); }
void write_u16(struct writer *w, uint16_t v) { write_number(w, v, 2); }
void write_u32(struct writer *w, uint32_t v) { write_number(w, v, 4); }
void write_u64(struct writer *w, uint64_t v) { write_number(w, v, 8); }

void write_bytes(struct writer *w, const void *p, size_t n) {
  uint8_t *to = write_skip(w, n);
  if (to != NULL && n > 0) memcpy(to, p, n);
}

static void write_vec(struct writer *w, const void *p, size_t n, int size) {
  size_t mark = write_open_vec(w, size);
  write_bytes(w, p, n);
  write_close_vec(w, mark, size);
}

void write_vec8(struct writer *w, const void *p, size_t n) { write_vec(w, p, n, 1); }
void write_vec16(struct writer *w, const void *p, size_t n) { write_vec(w, p, n, 2); }
void write_vec24(struct writer *w, const void *p, size_t n) { write_vec(w, p, n, 3); }
void write_text8(struct writer *w, const char *text) { write_vec(w, text, strlen(text), 1); }

size_t write_open_vec(struct writer *w, int size) {
  ASSERT(size >= 1 && size <= 3);
  size_t mark = w->len;
  write_number(w, 0, (size_t)size);
  return mark;
}

void write_close_vec(struct writer *w, size_t mark, int size) {
  if (w->bad) return;
  ASSERT(mark + (size_t)size <= w->len);
  size_t n = w->len - mark - (size_t)size;
  if (n >> (8 * size) != 0) {
    w->bad = true;
    return;
  }
  put_number(w->base + mark, n, (size_t)size);
}
