/* See the header. A port that was asked for and not announced is asked for again where the tunnel comes to. */
#include "relay/bound_move.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "wire/cidr.h"

enum { EXPORT_FIXED_BYTES = 256, CIDR_MAX_BYTES = 18 };
#define NEVER UINT64_MAX           /* in place of an age */

static uint64_t age_of(uint64_t at_ms, uint64_t now_ms) { return at_ms == 0 ? NEVER : now_ms - at_ms; }

static uint64_t time_ago(uint64_t age_ms, uint64_t now_ms) { return age_ms < now_ms ? now_ms - age_ms : 0; }

size_t bound_export_bytes(const struct bound *b) {
  const struct tunnel *t = b->tunnel;
  return EXPORT_FIXED_BYTES + t->alpn_n + (t->allow_n + t->deny_n) * CIDR_MAX_BYTES;
}

static bool is_awaited(const struct bound *b) { return !b->announced && b->port_is_new; }

static void export_counts(const struct tunnel *t, struct writer *w) {
  write_u64(w, __atomic_load_n(&t->streams_total, __ATOMIC_RELAXED));
  write_u8(w, NOTICES);
  for (int i = 0; i < NOTICES; i++) write_u32(w, __atomic_load_n(&t->refused[i], __ATOMIC_RELAXED));
}

void bound_export(const struct bound *b, struct writer *w) {
  const struct tunnel *t = b->tunnel;
  uint64_t now_ms = loop_now_ms(b->link->worker->loop);
  write_bytes(w, t->label, LABEL_CHARS);
  write_bytes(w, t->holder, sizeof t->holder);
  write_u32(w, t->bind_id);
  write_u32(w, t->flags);
  write_u32(w, t->incarnation);
  write_u64(w, t->serial);
  write_vec8(w, t->alpn, t->alpn_n);
  cidrs_write(w, t->admission, t->allow_n);
  cidrs_write(w, t->deny_n > 0 ? t->admission + t->allow_n : NULL, t->deny_n);
  write_u16(w, is_awaited(b) ? 0 : t->tcp_port);
  write_u64(w, age_of(t->opened_ms, now_ms));
  export_counts(t, w);
  write_u8(w, b->announced);
  write_u8(w, b->port_is_new);
  write_u8(w, (uint8_t)b->tries);
  write_u64(w, age_of(b->renewed_ms, now_ms));
  write_u64(w, age_of(b->told_ms, now_ms));
}

static void import_counts(struct tunnel *t, struct reader *r) {
  t->streams_total = read_u64(r);
  size_t n = read_u8(r);
  for (size_t i = 0; i < n && !r->bad; i++) {    /* of one that knows more kinds, or fewer */
    uint32_t count = read_u32(r);
    if (i < NOTICES) t->refused[i] = count;
  }
}

static int import_admission(struct tunnel *t, struct reader *r) {
  struct cidr allow[ALLOW_CIDRS_MAX], deny[ALLOW_CIDRS_MAX];
  size_t allow_n, deny_n;
  cidrs_read(r, allow, ALLOW_CIDRS_MAX, &allow_n);
  cidrs_read(r, deny, ALLOW_CIDRS_MAX, &deny_n);
  return r->bad ? ERR_SYNTAX : tunnel_set_admission(t, allow, allow_n, deny, deny_n);
}

static int import_tunnel(struct tunnel *t, uint64_t now_ms, const char *domain, struct reader *r) {
  read_copy(r, t->label, LABEL_CHARS);
  read_copy(r, t->holder, sizeof t->holder);
  t->bind_id = read_u32(r);
  t->flags = read_u32(r);
  t->incarnation = read_u32(r);
  t->serial = read_u64(r);
  struct reader alpn = read_vec8(r);
  t->alpn_n = alpn.left;
  read_copy(&alpn, t->alpn, t->alpn_n);
  int rc = import_admission(t, r);
  if (rc != 0) return rc;
  t->tcp_port = read_u16(r);
  t->opened_ms = time_ago(read_u64(r), now_ms);
  import_counts(t, r);
  int n = snprintf(t->host, sizeof t->host, "%s.%s", t->label, domain);
  if (r->bad || n < 0 || (size_t)n >= sizeof t->host || !label_is_valid(t->label)) return ERR_SYNTAX;
  if (alpn_check(t->alpn, t->alpn_n) != 0) return ERR_SYNTAX;
  return t->tcp_port != 0 && (t->flags & TUNNEL_TCP) == 0 ? ERR_SYNTAX : 0;
}

static int import_rest(struct bound *b, uint64_t now_ms, struct reader *r) {
  b->announced = read_flag(r);
  b->port_is_new = read_flag(r);
  b->tries = read_u8(r);
  b->renewed_ms = time_ago(read_u64(r), now_ms);
  b->told_ms = time_ago(read_u64(r), now_ms);
  bool tcp = (b->tunnel->flags & TUNNEL_TCP) != 0, has_port = b->tunnel->tcp_port != 0;
  if (r->bad || (!b->announced && !tcp)) return ERR_SYNTAX;      /* which takes no steps */
  return tcp && has_port == is_awaited(b) ? ERR_SYNTAX : 0;
}

int bound_import(struct link *l, struct reader *r, struct bound **out) {
  uint64_t now_ms = loop_now_ms(l->worker->loop);
  struct bound *b = calloc(1, sizeof *b);
  if (b == NULL) return ERR_NOMEM;
  list_init(&b->node);
  b->link = l;
  b->tunnel = bind_tunnel_new(l);
  int rc = b->tunnel != NULL ? import_tunnel(b->tunnel, now_ms, l->worker->relay->options->domain, r) : ERR_NOMEM;
  if (rc == 0) rc = import_rest(b, now_ms, r);
  if (rc == 0) *out = b;
  else bound_discard(b);
  return rc;
}

void bound_discard(struct bound *b) {
  tunnel_unref(b->link->worker->relay->registry, b->tunnel);
  free(b);
}
