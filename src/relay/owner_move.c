/* See the header. Whoever reads the bytes trusts them no more than a stranger's, but for what they say: signatures were
   looked at where the owner came in. */
#include "relay/owner_move.h"

#include <string.h>

#include "wire/cidr.h"

static const uint64_t AHEAD_MAX_US = 3600 * 1000000ULL;  /* nobody has used up so much */

/* His part of the name, without his parents'. */
static const char *own_name(const struct owner *o) {
  const char *own = o->name + (o->parent != NULL ? strlen(o->parent->name) : 0);
  return o->parent != NULL && own[0] == '/' ? own + 1 : own;
}

struct ahead {                     /* of the clock, by what is used up */
  uint64_t visitors_us, bytes_ms;
};

static struct ahead ahead_of(const struct owner *o, uint64_t now_ms) {
  uint64_t until_us = __atomic_load_n(&o->account.visitors_until_us, __ATOMIC_RELAXED), now_us = now_ms * 1000;
  uint64_t bytes_ms = o->own_rate.bytes_per_s == 0 ? 0 : rate_ahead_ms(&o->own_rate, now_ms);
  return (struct ahead){.visitors_us = until_us > now_us ? size_min(until_us - now_us, AHEAD_MAX_US) : 0,
                        .bytes_ms = size_min(bytes_ms, AHEAD_MAX_US / 1000)};
}

/* Whoever is further ahead here stays so: he has been served here meanwhile. */
static void set_ahead(struct owner *o, uint64_t now_ms, const struct ahead *a) {
  uint64_t until_us = now_ms * 1000 + a->visitors_us;
  uint64_t was = __atomic_load_n(&o->account.visitors_until_us, __ATOMIC_RELAXED);
  while (was < until_us && !__atomic_compare_exchange_n(&o->account.visitors_until_us, &was, until_us, true,
                                                        __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
  if (o->own_rate.bytes_per_s != 0) rate_set_ahead(&o->own_rate, now_ms, a->bytes_ms);
}

static void export_step(const struct owner *o, uint64_t now_ms, struct writer *w) {
  const struct token_limits *limits = &o->account.limits;
  struct ahead ahead = ahead_of(o, now_ms);
  if (o->parent != NULL) export_step(o->parent, now_ms, w);
  write_bytes(w, o->id, sizeof o->id);
  write_text8(w, own_name(o));
  write_u32(w, o->max_tunnels);
  write_u64(w, (uint64_t)o->expires_s);
  write_u8(w, o->no_raw);
  cidrs_write(w, o->allow, o->allow_n);
  write_u32(w, limits->max_streams);
  write_u32(w, limits->max_visitors_per_s);
  write_u64(w, limits->max_bytes_per_s);
  write_u64(w, ahead.visitors_us);
  write_u64(w, ahead.bytes_ms);
}

static size_t steps_of(const struct owner *o) { return o == NULL ? 0 : 1 + steps_of(o->parent); }

void owner_export(const struct owner *o, uint64_t now_ms, struct writer *w) {
  write_u8(w, (uint8_t)steps_of(o));
  export_step(o, now_ms, w);
}

static void import_step(struct reader *r, struct certificate *c, struct ahead *ahead) {
  *c = (struct certificate){.max_tunnels = 0};
  read_copy(r, c->id, sizeof c->id);
  read_text8(r, c->name, sizeof c->name);
  c->max_tunnels = read_u32(r);
  c->expires_s = (int64_t)read_u64(r);
  c->no_raw = read_flag(r);
  cidrs_read(r, c->allow, TOKEN_ALLOW_MAX, &c->allow_n);
  c->limits.max_streams = read_u32(r);
  c->limits.max_visitors_per_s = read_u32(r);
  c->limits.max_bytes_per_s = read_u64(r);
  ahead->visitors_us = read_u64(r);
  ahead->bytes_ms = read_u64(r);
  if (ahead->visitors_us > AHEAD_MAX_US || ahead->bytes_ms > AHEAD_MAX_US / 1000) r->bad = true;
}

int owner_import(struct registry *g, uint64_t now_ms, struct reader *r, struct owner **out) {
  struct certificate chain[CHAIN_MAX];
  struct ahead ahead[CHAIN_MAX];
  size_t n = read_u8(r);
  if (n == 0 || n > CHAIN_MAX) return ERR_SYNTAX;
  for (size_t i = 0; i < n; i++) import_step(r, &chain[i], &ahead[i]);
  if (r->bad) return ERR_SYNTAX;
  int rc = registry_owner_moved(g, chain, n, out);
  if (rc != 0) return rc;
  struct owner *o = *out;
  for (size_t i = n; i-- > 0 && o != NULL; o = o->parent) set_ahead(o, now_ms, &ahead[i]);
  return 0;
}
