/* Address blocks on the wire. */
#include "wire/cidr.h"

enum { CIDR_V4_BITS = 32, CIDR_V6_BITS = 128 };

static void cidr_write(struct writer *w, const struct cidr *c) {
  write_u8(w, c->family);
  write_u8(w, c->bits);
  write_bytes(w, c->bytes, c->family == 4 ? 4 : 16);
}

static void cidr_read(struct reader *r, struct cidr *c) {
  *c = (struct cidr){.family = read_u8(r), .bits = 0};
  c->bits = read_u8(r);
  bool v4 = c->family == 4;
  if ((!v4 && c->family != 6) || c->bits > (v4 ? CIDR_V4_BITS : CIDR_V6_BITS)) {
    r->bad = true;
    return;
  }
  read_copy(r, c->bytes, v4 ? 4 : 16);
}

void cidrs_write(struct writer *w, const struct cidr *list, size_t n) {
  write_u8(w, (uint8_t)n);
  for (size_t i = 0; i < n; i++) cidr_write(w, &list[i]);
}

void cidrs_read(struct reader *r, struct cidr *list, size_t max, size_t *n) {
  size_t most = read_u8(r);
  if (most > max) r->bad = true;
  for (*n = 0; *n < most && !r->bad; (*n)++) cidr_read(r, &list[*n]);
}
