/* The life of a stream and its ending. Two flows move by themselves; the stream ends cleanly when both have, or breaks
   when either side does. The hard thing is the broken end: what was read before it is still delivered, for a bounded
   time, and only then is the other side reset. Every stream socket has SO_LINGER {1,0} until a clean end, so that death
   is a reset. */
#include "pump/pump.h"

#include <stdlib.h>
#include <string.h>

#include "loop/net.h"
#include "pump/flow.h"

static void pump_free(struct loop_deferred *d) {
  struct pump *p = CONTAINER_OF(d, struct pump, deferred);
  p->magic = 0;
  free(p);
}

static void side_close(struct side *s, bool clean, bool alerted) {
  struct pump_pool *pool = s->pump->pool;
  if (clean) {
    net_linger_off(s->at.fd);
    if (s->at.outer != NULL) (void)net_shutdown_write(s->at.fd);  /* both directions have said that they end */
    if (!s->at_end) {
      linger_discard(pool, s->at.fd, &s->io);
      return;
    }
  }
  loop_io_del(&s->io);
  if (alerted) linger_reset(pool, s->at.fd);
  else pool_close(pool, s->at.fd);
}

static void pump_release(struct pump *p) {
  loop_timer_stop(&p->timer);
  flow_drop(&p->to_peer);
  flow_drop(&p->to_wire);
}

static void pump_unwatch(struct pump *p) {
  loop_io_del(&p->wire.io);
  loop_io_del(&p->peer.io);
}

void pump_discard(struct pump *p) {
  pump_unwatch(p);
  pump_release(p);
  free(p);
}

/* The one place where it changes. It does not log, as the library has pumps, too; of the end on_end tells. */
static void pump_set_phase(struct pump *p, enum pump_phase phase) {
  ASSERT(phase > p->phase);
  p->phase = phase;
}

/* Something has ended it, and what can be delivered still is. */
static bool pump_is_ending(const struct pump *p) { return p->phase == PUMP_STOPS || p->phase == PUMP_BREAKS; }

static bool pump_is_over(const struct pump *p) { return p->phase == PUMP_OVER; }

/* All but its sides. */
static void pump_leave(struct pump *p) {
  pump_set_phase(p, PUMP_OVER);
  pump_release(p);
  list_remove(&p->active);
  pool_count(&p->pool->stats.pumps, -1);
  loop_defer(p->pool->loop, &p->deferred, pump_free);
}

void pump_let_go(struct pump *p) {
  pump_leave(p);
  pump_unwatch(p);
}

static void pump_end(struct pump *p, enum close_reason why, bool wire_alerted) {
  pump_leave(p);
  sealed_free(p->sealed);
  p->sealed = NULL;
  side_close(&p->wire, why == CLOSE_CLEAN, wire_alerted);
  side_close(&p->peer, why == CLOSE_CLEAN, false);
  wrap_free(p->wire.at.outer);
  p->wire.at.outer = NULL;
  if (p->on_end != NULL) p->on_end(p, p->user, why, p->to_peer.bytes, p->to_wire.bytes);
}

/* A direction that is at rest stays so; another delivers what it can. */
static void flow_break(struct flow *f, bool may_read) {
  if (flow_is_at_rest(f)) return;
  f->source_done = f->source_done || !may_read || f->state == FLOW_FINISHING;
  f->state = FLOW_LAST;
}

static uint64_t pump_give_up_ms(const struct pump *p) {
  return loop_now_ms(p->pool->loop) + (p->rate != NULL ? RESET_DELIVERY_IN_TURNS_MS : RESET_DELIVERY_MS);
}

void pump_break(struct pump *p, const struct side *at, enum close_reason why) {
  if (pump_is_over(p)) return;
  struct flow *from = at == &p->wire ? &p->to_peer : &p->to_wire;
  struct flow *to = at == &p->wire ? &p->to_wire : &p->to_peer;
  if (p->phase == PUMP_RUNS) {
    pump_set_phase(p, PUMP_BREAKS);
    p->why = why;
    p->give_up_ms = pump_give_up_ms(p);
    flow_break(from, at->reset);
    p->grants_grace = at != p->visitor;
  } else if (from->state != FLOW_LAST) {
    flow_break(from, at->reset);                 /* in the midst of stopping */
  }
  if (why == CLOSE_PROTOCOL) flow_break(to, false);   /* our alert goes there */
  else if (!flow_is_at_rest(to)) flow_stop(to);
}

/* An app that answers in mid-upload and closes makes its kernel reset us. The visitor, still sending, would run into
   our reset before it looks at the answer that it has; so for a moment its bytes are dropped instead. The agent does
   so, and the relay, too, whose own moment is over already unless it was late in reading. False: it is done, or time is
   up. */
static bool pump_gives_grace(struct pump *p) {
  uint8_t scrap[16384];
  if (!p->grants_grace || p->visitor->reset || p->to_visitor->bytes == 0) return false;
  if (loop_now_ms(p->pool->loop) >= p->to_visitor->progress_ms + RESET_GRACE_MS) return false;
  for (size_t spent = 0; spent < loop_share(p->pool->loop);) {
    ssize_t n = net_recv(p->visitor->at.fd, scrap, sizeof scrap);
    if (n == NET_AGAIN) return true;
    if (n <= 0) return false;
    spent += (size_t)n;
  }
  return true;
}

/* Ends the pump when nothing is left to do. */
static void pump_settle(struct pump *p) {
  if (!flow_is_at_rest(&p->to_peer) || !flow_is_at_rest(&p->to_wire)) return;
  bool both_ended = p->to_peer.state == FLOW_ENDED && p->to_wire.state == FLOW_ENDED;
  if (p->phase == PUMP_RUNS || (p->phase == PUMP_STOPS && both_ended)) {
    pump_end(p, CLOSE_CLEAN, false);
    return;
  }
  /* A reset empties the send queue: what was written must have arrived before. */
  bool delivered = (p->wire.reset || socket_is_delivered(p->wire.at.fd)) &&
                   (p->peer.reset || socket_is_delivered(p->peer.at.fd));
  if (delivered && !pump_gives_grace(p)) pump_end(p, p->why, false);
}

static uint64_t pump_half_open_until_ms(const struct pump *p) {
  if (p->to_peer.throttled || p->to_wire.throttled) return UINT64_MAX;   /* whoever waits for its turn does not idle */
  if (pump_is_ending(p) || flow_is_at_rest(&p->to_peer) == flow_is_at_rest(&p->to_wire)) return UINT64_MAX;
  uint64_t a = p->to_peer.progress_ms, b = p->to_wire.progress_ms;
  return (a > b ? a : b) + HALF_OPEN_IDLE_MS;
}

static uint64_t pump_next_end_ms(const struct pump *p) {
  if (pump_is_ending(p)) {
    bool waits_for_acks = flow_is_at_rest(&p->to_peer) && flow_is_at_rest(&p->to_wire);
    uint64_t check = loop_now_ms(p->pool->loop) + RESET_CHECK_MS;
    return waits_for_acks && check < p->give_up_ms ? check : p->give_up_ms;
  }
  uint64_t next = pump_half_open_until_ms(p);
  return p->accept_by_ms != 0 && p->accept_by_ms < next ? p->accept_by_ms : next;
}

static uint64_t pump_next_deadline_ms(const struct pump *p) {
  uint64_t next = pump_next_end_ms(p);
  if (p->to_peer.throttled && p->to_peer.granted_at_ms < next) next = p->to_peer.granted_at_ms;
  if (p->to_wire.throttled && p->to_wire.granted_at_ms < next) next = p->to_wire.granted_at_ms;
  return next;
}

static void pump_timeout(struct loop_timer *t);

/* The timer may fire early, never late: progress does not touch it. */
static int pump_timer_set(struct pump *p) {
  uint64_t next = pump_next_deadline_ms(p), now = loop_now_ms(p->pool->loop);
  if (next == UINT64_MAX) return 0;
  if (loop_timer_is_set(&p->timer) && p->timer_at_ms <= next) return 0;
  p->timer_at_ms = next;
  return loop_timer_set(p->pool->loop, &p->timer, next > now ? next - now : 0, pump_timeout);
}

static void pump_timer_arm(struct pump *p) {
  if (pump_timer_set(p) != 0) pump_abort(p, CLOSE_NOMEM);
}

/* Inside TLS a direction ends before its TCP does. Whoever ends that, too, while we go on has died, as an HTTP proxy
   tells it. */
static bool side_must_stay(const struct side *s, const struct flow *from, const struct flow *to) {
  return s->at.outer != NULL && from->state == FLOW_ENDED && !flow_is_at_rest(to);
}

static void side_set_interest(struct side *s, const struct flow *from, const struct flow *to) {
  uint32_t events = (from->wants_read ? EPOLLIN : 0u) | (to->wants_write ? EPOLLOUT : 0u);
  /* With nothing to do, a reset must still be noticed, once: edge-triggered, epoll tells only of EPOLLERR and EPOLLHUP.
     A socket that hung up already leaves the set. */
  if (events == 0 && !s->hung_up) events = EPOLLET;
  if (side_must_stay(s, from, to)) events |= EPOLLRDHUP;
  loop_io_set(&s->io, events);
}

static void pump_set_interest(struct pump *p) {
  side_set_interest(&p->wire, &p->to_peer, &p->to_wire);
  side_set_interest(&p->peer, &p->to_wire, &p->to_peer);
}

static void pump_after(struct pump *p) {
  if (!pump_is_over(p)) pump_settle(p);
  if (!pump_is_over(p)) pump_timer_arm(p);
  if (!pump_is_over(p)) pump_set_interest(p);
}

/* An event wakes the direction that it is for; the other waits for its own. So one that idles costs no system call. */
static bool flow_is_due(const struct flow *f, const struct side *at, uint32_t events) {
  if (pump_is_ending(f->pump) || (events & ~(uint32_t)(EPOLLIN | EPOLLOUT)) != 0) return true;
  if (f->more && !f->wants_write) return true;       /* of what lies inside this process no event tells */
  return (events & (f->source == at ? EPOLLIN : EPOLLOUT)) != 0;
}

/* What one direction learns (a KeyUpdate to answer, a reset, an alert to write) the other may have to act on. */
static void pump_run(struct pump *p, bool to_peer, bool to_wire) {
  enum pump_phase before;
  do {
    before = p->phase;
    if (to_peer) flow_step(&p->to_peer);
    if (!pump_is_over(p) && to_wire) flow_step(&p->to_wire);
    if (!pump_is_over(p) && p->sealed != NULL && !p->to_wire.wants_write && sealed_owes(p->sealed))
      flow_step(&p->to_wire);
    to_peer = to_wire = true;
  } while (!pump_is_over(p) && p->phase != before);
}

/* Of one that has hung up. Inside TLS both directions end before TCP does; and a Unix socket's other end, when it has
   died, leaves no error behind. */
static bool side_is_gone(const struct side *s) {
  const struct flow *to = s == &s->pump->wire ? &s->pump->to_wire : &s->pump->to_peer;
  return s->at.outer != NULL && !pump_is_over(s->pump) && !flow_is_at_rest(to);
}

static void side_event(struct loop_io *io, uint32_t events) {
  struct side *s = CONTAINER_OF(io, struct side, io);
  struct pump *p = s->pump;
  CHECK_MAGIC(p, PUMP_MAGIC);
  if (events & EPOLLHUP) s->hung_up = true;
  /* Read first: what arrived before a reset is still in the kernel. */
  pump_run(p, flow_is_due(&p->to_peer, s, events), flow_is_due(&p->to_wire, s, events));
  bool left = (events & EPOLLRDHUP) && side_must_stay(s, &p->to_peer, &p->to_wire);
  left |= (events & EPOLLHUP) && side_is_gone(s);
  bool told = (events & EPOLLERR) != 0;
  if (!pump_is_over(p) && !s->reset && (left || (told && net_socket_error(s->at.fd) != 0))) {
    s->reset = true;
    pump_break(p, s, s == &p->wire ? CLOSE_WIRE_RESET : CLOSE_PEER_RESET);
    pump_run(p, true, true);
  }
  pump_after(p);
}

/* CLOSE_CLEAN: no deadline has passed. */
static enum close_reason pump_overdue(const struct pump *p) {
  uint64_t now = loop_now_ms(p->pool->loop);
  if (pump_is_ending(p)) return now >= p->give_up_ms ? p->why : CLOSE_CLEAN;
  if (p->accept_by_ms != 0 && now >= p->accept_by_ms) return CLOSE_ACCEPT_TIMEOUT;
  return now >= pump_half_open_until_ms(p) ? CLOSE_HALF_OPEN_IDLE : CLOSE_CLEAN;
}

static void pump_timeout(struct loop_timer *t) {
  struct pump *p = CONTAINER_OF(t, struct pump, timer);
  CHECK_MAGIC(p, PUMP_MAGIC);
  /* When it was this process that stood still, what the deadline is about lies in the sockets. */
  bool overdue = pump_overdue(p) != CLOSE_CLEAN;
  pump_run(p, overdue || flow_has_waited(&p->to_peer), overdue || flow_has_waited(&p->to_wire));
  enum close_reason why = pump_is_over(p) ? CLOSE_CLEAN : pump_overdue(p);
  if (why != CLOSE_CLEAN && pump_is_ending(p)) pump_end(p, why, false);
  else if (why != CLOSE_CLEAN) pump_abort(p, why);
  pump_after(p);
}

/* A fatal alert, if the socket takes it now: behind whole records only. */
static bool pump_alert_wire(struct pump *p) {
  struct flow *f = &p->to_wire;
  if (p->sealed == NULL || p->wire.reset || flow_is_at_rest(f) || flow_drain(f) != FLOW_MOVED) return false;
  sealed_fail(p->sealed, ALERT_INTERNAL_ERROR);
  return flow_owed_fill(f) == FLOW_MOVED && flow_drain(f) == FLOW_MOVED;
}

void pump_abort(struct pump *p, enum close_reason why) {
  CHECK_MAGIC(p, PUMP_MAGIC);
  ASSERT(why != CLOSE_CLEAN);
  if (pump_is_over(p)) return;
  pump_end(p, why, pump_alert_wire(p));
}

void pump_stop(struct pump *p, enum close_reason why) {
  CHECK_MAGIC(p, PUMP_MAGIC);
  ASSERT(why != CLOSE_CLEAN);
  if (p->phase != PUMP_RUNS) return;             /* one that breaks is over as soon */
  pump_set_phase(p, PUMP_STOPS);
  p->why = why;
  p->give_up_ms = pump_give_up_ms(p);
  /* 1 for its end: one that has ended goes on to a clean end */
  p->to_peer.last_left = net_unread(p->wire.at.fd) + wrap_unread(p->wire.at.outer) + 1;
  p->to_wire.last_left = net_unread(p->peer.at.fd) + 1;
  pump_run(p, true, true);
  pump_after(p);
}

static bool side_is_unacked(struct side *s) {
  if (!s->wrote) return false;
  if (socket_is_delivered(s->at.fd)) {
    s->wrote = false;
    return false;
  }
  return net_unacked_ms(s->at.fd) > UNACKED_MAX_MS;
}

static bool pump_is_quiet(const struct pump *p) {
  uint64_t a = p->to_peer.progress_ms, b = p->to_wire.progress_ms;
  return !p->wire.wrote && !p->peer.wrote && loop_now_ms(p->pool->loop) >= (a > b ? a : b) + SWEEP_MS;
}

static void pump_rest(struct pump *p) {
  if (p->sealed != NULL) sealed_rest(p->sealed);
  wrap_rest(p->wire.at.outer);
}

/* Instead of TCP_USER_TIMEOUT, which kills a healthy peer that merely does not read. on_end may end any other pump or
   start one, so no place in a list is kept over it: those still to be looked at stand in a list of their own. */
static void pool_sweep(struct loop_timer *t) {
  struct pump_pool *pool = CONTAINER_OF(t, struct pump_pool, sweep);
  struct list left;
  list_init(&left);
  list_move_all(&left, &pool->active);
  while (!list_empty(&left)) {
    struct pump *p = CONTAINER_OF(left.next, struct pump, active);
    list_remove(&p->active);
    bool unacked = side_is_unacked(&p->wire) || side_is_unacked(&p->peer);
    if (unacked || !pump_is_quiet(p)) list_push_tail(&pool->active, &p->active);
    else pump_rest(p);
    if (unacked) pump_abort(p, CLOSE_UNACKED);
  }
  pool_buffers_trim(pool);
  /* Out of memory: keepalive still finds the dead, and whoever moves next sets the timer again. */
  if (!list_empty(&pool->active) || !list_empty(&pool->buffers_idle)) (void)!pool_sweep_later(pool);
}

int pool_sweep_later(struct pump_pool *pool) {
  return loop_timer_is_set(&pool->sweep) ? 0 : loop_timer_set(pool->loop, &pool->sweep, SWEEP_MS, pool_sweep);
}

void pump_is_active(struct pump *p) {
  if (list_empty(&p->active)) list_push_tail(&p->pool->active, &p->active);
  (void)!pool_sweep_later(p->pool);
}

static void pump_set_flows(struct pump *p, const struct pump_params *params) {
  const struct flow_kind *plain = p->pool->mode == PUMP_SPLICE && params->wire.outer == NULL ? &flow_kind_splice
                                                                                            : &flow_kind_copy;
  const struct flow_kind *in = plain, *out = plain;
  if (params->sealed != NULL) {
    in = &flow_kind_unseal;
    out = &flow_kind_seal;
  }
  flow_init(&p->to_peer, p, in, &p->wire, &p->peer);
  flow_init(&p->to_wire, p, out, &p->peer, &p->wire);
  p->to_peer.total = &p->pool->stats.to_peer_bytes;
  p->to_wire.total = &p->pool->stats.to_wire_bytes;
  p->to_peer.tally = params->to_peer_tally;
  p->to_wire.tally = params->to_wire_tally;
  /* Input may be inside the wrap already, of which no event of the socket tells. */
  if (wrap_has_input(params->wire.outer)) p->to_peer.wants_write = true;
  p->visitor = params->visitor_is_peer ? &p->peer : &p->wire;
  p->to_visitor = params->visitor_is_peer ? &p->to_peer : &p->to_wire;
}

static int pump_put_first(struct pump *p, const struct pump_params *params) {
  if (params->peer_first_n == 0) return 0;
  struct flow *f = &p->to_peer;
  struct buffer *b = flow_buffer(f);
  if (b == NULL) return ERR_NOMEM;
  memcpy(b->bytes, params->peer_first, params->peer_first_n);
  b->used = params->peer_first_n;
  b->start = b->end = params->peer_first_n;
  buffer_segment_push(b, b->bytes, params->peer_first_n);
  f->uncounted = params->peer_first_n;
  f->wants_write = true;
  return 0;
}

struct pump *pump_new(struct pump_pool *pool, const struct pump_params *params) {
  struct pump *p = calloc(1, sizeof *p);
  if (p == NULL) return NULL;
  p->magic = PUMP_MAGIC;
  p->pool = pool;
  list_init(&p->active);
  p->wire.pump = p->peer.pump = p;
  p->wire.at = params->wire;
  p->peer.at.fd = params->peer_fd;
  p->peer.reset = params->peer_reset;
  p->prefix_want = params->wire_prefix_n;
  if (p->prefix_want > 0) p->accept_by_ms = loop_now_ms(pool->loop) + ACCEPT_DEADLINE_MS;
  p->on_prefix = params->on_prefix;
  p->on_end = params->on_end;
  p->user = params->user;
  p->rate = params->rate;
  pump_set_flows(p, params);
  return p;
}

/* Nothing is moved yet: the descriptors are waited for level-triggered, so the first turn brings whatever is there. */
static int pump_set_waits(struct pump *p, const struct pump_params *params) {
  struct loop *l = p->pool->loop;
  uint64_t now = loop_now_ms(l), at = p->timer_at_ms;    /* of one that has moved: 0 for all others */
  if (at != 0 && loop_timer_set(l, &p->timer, at > now ? at - now : 0, pump_timeout) != 0) return ERR_NOMEM;
  if (pump_timer_set(p) != 0) return ERR_NOMEM;
  if (pool_sweep_later(p->pool) != 0) return ERR_NOMEM;
  int r = loop_io_take(l, &p->wire.io, p->wire.at.fd, EPOLLIN, side_event, params->wire_io);
  if (r == 0) r = loop_io_take(l, &p->peer.io, p->peer.at.fd, EPOLLIN, side_event, params->peer_io);
  if (r == 0) pump_set_interest(p);
  return r;
}

int pump_go(struct pump *p, const struct pump_params *params) {
  int r = pump_set_waits(p, params);
  if (r != 0) return r;
  p->sealed = params->sealed;
  pump_is_active(p);
  pool_count(&p->pool->stats.pumps, 1);
  return 0;
}

int pump_start(struct pump_pool *pool, const struct pump_params *params, struct pump **out, struct err *e) {
  if (params->wire_prefix_n > PREFIX_MAX_BYTES || params->peer_first_n > STREAM_BUFFER_SMALL_BYTES) {
    return err_set(e, ERR_USAGE, "pump: parameters out of range");
  }
  struct pump *p = pump_new(pool, params);
  if (p == NULL) return err_set(e, ERR_NOMEM, "pump: out of memory");
  int r = pump_put_first(p, params);
  if (r == 0) r = pump_go(p, params);
  if (r != 0) {
    pump_discard(p);
    return err_set(e, r, "pump: %s", err_name(r));
  }
  *out = p;
  return 0;
}
