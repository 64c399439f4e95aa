/* A pump as bytes, and back. The hard thing is what lies between two turns: a record half read, half written, or owed;
   a prefix not yet whole; a turn waited for; a stream that stops or breaks. All of it goes along; only pipes stay, and
   their bytes go as those of a buffer. Times go as what has passed or is left of them, since another process may have
   another clock. Whoever reads the bytes trusts them no more than a visitor's. */
#include <string.h>

#include "base/cursor.h"
#include "pump/flow.h"

enum {
  EXPORT_MAGIC = 0x61647031,                     /* "adp1" */
  EXPORT_VERSION = 1,
  EXPORT_FIXED_BYTES = 512 + SEALED_EXPORT_MAX_BYTES,    /* all but what is held, and wraps */
  HELD_MAX_BYTES = STREAM_BUFFER_BYTES + BUFFER_OWED_MAX
};
static const uint64_t WAIT_MAX_MS = UINT64_MAX / 4;      /* behind which a clock would be at its end */

/* To bytes */

static size_t flow_held(const struct flow *f) { return f->buffer == NULL ? 0 : buffer_held(f->buffer); }

static size_t pump_export_bytes(const struct pump *p) {
  return EXPORT_FIXED_BYTES + wrap_export_bytes(p->wire.at.outer) + flow_held(&p->to_peer) + flow_held(&p->to_wire);
}

static void export_side(const struct side *s, struct writer *w) {
  write_u8(w, s->at_end);
  write_u8(w, s->reset);
  write_u8(w, s->hung_up);
  write_u8(w, s->wrote);
}

/* What is to be written, and what was read and not yet understood. */
static void export_held(const struct buffer *b, struct writer *w) {
  size_t mark = write_open_vec(w, 3);
  for (unsigned i = b == NULL ? 0 : b->segment_at; b != NULL && i < b->segments; i++)
    write_bytes(w, b->segment[i].iov_base, b->segment[i].iov_len);
  write_close_vec(w, mark, 3);
  if (b == NULL) write_vec24(w, NULL, 0);
  else write_vec24(w, b->bytes + b->start, b->end - b->start);
}

static uint64_t left_of(const struct pump *p, uint64_t at_ms) {
  uint64_t now = loop_now_ms(p->pool->loop);
  return at_ms > now ? at_ms - now : 0;
}

static uint64_t age_of(const struct pump *p, uint64_t at_ms) { return loop_now_ms(p->pool->loop) - at_ms; }

static void export_flow(const struct flow *f, struct writer *w) {
  write_u8(w, (uint8_t)f->state);
  write_u8(w, (uint8_t)f->verdict);
  write_u8(w, f->more);
  write_u8(w, f->source_done);
  write_u64(w, f->last_left);
  write_u64(w, f->uncounted);
  write_u64(w, f->plain_held);
  write_u64(w, f->bytes);
  write_u64(w, age_of(f->pump, f->progress_ms));
  write_u8(w, f->wants_read);
  write_u8(w, f->wants_write);
  write_u8(w, f->throttled);
  write_u32(w, (uint32_t)f->granted);
  write_u64(w, left_of(f->pump, f->granted_at_ms));
  write_u64(w, age_of(f->pump, f->idle_per_s.since_ms));
  write_u32(w, f->idle_per_s.idle);
  write_u32(w, f->idle_per_s.data);
  export_held(f->buffer, w);
}

static void export_pump(const struct pump *p, struct writer *w) {
  write_u8(w, (uint8_t)p->phase);
  write_u8(w, (uint8_t)p->why);
  write_u8(w, p->grants_grace);
  write_u64(w, left_of(p, p->give_up_ms));
  write_u64(w, left_of(p, p->accept_by_ms));
  write_u8(w, loop_timer_is_set(&p->timer));
  write_u64(w, left_of(p, p->timer_at_ms));
  write_u8(w, (uint8_t)p->prefix_want);
  write_vec8(w, p->prefix, p->prefix_want > 0 ? p->prefix_have : 0);
  export_side(&p->wire, w);
  export_side(&p->peer, w);
  export_flow(&p->to_peer, w);
  export_flow(&p->to_wire, w);
}

/* Once its keys are bytes, the pump has none. */
static void export_layers(struct pump *p, struct writer *w) {
  write_u8(w, p->sealed != NULL);
  if (p->sealed != NULL) sealed_export(p->sealed, w);
  wrap_export(p->wire.at.outer, w);
  p->sealed = NULL;
  p->wire.at.outer = NULL;
}

int pump_export(struct pump *p, struct buf *state, int *wire_fd, int *peer_fd) {
  CHECK_MAGIC(p, PUMP_MAGIC);
  if (p->phase == PUMP_OVER) return ERR_CLOSED;
  if (!flow_gather(&p->to_peer) || !flow_gather(&p->to_wire)) return ERR_NOMEM;
  size_t n = pump_export_bytes(p);
  uint8_t *at = n <= state->max - state->len ? buf_reserve(state, n) : NULL;
  if (at == NULL) return n <= state->max - state->len ? ERR_NOMEM : ERR_LIMIT;
  struct writer w = writer_of(at, n);
  write_u32(&w, EXPORT_MAGIC);
  write_u8(&w, EXPORT_VERSION);
  write_u8(&w, p->visitor == &p->peer);
  export_layers(p, &w);
  export_pump(p, &w);
  ASSERT(!w.bad);
  buf_added(state, w.len);
  *wire_fd = p->wire.at.fd;
  *peer_fd = p->peer.at.fd;
  p->to_peer.granted = p->to_wire.granted = 0;   /* goes along */
  pump_let_go(p);
  return 0;
}

/* From bytes */

static void import_side(struct side *s, struct reader *r) {
  s->at_end = read_flag(r);
  s->reset = read_flag(r);
  s->hung_up = read_flag(r);
  s->wrote = read_flag(r);
}

static bool flow_is_sound(const struct flow *f, size_t out, size_t in) {
  bool opens = f->kind == &flow_kind_unseal, seals = f->kind == &flow_kind_seal;
  bool ends = f->verdict == FLOW_CLEAN_END || f->verdict == FLOW_VIOLATION || f->verdict == FLOW_ALERTED;
  if (f->state > FLOW_STOPPED || out > HELD_MAX_BYTES || in > STREAM_BUFFER_BYTES) return false;
  if (flow_is_at_rest(f) && out + in > 0) return false;
  if (!opens && (in > 0 || f->more || ends)) return false;
  if (!f->more && in >= STREAM_BUFFER_SMALL_BYTES) return false;  /* no longer the beginning of one record */
  if (f->verdict != FLOW_MOVED && !ends) return false;
  if (f->granted > RATE_STEP_MAX_BYTES || f->uncounted > out) return false;
  return f->plain_held <= (seals && out > 0 ? HELD_MAX_BYTES : 0);
}

static int import_held(struct flow *f, struct reader out, struct reader in) {
  if (out.left + in.left == 0) return 0;
  struct buffer *b = pool_buffer_take_fitting(f->pump->pool, out.left + in.left);
  if (b == NULL) return ERR_NOMEM;
  f->buffer = b;
  b->start = out.left;
  b->end = b->used = out.left + in.left;
  if (in.left > 0) memcpy(b->bytes + b->start, in.at, in.left);
  if (out.left == 0) return 0;
  memcpy(b->bytes, out.at, out.left);
  buffer_segment_push(b, b->bytes, out.left);
  return 0;
}

static uint64_t time_ago(const struct pump *p, uint64_t age_ms) {
  uint64_t now = loop_now_ms(p->pool->loop);
  return age_ms < now ? now - age_ms : 0;
}

/* What it waits for, whose turn it is, and who has sent how much. */
static void import_waits(struct flow *f, struct reader *r) {
  f->wants_read = read_flag(r);
  f->wants_write = read_flag(r);
  f->throttled = read_flag(r);
  f->granted = read_u32(r);
  uint64_t wait_ms = read_u64(r);
  f->idle_per_s.since_ms = time_ago(f->pump, read_u64(r));
  f->idle_per_s.idle = read_u32(r);
  f->idle_per_s.data = read_u32(r);
  if (wait_ms > WAIT_MAX_MS) r->bad = true;
  f->granted_at_ms = loop_now_ms(f->pump->pool->loop) + wait_ms;
}

static int import_flow(struct flow *f, struct reader *r) {
  f->state = (enum flow_state)read_u8(r);
  f->verdict = (enum flow_result)read_u8(r);
  f->more = read_flag(r);
  f->source_done = read_flag(r);
  f->last_left = read_u64(r);
  f->uncounted = read_u64(r);
  f->plain_held = read_u64(r);
  f->bytes = read_u64(r);
  f->progress_ms = time_ago(f->pump, read_u64(r));
  import_waits(f, r);
  struct reader out = read_vec24(r), in = read_vec24(r);
  if (r->bad || !flow_is_sound(f, out.left, in.left)) return ERR_SYNTAX;
  /* Without a rate, or at rest, it waits for no turn. */
  if (f->pump->rate == NULL || flow_is_at_rest(f)) f->throttled = false;
  if (f->pump->rate == NULL) f->granted = 0;
  return import_held(f, out, in);
}

/* One that ended cleanly is over, and one that breaks moves nothing but its last. */
static bool phase_is_sound(const struct pump *p) {
  enum flow_state a = p->to_peer.state, b = p->to_wire.state;
  switch (p->phase) {
    case PUMP_RUNS: return a <= FLOW_ENDED && b <= FLOW_ENDED && !(a == FLOW_ENDED && b == FLOW_ENDED);
    case PUMP_STOPS: return p->why != CLOSE_CLEAN;
    case PUMP_BREAKS: return p->why != CLOSE_CLEAN && a >= FLOW_ENDED && b >= FLOW_ENDED;
    case PUMP_OVER: break;
  }
  return false;
}

static void import_prefix(struct pump *p, uint64_t accept_left_ms, struct reader *r) {
  p->prefix_want = read_u8(r);
  struct reader prefix = read_vec8(r);
  if (p->prefix_want > PREFIX_MAX_BYTES || prefix.left >= size_max(p->prefix_want, 1)) {
    r->bad = true;
    return;
  }
  p->prefix_have = prefix.left;
  read_copy(&prefix, p->prefix, prefix.left);
  if (p->prefix_want > 0) p->accept_by_ms = loop_now_ms(p->pool->loop) + accept_left_ms;
}

static int import_pump(struct pump *p, struct reader *r) {
  p->phase = (enum pump_phase)read_u8(r);
  p->why = (enum close_reason)read_u8(r);
  p->grants_grace = read_flag(r);
  uint64_t give_up_left_ms = read_u64(r), accept_left_ms = read_u64(r);
  bool timer_is_set = read_flag(r);
  uint64_t timer_left_ms = read_u64(r);
  import_prefix(p, accept_left_ms, r);
  import_side(&p->wire, r);
  import_side(&p->peer, r);
  if (r->bad || p->why >= CLOSE_REASONS || give_up_left_ms > WAIT_MAX_MS || accept_left_ms > WAIT_MAX_MS ||
      timer_left_ms > WAIT_MAX_MS)
    return ERR_SYNTAX;
  if (timer_is_set) p->timer_at_ms = loop_now_ms(p->pool->loop) + timer_left_ms;
  p->give_up_ms = loop_now_ms(p->pool->loop) + give_up_left_ms;
  int rc = import_flow(&p->to_peer, r);
  if (rc == 0) rc = import_flow(&p->to_wire, r);
  return rc == 0 && !phase_is_sound(p) ? ERR_SYNTAX : rc;
}

static int import_layers(struct pump_params *params, struct reader *r) {
  int rc = read_flag(r) ? sealed_import(r, &params->sealed) : 0;
  return rc != 0 ? rc : wrap_import(r, &params->wire.outer);
}

static int import_all(struct pump **p, struct pump_pool *pool, struct pump_params *params, struct reader *r) {
  bool known = read_u32(r) == EXPORT_MAGIC;
  known = read_u8(r) == EXPORT_VERSION && known;
  params->visitor_is_peer = read_flag(r);
  int rc = known ? import_layers(params, r) : ERR_SYNTAX;
  if (rc != 0) return rc;
  *p = pump_new(pool, params);
  if (*p == NULL) return ERR_NOMEM;
  rc = import_pump(*p, r);
  if (rc == 0 && !reader_done(r)) rc = ERR_SYNTAX;
  return rc == 0 ? pump_go(*p, params) : rc;
}

int pump_import(struct pump_pool *pool, const struct pump_params *params, const uint8_t *state, size_t n,
                struct pump **out) {
  struct reader r = reader_of(state, n);
  struct pump_params all = {.wire.fd = params->wire.fd,
                            .peer_fd = params->peer_fd,
                            .on_prefix = params->on_prefix,
                            .on_end = params->on_end,
                            .user = params->user,
                            .rate = params->rate,
                            .to_peer_tally = params->to_peer_tally,
                            .to_wire_tally = params->to_wire_tally};
  struct pump *p = NULL;
  int rc = import_all(&p, pool, &all, &r);
  if (rc == 0) {
    *out = p;
    return 0;
  }
  if (p != NULL) pump_discard(p);
  sealed_free(all.sealed);
  wrap_free(all.wire.outer);
  return rc;
}
