/* The life of one direction: open, finishing, ended; or, when the stream breaks, its last bytes. The hard thing is the
   order of an end: what was read is written, then close_notify where sealed, then FIN, and nothing else may shorten
   that. */
#include "pump/flow.h"

#include "loop/net.h"

void flow_init(struct flow *f, struct pump *p, const struct flow_kind *kind, struct side *source, struct side *sink) {
  *f = (struct flow){.pump = p, .kind = kind, .source = source, .sink = sink, .state = FLOW_OPEN, .wants_read = true,
                     .progress_ms = loop_now_ms(p->pool->loop)};
  list_init(&f->holding);
}

struct buffer *flow_buffer(struct flow *f) {
  if (f->buffer == NULL) f->buffer = pool_buffer_take(f->pump->pool);
  return f->buffer;
}

struct buffer *flow_room(struct flow *f) {
  struct pump_pool *pool = f->pump->pool;
  struct buffer *old = f->buffer;
  if (old == NULL) return flow_buffer(f);
  ASSERT(!buffer_has_segments(old));
  ASSERT(buffer_held(old) < STREAM_BUFFER_SMALL_BYTES);
  if (old->size >= (pool_is_lean(pool) ? STREAM_BUFFER_SMALL_BYTES : STREAM_BUFFER_BYTES)) return old;
  struct buffer *b = pool_buffer_take(pool);
  if (b == NULL) return NULL;
  buffer_move(b, old);
  pool_buffer_return(pool, old);
  f->buffer = b;
  return b;
}

size_t flow_most(const struct flow *f, size_t room) {
  size_t share = loop_share(f->pump->pool->loop);
  size_t most = size_min(room, size_max(share - size_min(share, f->spent), STREAM_BUFFER_SMALL_BYTES));
  return f->pump->rate == NULL ? most : size_min(most, f->granted);
}

/* Others have their turn. */
static bool flow_has_had_its_share(const struct flow *f) { return f->spent >= loop_share(f->pump->pool->loop); }

void flow_took(struct flow *f, size_t n) {
  pump_is_active(f->pump);         /* also if nothing is written: what was read may have made a cipher */
  f->spent += n;
  f->granted -= size_min(f->granted, n);
}

void flow_give_back(struct flow *f) {
  if (f->granted > 0) rate_give_back(f->pump->rate, f->granted);
  f->granted = 0;
  f->throttled = false;
}

bool flow_has_waited(const struct flow *f) {
  return f->throttled && loop_now_ms(f->pump->pool->loop) >= f->granted_at_ms;
}

void flow_wrote(struct flow *f) {
  f->sink->wrote = true;
  pump_is_active(f->pump);
  list_remove(&f->holding);
}

void flow_count(struct flow *f, size_t n) {
  f->progress_ms = loop_now_ms(f->pump->pool->loop);
  flow_wrote(f);
  size_t skip = size_min(n, f->uncounted);
  f->uncounted -= skip;
  n -= skip;
  f->bytes += n;
  pool_count(f->total, (int64_t)n);
  for (struct tally *t = f->tally; t != NULL; t = t->part_of) (void)__atomic_add_fetch(&t->bytes, n, __ATOMIC_RELAXED);
}

enum flow_result flow_of_net(ssize_t n) {
  if (n > 0) return FLOW_MOVED;
  if (n == 0) return FLOW_CLEAN_END;
  return n == NET_AGAIN ? FLOW_BLOCKED : FLOW_RESET;
}

void flow_drop(struct flow *f) {
  struct pump_pool *pool = f->pump->pool;
  flow_give_back(f);
  list_remove(&f->holding);
  if (f->pipe != NULL) {
    if (f->piped > 0) pool_pipe_discard(pool, f->pipe);
    else pool_pipe_return(pool, f->pipe);
  }
  f->pipe = NULL;
  f->piped = 0;
  if (f->buffer != NULL) pool_buffer_return(pool, f->buffer);
  f->buffer = NULL;
  f->uncounted = f->plain_held = 0;
}

/* An idle direction holds neither buffer nor pipe; a partial record is the one thing worth a buffer. */
static void flow_release(struct flow *f) {
  struct pump_pool *pool = f->pump->pool;
  if (f->pipe != NULL && f->piped == 0) {
    pool_pipe_return(pool, f->pipe);
    f->pipe = NULL;
  }
  if (f->buffer != NULL && !buffer_has_segments(f->buffer) && f->buffer->start == f->buffer->end) {
    pool_buffer_return(pool, f->buffer);
    f->buffer = NULL;
  }
}

void flow_stop(struct flow *f) {
  flow_drop(f);
  f->wants_read = f->wants_write = false;
  f->state = FLOW_STOPPED;
}

bool flow_is_at_rest(const struct flow *f) {
  return f->state == FLOW_ENDED || f->state == FLOW_STOPPED;
}

static void side_is_reset(struct side *s) {
  struct pump *p = s->pump;
  s->reset = true;
  pump_break(p, s, s == &p->wire ? CLOSE_WIRE_RESET : CLOSE_PEER_RESET);
}

/* The first bytes from the wire, exactly; nothing after them is read before they are accepted. That they come first is
   a matter of reading and no state of its own, so that a stream which breaks before they were read still finds what
   lies behind them. */
static enum flow_result flow_fill_prefix(struct flow *f) {
  struct pump *p = f->pump;
  ssize_t n = wire_recv(&f->source->at, p->prefix + p->prefix_have, p->prefix_want - p->prefix_have);
  if (n == 0) {
    f->source->at_end = true;
    return FLOW_NOT_ACCEPTED;
  }
  if (n < 0) return flow_of_net(n);
  f->spent += (size_t)n;
  p->prefix_have += (size_t)n;
  if (p->prefix_have < p->prefix_want) return FLOW_MOVED;
  p->prefix_want = 0;
  p->accept_by_ms = 0;
  f->dry = true;                   /* whoever sends it has yet to reach what has more to say */
  if (f->source->at.outer != NULL) net_acknowledge(f->source->at.fd);   /* a proxy may hold back the rest until then */
  enum close_reason why = p->on_prefix == NULL ? CLOSE_CLEAN : p->on_prefix(p, p->user, p->prefix);
  if (why != CLOSE_CLEAN) pump_abort(p, why);
  return FLOW_MOVED;
}

static bool flow_awaits_prefix(const struct flow *f) {
  return f == &f->pump->to_peer && f->pump->prefix_want > 0;
}

/* Whether the source may be read now, or only later: then the pump's timer makes that turn ours, and until then the
   source is left to its sender's patience. What lies in this process already was paid for. A look at a source that
   seems to have nothing, but perhaps its end, waits for nobody. */
static bool flow_may_read(struct flow *f) {
  struct pump *p = f->pump;
  if (p->rate == NULL || f->more || f->verdict != FLOW_MOVED || flow_awaits_prefix(f)) return true;
  uint64_t now = loop_now_ms(p->pool->loop);
  if (f->granted == 0) {
    size_t unread = net_unread(f->source->at.fd) + wrap_unread(f->source->at.outer);
    f->granted = size_max(1, size_min(unread, rate_step_bytes(p->rate)));
    f->granted_at_ms = rate_reserve(p->rate, now, f->granted);
    if (unread == 0) f->granted_at_ms = now;
    else if (now < f->granted_at_ms) pool_count(&p->pool->stats.waits, 1);
  }
  f->throttled = now < f->granted_at_ms;
  return !f->throttled;
}

static enum flow_result flow_fill(struct flow *f) {
  if (f->verdict != FLOW_MOVED) return f->verdict;
  enum flow_result r = flow_awaits_prefix(f) ? flow_fill_prefix(f) : f->kind->fill(f);
  /* An end that follows an error is none: whoever saw SO_ERROR first has cleared it. */
  if ((r == FLOW_CLEAN_END || r == FLOW_NOT_ACCEPTED) && f->source->reset) r = FLOW_RESET;
  return r;
}

/* The stream is to stop, and what its source had sent by then was read. */
static bool flow_read_enough(struct flow *f) {
  f->source_done = true;
  f->state = FLOW_LAST;
  return true;
}

static bool flow_read(struct flow *f) {
  struct pump *p = f->pump;
  if (p->phase == PUMP_STOPS && f->last_left == 0 && !f->more) return flow_read_enough(f);
  if (!f->more && !wrap_has_input(f->source->at.outer) &&
      ((f->dry && p->phase != PUMP_STOPS) || flow_has_had_its_share(f))) {
    f->wants_read = true;
    return false;
  }
  if (!flow_may_read(f)) return false;
  size_t spent = f->spent;
  enum flow_result r = flow_fill(f);
  f->last_left -= size_min(f->last_left, f->spent - spent);
  switch (r) {
    case FLOW_MOVED:
      return true;
    case FLOW_BLOCKED:
      if (p->phase == PUMP_STOPS) return flow_read_enough(f);
      f->wants_read = true;
      return false;
    case FLOW_CLEAN_END:
      f->state = FLOW_FINISHING;
      return true;
    case FLOW_NOT_ACCEPTED:
      pump_break(p, f->source, CLOSE_NOT_ACCEPTED);
      return true;
    case FLOW_RESET:
      side_is_reset(f->source);
      return true;
    case FLOW_TRUNCATED:
      pump_break(p, f->source, CLOSE_TRUNCATED);
      return true;
    case FLOW_VIOLATION:
      pump_break(p, f->source, CLOSE_PROTOCOL);
      return true;
    case FLOW_ALERTED:
      pump_break(p, f->source, f->source == p->visitor ? CLOSE_PEER_ALERT : CLOSE_APP_REFUSED);
      return true;
    case FLOW_NO_MEMORY:
      break;
  }
  pump_abort(p, CLOSE_NOMEM);
  return false;
}

enum flow_result flow_drain(struct flow *f) {
  enum flow_result r = f->kind->drain(f);
  if (r != FLOW_MOVED || f->sink->at.outer == NULL) return r;
  int flushed = wire_flush(&f->sink->at);
  return flushed == 0 ? FLOW_MOVED : flow_of_net(flushed);
}

/* TCP's own end waits for that of the other direction, since what lies between may take one for both: HTTP proxies
   do. */
static bool flow_end_sink(struct flow *f) {
  return f->sink->at.outer != NULL || net_shutdown_write(f->sink->at.fd) == 0;
}

/* True: something was put behind the data; drain it. */
static bool flow_finish(struct flow *f) {
  enum flow_result r = f->kind->finish == NULL ? FLOW_CLEAN_END : f->kind->finish(f);
  if (r == FLOW_MOVED) return true;
  if (r == FLOW_NO_MEMORY) {
    pump_abort(f->pump, CLOSE_NOMEM);
    return false;
  }
  if (!wrap_is_closed(f->sink->at.outer)) {
    wrap_close(f->sink->at.outer);
    return true;
  }
  flow_release(f);
  f->state = FLOW_ENDED;
  f->progress_ms = loop_now_ms(f->pump->pool->loop);
  if (!flow_end_sink(f)) side_is_reset(f->sink);
  return false;
}

/* The stream is broken. What its source still has for us is read and delivered, then our alert if one is owed. Linux
   keeps what had arrived before a reset: recv and splice give all of it before they tell of the reset, or of an end
   when somebody was told. */
static bool flow_read_last(struct flow *f) {
  if (!f->source_done) {
    if (flow_has_had_its_share(f) && !wrap_has_input(f->source->at.outer)) {
      f->wants_read = true;
      return false;
    }
    if (!flow_may_read(f)) return false;
    enum flow_result r = flow_fill(f);
    if (r == FLOW_MOVED) return true;
    if (r == FLOW_BLOCKED && !f->source->reset) {
      f->wants_read = true;
      return false;
    }
    f->source_done = true;
  }
  if (f->kind == &flow_kind_seal) {
    if (flow_owed_fill(f) == FLOW_MOVED) return true;
  }
  flow_stop(f);
  return false;
}

/* Written in this step, if at all, and so a part of its share. */
static size_t flow_held_from_before(const struct flow *f) {
  return f->piped + (f->buffer == NULL ? 0 : buffer_to_write(f->buffer));
}

static void flow_move(struct flow *f) {
  const struct pump *p = f->pump;
  f->wants_read = f->wants_write = f->dry = f->throttled = false;
  f->spent = flow_held_from_before(f);
  f->idle_records = 0;
  bool going = true;
  while (going && p->phase != PUMP_OVER && !flow_is_at_rest(f)) {
    enum flow_result r = flow_drain(f);
    if (r == FLOW_BLOCKED) {
      f->wants_write = true;
      return;
    }
    if (r == FLOW_RESET) {
      side_is_reset(f->sink);
      continue;
    }
    if (f->idle_records >= IDLE_RECORDS_PER_TURN_MAX) {
      f->wants_write = true;       /* what is left is in our buffer, of which no event tells; the sink can be written,
                                      so it makes the next turn ours */
      break;
    }
    if (f->state == FLOW_OPEN) going = flow_read(f);
    else if (f->state == FLOW_FINISHING) going = flow_finish(f);
    else going = flow_read_last(f);
  }
}

void flow_step(struct flow *f) {
  flow_move(f);
  loop_spend(f->pump->pool->loop, f->spent, f->wants_read && !f->dry && flow_has_had_its_share(f));
  if (f->pump->phase == PUMP_OVER) return;
  if (f->spent >= STREAM_BULK_BYTES) {
    loop_io_set_bulk(&f->source->io, STREAM_BULK_MS);
    loop_io_set_bulk(&f->sink->io, STREAM_BULK_MS);
  }
  if (!f->throttled) flow_give_back(f);
  flow_release(f);
  flow_hold(f);
}
