#include "kernel_connection.h"

#include <errno.h>

#include "base/base.h"
#include "kernel_tcp.h"

enum {
  SEGMENT_BYTES = 1448,
  SEGMENTS_MAX = 44,
  TINY_MAX_BYTES = 8,
  SMALL_BUFFER_BYTES = 1024,
  SMALL_BUFFERS = 8,
  BUFFER_MIN_BYTES = 32 * 1024,
  BUFFER_MAX_BYTES = 256 * 1024,
  RETRIES_MAX = 15,                /* tcp_retries2 */
  SYN_RETRIES_MAX = 6,             /* tcp_syn_retries */
  RTO_MIN_MS = 200,
  RTO_MAX_MS = 120000,
  SYN_RTO_MS = 1000,
  UNREACHABLE_MS = 3000            /* nobody answers ARP */
};

struct list connections = {&connections, &connections};
unsigned connections_n;
static uint64_t ids;

/* Lives of connections */

static size_t buffer_size(void) {
  if (weather.small_buffers_one_in > 0 && world_chance(weather.small_buffers_one_in))
    return SMALL_BUFFER_BYTES * (size_t)(1 + world_below(SMALL_BUFFERS));
  return BUFFER_MIN_BYTES + (size_t)world_below(BUFFER_MAX_BYTES - BUFFER_MIN_BYTES);
}

/* Those of the run before are in nobody's way, and nobody's any more. */
void connections_begin(void) {
  list_init(&connections);
  connections_n = 0;
  ids = 0;
}

struct connection *connection_new(struct tcp *from, struct host *from_host, struct host *to_host, uint32_t ip,
                                  uint16_t port) {
  struct connection *c = world_alloc(sizeof *c);
  c->id = ++ids;
  c->host[0] = from_host;
  c->host[1] = to_host;
  c->end[0] = from;
  c->ip = ip;
  c->port = port;
  for (int i = 0; i < 2; i++) {
    c->lane[i].c = c;
    c->lane[i].from = i;
    c->lane[i].send_max = buffer_size();
    c->lane[i].receive_max = buffer_size();
  }
  list_push_tail(&connections, &c->of_all);
  connections_n++;
  return c;
}

static void connection_free(struct connection *c) {
  world_cancel(&c->event);
  for (int i = 0; i < 2; i++) {
    lane_stop(&c->lane[i]);
    ring_free(&c->lane[i].ring);
  }
  list_remove(&c->of_all);
  connections_n--;
  world_free(c);
}

void connection_hold(struct connection *c) { c->held++; }

void connection_release(struct connection *c) {
  if (--c->held == 0 && c->end[0] == NULL && c->end[1] == NULL) connection_free(c);
}

void connection_leave(struct connection *c, int side) {
  connection_hold(c);
  c->end[side] = NULL;
  connection_release(c);
}

bool connection_passes(const struct connection *c) {
  return !c->stalled && c->host[1] != NULL && network_reaches(c->host[0], c->host[1]);
}

static uint64_t delay_ns(const struct connection *c) {
  return c->host[1] == NULL ? 0 : network_delay_ns(c->host[0], c->host[1]);
}

uint64_t lane_rto_ns(unsigned backoff) {
  uint64_t ms = backoff < 20 ? (uint64_t)RTO_MIN_MS << backoff : RTO_MAX_MS;
  return (ms < RTO_MAX_MS ? ms : RTO_MAX_MS) * WORLD_NS_PER_MS;
}

/* Lanes */

static struct tcp *lane_sender(const struct lane *l) { return l->c->end[l->from]; }
static struct tcp *lane_receiver(const struct lane *l) { return l->c->end[1 - l->from]; }

size_t lane_unread(const struct lane *l) { return (size_t)(l->arrived - l->ring.from); }

size_t lane_unacked(const struct lane *l) {
  return (size_t)(l->ring.to - l->acked) + (l->fin && !l->fin_acked ? 1 : 0);
}

size_t lane_room(const struct lane *l) {
  size_t used = (size_t)(l->ring.to - l->acked);
  return used < l->send_max ? l->send_max - used : 0;
}

static size_t lane_window(const struct lane *l) {
  size_t used = (size_t)(l->sent - l->ring.from);
  return used < l->receive_max ? l->receive_max - used : 0;
}

bool lane_waits_for_window(const struct lane *l) { return l->ring.to > l->sent && lane_window(l) == 0; }

bool lane_is_busy(const struct lane *l) { return l->flights_n > 0 || l->ack.place != 0; }

void lane_stop(struct lane *l) {
  l->closed = true;
  l->flights_n = 0;
  world_cancel(&l->arrival);
  world_cancel(&l->ack);
}

static void lane_arrives(struct world_event *e);
static void lane_acks(struct world_event *e);
static void ack_arrives(struct connection *c);

/* The sender gets room, or may be gone for good. */
static void lane_acknowledge(struct lane *l) {
  struct tcp *sender = lane_sender(l);
  l->acked = l->arrived;
  l->fin_acked = l->fin_arrived;
  l->backoff = 0;
  if (sender != NULL) tcp_acknowledged(sender);
}

static void lane_owe_ack(struct lane *l) {
  uint64_t delay = delay_ns(l->c);
  if (delay == 0) lane_acknowledge(l);
  else if (l->ack.place == 0) world_at(&l->ack, world_now_ns() + delay, lane_acks);
}

/* One packet has come through. What it does may end either end. */
static void lane_deliver(struct lane *l, const struct flight *f) {
  struct tcp *to = lane_receiver(l);
  bool has_data = f->end > l->arrived;
  world_trace(f->reset ? "reset arrives" : f->fin ? "end arrives" : "data arrives", l->c->id,
              f->end - l->arrived + (l->from == 0 ? 0 : UINT64_C(1) << 63));
  if (f->reset) {
    l->fin_arrived = l->fin_arrived || f->fin;
    lane_stop(l);
    if (to != NULL) tcp_was_reset(to);
    return;
  }
  if (to == NULL ? has_data || l->c->vanished[1 - l->from] : tcp_refuses(to, has_data)) {
    lane_reset(&l->c->lane[1 - l->from]);
    return;
  }
  if (l->c->handshake == ACK_GOES && l->from == 0) {             /* it says as much as the ACK */
    world_cancel(&l->c->event);
    ack_arrives(l->c);
  }
  l->arrived = f->end;
  l->fin_arrived = l->fin_arrived || f->fin;
  if (to != NULL) tcp_arrived(to, f->fin);
  lane_owe_ack(l);
}

static struct flight *lane_first(struct lane *l) { return l->flights_n > 0 ? &l->flights[l->first] : NULL; }

static void lane_expect(struct lane *l) {
  const struct flight *f = lane_first(l);
  if (f != NULL && l->arrival.place == 0) world_at(&l->arrival, f->at_ns, lane_arrives);
}

/* Nobody answers. Who is gone does not send again. False: that was the last time. */
static bool lane_send_again(struct lane *l, struct world_event *e, void (*fn)(struct world_event *)) {
  uint64_t now = world_now_ns();
  struct tcp *sender = lane_sender(l);
  if (sender == NULL || tcp_is_over(sender)) {
    lane_stop(l);
    return false;
  }
  if (l->sent_at_ns + lane_rto_ns(l->backoff) <= now) {
    l->sent_at_ns = now;
    if (++l->backoff > RETRIES_MAX) {
      tcp_timed_out(sender);
      return false;
    }
  }
  world_at(e, l->sent_at_ns + lane_rto_ns(l->backoff), fn);
  return true;
}

static void lane_arrives(struct world_event *e) {
  struct lane *l = CONTAINER_OF(e, struct lane, arrival);
  struct connection *c = l->c;
  connection_hold(c);
  if (connection_passes(c)) {
    for (struct flight *f; (f = lane_first(l)) != NULL && f->at_ns <= world_now_ns();) {
      struct flight flight = *f;
      l->first = (l->first + 1) % FLIGHTS_MAX;
      l->flights_n--;
      lane_deliver(l, &flight);
    }
    lane_expect(l);
    lane_push(l);
  } else {
    (void)lane_send_again(l, &l->arrival, lane_arrives);
  }
  connection_release(c);
}

static void lane_acks(struct world_event *e) {
  struct lane *l = CONTAINER_OF(e, struct lane, ack);
  struct connection *c = l->c;
  connection_hold(c);
  if (connection_passes(c)) {
    lane_acknowledge(l);
    lane_push(l);
  } else {
    (void)lane_send_again(l, &l->ack, lane_acks);
  }
  connection_release(c);
}

static void lane_launch(struct lane *l, struct flight f) {
  uint64_t now = world_now_ns(), delay = delay_ns(l->c), at = now + delay;
  l->sent_at_ns = now;
  if (delay == 0 && l->flights_n == 0 && l->last_at_ns <= now && connection_passes(l->c)) {
    lane_deliver(l, &f);
    return;
  }
  if (weather.lost_one_in > 0 && world_chance(weather.lost_one_in)) at += lane_rto_ns(0);
  if (at > l->last_at_ns) l->last_at_ns = at;
  f.at_ns = l->last_at_ns;
  l->flights[(l->first + l->flights_n++) % FLIGHTS_MAX] = f;
  lane_expect(l);
}

static size_t packet_size(size_t n) {
  if (weather.tiny_chunk_one_in > 0 && world_chance(weather.tiny_chunk_one_in))
    return size_min(n, 1 + (size_t)world_below(TINY_MAX_BYTES));
  return n <= SEGMENT_BYTES ? n : size_min(n, SEGMENT_BYTES * (size_t)(1 + world_below(SEGMENTS_MAX)));
}

void lane_push(struct lane *l) {
  if (l->closed || l->c->handshake < ACK_GOES || l->c->handshake == REFUSAL_GOES) return;
  connection_hold(l->c);
  while (!l->closed && l->flights_n < FLIGHTS_MAX - 1) {         /* one is left for a reset */
    size_t n = size_min((size_t)(l->ring.to - l->sent), lane_window(l));
    if (n > 0) n = packet_size(n);
    bool fin = l->fin && !l->fin_sent && l->sent + n == l->ring.to;
    if (n == 0 && !fin) break;
    l->sent += n;
    l->fin_sent = l->fin_sent || fin;
    lane_launch(l, (struct flight){.end = l->sent, .fin = fin});
  }
  if (!l->closed && lane_waits_for_window(l) && !connection_passes(l->c) && lane_sender(l) != NULL)
    tcp_watch(lane_sender(l));
  connection_release(l->c);
}

void lane_reset(struct lane *l) {
  if (l->flights_n > 0 && l->flights[(l->first + l->flights_n - 1) % FLIGHTS_MAX].reset) return;
  connection_hold(l->c);
  l->closed = true;
  world_cancel(&l->ack);
  bool fin = l->breaks_off && !l->fin && l->ring.to == l->sent;
  if (l->ring.to > l->sent) ring_cut(&l->ring, l->sent);         /* what was not sent never is */
  lane_launch(l, (struct flight){.end = l->sent, .fin = fin, .reset = true});
  connection_release(l->c);
}

/* The handshake. A packet that does not come through is sent again, by whoever opens it. */

static void handshake_step(struct world_event *e);

static void handshake_next(struct connection *c, enum handshake next) {
  uint64_t delay = delay_ns(c);
  c->handshake = next;
  if (delay == 0) handshake_step(&c->event);
  else world_at(&c->event, world_now_ns() + delay, handshake_step);
}

static void handshake_again(struct connection *c) {
  if (c->end[0] == NULL && c->handshake == SYN_GOES) {           /* he has given up */
    if (c->end[1] != NULL) tcp_was_reset(c->end[1]);
    return;
  }
  bool nobody = c->host[1] == NULL;
  if (c->tries >= (nobody ? 1 : SYN_RETRIES_MAX)) {
    if (c->end[0] != NULL) tcp_failed(c->end[0], nobody ? EHOSTUNREACH : ETIMEDOUT);
    return;
  }
  uint64_t ms = nobody ? UNREACHABLE_MS : (uint64_t)SYN_RTO_MS << c->tries;
  c->tries++;
  world_at(&c->event, world_now_ns() + ms * WORLD_NS_PER_MS, handshake_step);
}

static void syn_arrives(struct connection *c) {
  enum syn_answer answer = tcp_syn(c);
  if (answer == SYN_REFUSED) handshake_next(c, REFUSAL_GOES);
  else if (answer == SYN_DROPPED) handshake_again(c);
  else handshake_next(c, SYN_ACK_GOES);
}

static void syn_ack_arrives(struct connection *c) {
  if (c->end[0] == NULL || tcp_is_over(c->end[0])) {   /* its socket is closed: it answers with a reset */
    if (c->end[1] != NULL) tcp_was_reset(c->end[1]);
    return;
  }
  tcp_connected(c->end[0]);
  handshake_next(c, ACK_GOES);
}

static void ack_arrives(struct connection *c) {
  c->handshake = HANDSHAKE_DONE;
  if (c->end[1] != NULL) tcp_established(c->end[1]);
}

static void handshake_step(struct world_event *e) {
  struct connection *c = CONTAINER_OF(e, struct connection, event);
  connection_hold(c);
  if (!connection_passes(c)) {
    handshake_again(c);
  } else {
    switch (c->handshake) {
      case SYN_GOES: syn_arrives(c); break;
      case SYN_ACK_GOES: syn_ack_arrives(c); break;
      case ACK_GOES: ack_arrives(c); break;
      case REFUSAL_GOES:
        if (c->end[0] != NULL) tcp_was_reset(c->end[0]);
        break;
      case HANDSHAKE_DONE: break;
    }
  }
  connection_release(c);
}

void connection_begin(struct connection *c) { handshake_next(c, SYN_GOES); }
