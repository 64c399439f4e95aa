/* A tunnel as bytes, and back: what the new program cannot know from its arguments. Times go as what has passed or is
   left. */
#include <string.h>

#include "agent/tunnel.h"
#include "base/cursor.h"

enum { EXPORT_VERSION = 1 };
static const uint64_t AHEAD_MAX_MS = UINT64_MAX / 4;     /* behind which a clock would be at its end */

static uint64_t left_of(const struct adit_tunnel *t, const struct loop_timer *timer) {
  uint64_t now_ms = loop_now_ms(t->client->loop);
  return loop_timer_is_set(timer) && timer->at_ms > now_ms ? timer->at_ms - now_ms : 0;
}

static void export_address(const struct tunnel_address *a, struct writer *w) {
  write_u8(w, a != NULL);
  if (a == NULL) return;
  write_text8(w, a->host);
  write_u16(w, a->port);
  write_text8(w, a->tcp_host);
  write_u16(w, a->tcp_port);
}

static void export_keep(const struct keep *k, uint64_t now_ms, struct writer *w) {
  write_vec16(w, k->ticket, k->ticket_n);
  write_u32(w, k->incarnation);
  write_text8(w, k->relay);
  write_u64(w, now_ms - k->written_ms);
  write_u8(w, k->set_aside);
}

static void export_counts(const struct adit_tunnel *t, struct writer *w) {
  write_u64(w, atomic_load_explicit(&t->streams.total, memory_order_relaxed));
  write_u64(w, __atomic_load_n(&t->streams.to_app.bytes, __ATOMIC_RELAXED));
  write_u64(w, __atomic_load_n(&t->streams.from_app.bytes, __ATOMIC_RELAXED));
  write_u64(w, atomic_load_explicit(&t->app_failures, memory_order_relaxed));
}

void tunnel_export(const struct adit_tunnel *t, struct writer *w) {
  uint64_t now_ms = loop_now_ms(t->client->loop);
  write_u8(w, EXPORT_VERSION);
  write_u32(w, t->id);
  write_u8(w, (uint8_t)t->state);
  write_u8(w, (uint8_t)t->shown);
  write_u8(w, t->told);
  write_u8(w, t->sealed_instead);
  write_u16(w, (uint16_t)t->addresses_n);
  export_address(atomic_load(&t->address), w);
  export_keep(&t->keep, now_ms, w);
  write_u64(w, t->ticket_refused_ms == 0 ? UINT64_MAX : now_ms - t->ticket_refused_ms);
  write_u8(w, loop_timer_is_set(&t->retry));
  write_u64(w, left_of(t, &t->retry));
  write_u8(w, loop_timer_is_set(&t->opening));
  write_u64(w, left_of(t, &t->opening));
  write_u8(w, t->app.reached);
  write_u8(w, t->app.awaited);
  export_counts(t, w);
  write_u32(w, (uint32_t)t->end.code);
  write_vec16(w, t->end.text, strlen(t->end.text));
}

static uint64_t time_ago(const struct adit_tunnel *t, uint64_t age_ms) {
  uint64_t now_ms = loop_now_ms(t->client->loop);
  return age_ms < now_ms ? now_ms - age_ms : 0;
}

static int import_address(struct adit_tunnel *t, struct reader *r) {
  struct frame_bound f = {0};
  if (!read_flag(r)) return r->bad ? ERR_SYNTAX : 0;
  read_text8(r, f.host, sizeof f.host);
  f.port = read_u16(r);
  read_text8(r, f.tcp_host, sizeof f.tcp_host);
  f.tcp_port = read_u16(r);
  if (r->bad || f.host[0] == '\0') return ERR_SYNTAX;
  struct tunnel_address *a = tunnel_address_new(&f);
  if (a == NULL) return ERR_NOMEM;
  a->older = atomic_load(&t->address);
  atomic_store(&t->address, a);
  return 0;
}

static void import_keep(struct adit_tunnel *t, struct reader *r) {
  struct keep *k = &t->keep;
  struct reader ticket = read_vec16(r);
  if (ticket.left > 0 && !keep_set(k, ticket.at, ticket.left)) r->bad = true;
  k->incarnation = read_u32(r);
  read_text8(r, k->relay, sizeof k->relay);
  k->written_ms = time_ago(t, read_u64(r));
  k->set_aside = read_flag(r);
}

static int import_timers(struct adit_tunnel *t, struct reader *r) {
  t->ticket_refused_ms = time_ago(t, read_u64(r));
  bool retries = read_flag(r);
  uint64_t retry_ms = read_u64(r);
  bool opens = read_flag(r);
  uint64_t opening_ms = read_u64(r);
  if (r->bad || retry_ms > AHEAD_MAX_MS || opening_ms > AHEAD_MAX_MS) return ERR_SYNTAX;
  int rc = retries ? tunnel_retry_in(t, retry_ms) : 0;
  if (!opens) loop_timer_stop(&t->opening);
  else if (rc == 0) rc = tunnel_open_within(t, opening_ms);
  return rc;
}

static void import_counts(struct adit_tunnel *t, struct reader *r) {
  atomic_store_explicit(&t->streams.total, read_u64(r), memory_order_relaxed);
  __atomic_store_n(&t->streams.to_app.bytes, read_u64(r), __ATOMIC_RELAXED);
  __atomic_store_n(&t->streams.from_app.bytes, read_u64(r), __ATOMIC_RELAXED);
  atomic_store_explicit(&t->app_failures, read_u64(r), memory_order_relaxed);
}

/* Under the client's lock: what the host's threads look at. */
static void import_shown(struct adit_tunnel *t, enum tunnel_shown shown, struct reader *r) {
  pthread_mutex_lock(&t->client->lock);
  t->shown = shown;
  t->end.code = (int)read_u32(r);
  struct reader text = read_vec16(r);
  if (text.left >= sizeof t->end.text) r->bad = true;
  else read_copy(&text, t->end.text, text.left);
  if (t->shown == SHOWN_ENDED) t->end_reason = "ended";
  pthread_cond_broadcast(&t->client->changed);
  pthread_mutex_unlock(&t->client->lock);
}

static bool is_sound(const struct adit_tunnel *t, unsigned state, unsigned shown) {
  bool has_address = atomic_load(&t->address) != NULL;
  if (state > TUNNEL_ENDED || shown > SHOWN_ENDED || t->addresses_n > TUNNEL_ADDRESSES_MAX) return false;
  if ((state == TUNNEL_ENDED) != (shown == SHOWN_ENDED)) return false;
  if ((state == TUNNEL_OPEN || shown == SHOWN_OPEN) && !has_address) return false;
  return (state != TUNNEL_OPEN && state != TUNNEL_BINDING) || t->id != 0;
}

int tunnel_import(struct adit_tunnel *t, struct reader *r) {
  if (read_u8(r) != EXPORT_VERSION) return ERR_SYNTAX;
  t->id = read_u32(r);
  unsigned state = read_u8(r), shown = read_u8(r);
  t->told = read_flag(r);
  t->sealed_instead = read_flag(r);
  t->addresses_n = read_u16(r);
  int rc = import_address(t, r);
  if (rc != 0) return rc;
  if (!is_sound(t, state, shown)) return ERR_SYNTAX;
  t->state = (enum tunnel_state)state;
  import_keep(t, r);
  rc = import_timers(t, r);
  if (rc != 0) return rc;
  t->app.reached = read_flag(r);
  t->app.awaited = read_flag(r);
  import_counts(t, r);
  import_shown(t, (enum tunnel_shown)shown, r);
  return reader_done(r) ? 0 : ERR_SYNTAX;
}
