/* See the header. */
#include "relay/handover.h"

#include <string.h>

#include "base/err.h"
#include "base/limits.h"

static const uint32_t magic = 0x61647570;        /* "adup" */

void handover_hello_encode(struct writer *w, const struct handover_hello *h) {
  write_u32(w, magic);
  write_u16(w, h->formats.from);
  write_u16(w, h->formats.to);
  write_u32(w, h->pid);
  write_text8(w, h->build);
}

/* What a later version says besides is skipped: of all words this one must be understood by all. */
int handover_hello_decode(struct reader r, struct handover_hello *h) {
  bool known = read_u32(&r) == magic;
  h->formats.from = read_u16(&r);
  h->formats.to = read_u16(&r);
  h->pid = read_u32(&r);
  read_text8(&r, h->build, sizeof h->build);
  return known && !r.bad && h->formats.from <= h->formats.to ? 0 : ERR_SYNTAX;
}

uint16_t handover_format(const struct handover_hello *h) {
  struct formats ours = formats_known(), theirs = h->formats;
  uint16_t newest = ours.to < theirs.to ? ours.to : theirs.to;
  return newest >= ours.from && newest >= theirs.from ? newest : 0;
}

void handover_welcome_encode(struct writer *w, const struct handover_welcome *h) {
  write_u16(w, h->format);
  write_u64(w, h->instance);
  write_u64(w, h->started_ms);
}

int handover_welcome_decode(struct reader r, struct handover_welcome *h) {
  h->format = read_u16(&r);
  h->instance = read_u64(&r);
  h->started_ms = read_u64(&r);
  struct formats ours = formats_known();
  bool known = h->format >= ours.from && h->format <= ours.to;
  return known && reader_done(&r) ? 0 : ERR_SYNTAX;
}

void handover_commit_encode(struct writer *w, const struct handover_commit *c) { write_u64(w, c->serial); }

int handover_commit_decode(struct reader r, struct handover_commit *c) {
  c->serial = read_u64(&r);
  return reader_done(&r) ? 0 : ERR_SYNTAX;
}

void handover_taken_encode(struct writer *w, const struct handover_taken *t) {
  write_u16(w, t->kind);
  write_u8(w, t->lost);
}

int handover_taken_decode(struct reader r, struct handover_taken *t) {
  t->kind = read_u16(&r);
  t->lost = read_flag(&r);
  return reader_done(&r) ? 0 : ERR_SYNTAX;
}

/* family(1), and then its path or address, each a vec8 */
enum { LISTENER_NOWHERE, LISTENER_INTERNET, LISTENER_PATH };

void handover_listener_encode(struct writer *w, const struct handover_listener *l) {
  write_u8(w, (uint8_t)l->role);
  if (l->at.u.any.sa_family == AF_UNSPEC) {
    write_u8(w, LISTENER_NOWHERE);
  } else if (addr_is_unix(&l->at)) {
    write_u8(w, LISTENER_PATH);
    write_vec8(w, l->at.u.un.sun_path, UNIX_PATH_MAX_BYTES);
  } else {
    write_u8(w, LISTENER_INTERNET);
    addr_write(w, &l->at);
  }
}

static int decode_at(struct reader *r, struct addr *at) {
  uint8_t family = read_u8(r);
  memset(at, 0, sizeof *at);
  if (family == LISTENER_NOWHERE) return 0;
  if (family == LISTENER_INTERNET) return addr_read(r, at);
  struct reader v = read_vec8(r);
  if (r->bad) return ERR_SYNTAX;
  if (family != LISTENER_PATH || v.left != UNIX_PATH_MAX_BYTES) return ERR_SYNTAX;
  at->u.un.sun_family = AF_UNIX;
  memcpy(at->u.un.sun_path, v.at, v.left);
  return 0;
}

int handover_listener_decode(struct reader r, struct handover_listener *l) {
  unsigned role = read_u8(&r);
  int rc = decode_at(&r, &l->at);
  if (rc != 0 || !reader_done(&r) || role == 0 || role >= ROLES) return ERR_SYNTAX;
  l->role = (enum handover_role)role;
  return 0;
}
