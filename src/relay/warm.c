/* The pool of warm data connections. Few when quiet, doubling in a burst, decaying afterwards; first come, first
   served. A warm connection that says anything, or ends, before OPEN is dead (docs/protocol.md 6). */
#include "relay/warm.h"

#include <stdlib.h>
#include <string.h>

#include "base/secret.h"
#include "loop/net.h"
#include "relay/stray.h"

enum { WARM_MAGIC = 0x7761726d, ASKED_LOST_MS = 3000, HINT_LIFE_MS = 2000 };

struct warm {
  unsigned magic;
  struct link *link;
  struct list node;
  struct loop_io io;
  struct loop_deferred deferred;
  struct data_connection data;
};

/* One connection */

static void warm_free(struct loop_deferred *d) { free(CONTAINER_OF(d, struct warm, deferred)); }

static void warm_taken(struct loop_io *io, uint32_t events) { (void)io, (void)events; }

/* Takes it out of the pool, and it is the caller's. io, of a caller in this worker, takes its place in epoll; NULL: it
   is taken out of that, since it goes to another worker. */
static struct data_connection warm_take(struct warm *c, struct loop_io *io) {
  struct link *l = c->link;
  share_give(&l->worker->relay->shares, &l->owner->account, 1);
  if (io == NULL) loop_io_del(&c->io);
  else (void)!loop_io_take(l->worker->loop, io, c->data.wire.fd, EPOLLIN, warm_taken, &c->io);
  list_remove(&c->node);
  l->warm.idle_n--;
  METRIC_SUB(&l->worker->metrics, data_connections_warm_now, 1);
  c->magic = 0;
  loop_defer(l->worker->loop, &c->deferred, warm_free);
  return c->data;
}

static void warm_drop(struct warm *c) {
  struct data_connection data = warm_take(c, NULL);
  data_connection_close(&data);
}

/* Its end, or a byte, may be here and its event later in this turn. */
static bool warm_is_dead(const struct warm *c) {
  uint8_t byte;
  return net_recv_peek(c->data.wire.fd, &byte, sizeof byte) != NET_AGAIN;
}

static void warm_ready(struct loop_io *io, uint32_t events) {
  struct warm *c = CONTAINER_OF(io, struct warm, io);
  (void)events;
  CHECK_MAGIC(c, WARM_MAGIC);
  warm_drop(c);
}

/* The owner pays for it, until it is a visitor's. */
static bool warm_pay(struct link *l, bool was_paid) {
  struct shares *shares = &l->worker->relay->shares;
  if (was_paid) share_count(shares, &l->owner->account, 1);
  return was_paid || share_take(shares, &l->owner->account, 1);
}

/* was_paid: it comes from another process, where it had its place. */
static int warm_add(struct link *l, const struct data_connection *data, bool was_paid) {
  struct warm *c = calloc(1, sizeof *c);
  if (c == NULL) return ERR_NOMEM;
  c->magic = WARM_MAGIC;
  c->link = l;
  c->data = *data;
  if (!warm_pay(l, was_paid)) goto fail;
  if (loop_io_add(l->worker->loop, &c->io, data->wire.fd, EPOLLIN, warm_ready) != 0) goto fail_share;
  list_push_head(&l->warm.idle, &c->node);
  l->warm.idle_n++;
  METRIC_ADD(&l->worker->metrics, data_connections_warm_now, 1);
  return 0;

fail_share:
  share_give(&l->worker->relay->shares, &l->owner->account, 1);
fail:
  free(c);
  return ERR_NOMEM;
}

/* Answers */

static void answer_deliver(struct loop *l, struct loop_msg *m) {
  struct ask *a = CONTAINER_OF(m, struct ask, msg);
  if (l != NULL) {
    a->answered(a);
    return;
  }
  data_connection_close(&a->data); /* the visitor's loop is being freed */
}

static void ask_answer(struct ask *a, struct worker *here, struct data_connection data) {
  a->data = data;
  if (a->from == here) {
    a->answered(a);
    return;
  }
  a->msg.fn = answer_deliver;
  loop_post(a->from->loop, &a->msg);
}

/* Gives to those who wait what there is. An answer may call back into this pool, so each turn looks anew. */
static void warm_serve(struct link *l) {
  while (!list_empty(&l->warm.waiting)) {
    struct ask *a = CONTAINER_OF(l->warm.waiting.next, struct ask, node);
    bool cancelled = __atomic_load_n(&a->cancelled, __ATOMIC_ACQUIRE);
    struct data_connection data = DATA_CONNECTION_NONE;
    if (!cancelled) {
      if (list_empty(&l->warm.idle)) return;
      struct warm *c = CONTAINER_OF(l->warm.idle.next, struct warm, node);
      if (warm_is_dead(c)) {
        warm_drop(c);
        continue;
      }
      data = warm_take(c, a->from == l->worker ? &a->io : NULL);
    }
    list_remove(&a->node);
    l->warm.waiting_n--;
    ask_answer(a, l->worker, data);
  }
}

/* Demand */

/* Whether the pool should grow. What was asked for takes a round trip to come, so it helps visitors who come later, not
   those who wait now. Example: with a target of 4, none idle, 4 on their way and 5 visitors waiting, 5 have come within
   one round trip, and the target doubles so that the next 5 need not wait. */
static bool warm_is_short(const struct warm_pool *p) {
  return p->idle_n + p->asked <= 1 || (p->idle_n == 0 && p->waiting_n >= p->target);
}

static void warm_grow(struct link *l) {
  struct warm_pool *p = &l->warm;
  p->target = p->target * 2 > WARM_MAX ? WARM_MAX : p->target * 2;
  p->grown_ms = loop_now_ms(l->worker->loop);
}

/* Asks the agent for what is missing between need and supply. */
static void warm_want(struct link *l) {
  struct warm_pool *p = &l->warm;
  size_t need = size_min(p->target + p->hints, WARM_MAX) + p->waiting_n, supply = p->idle_n + p->asked;
  if (l->engine.state != LINK_UP || supply >= need || p->asked >= WARM_MAX) return;
  unsigned count = (unsigned)size_min(need - supply, WARM_MAX - p->asked);
  uint8_t frame[16];
  struct writer w = writer_of(frame, sizeof frame);
  p->asked += count;
  p->asked_ms = loop_now_ms(l->worker->loop);
  frame_want_encode(&w, (uint16_t)count);
  link_send(l, &w);
}

/* They are no supply, and to aim for more than there can be is no use. The next visitor asks for them again, or for one
   who waits the next tick does: by then there may be descriptors. */
void warm_short(struct link *l, size_t n) {
  struct warm_pool *p = &l->warm;
  p->asked -= (unsigned)size_min(p->asked, n);
  p->target = (unsigned)size_max(WARM_QUIET, size_min(p->target, p->idle_n + p->asked));
}

static void ask_here(struct worker *w, struct ask *a) {
  struct link *l = link_find(w, a->tunnel->link_id);
  if (l == NULL || l->engine.state != LINK_UP) {
    ask_answer(a, w, DATA_CONNECTION_NONE);
    return;
  }
  struct warm_pool *p = &l->warm;
  if (p->hints > 0) p->hints--;
  if (warm_is_short(p)) warm_grow(l);
  list_push_tail(&p->waiting, &a->node);
  p->waiting_n++;
  (void)link_ref(l);               /* an answer may run into anything */
  warm_serve(l);
  warm_want(l);
  link_unref(l);
}

static void ask_deliver(struct loop *l, struct loop_msg *m) {
  struct ask *a = CONTAINER_OF(m, struct ask, msg);
  if (l != NULL) ask_here(a->tunnel->worker, a);
}

void warm_ask(struct ask *a, struct worker *from, struct tunnel *t, void (*answered)(struct ask *a)) {
  list_init(&a->node);
  a->io = (struct loop_io){0};
  a->from = from;
  a->tunnel = t;
  a->answered = answered;
  a->cancelled = false;
  if (t->worker == from) {
    ask_here(from, a);
    return;
  }
  a->msg.fn = ask_deliver;
  loop_post(t->worker->loop, &a->msg);
}

struct hint {
  struct loop_msg msg;
  struct worker *worker;
  uint8_t link_id[LINK_ID_BYTES];
};

static void hint_here(struct worker *w, const uint8_t link_id[LINK_ID_BYTES]) {
  struct link *l = link_find(w, link_id);
  if (l == NULL || l->warm.hints >= WARM_MAX) return;
  l->warm.hints++;
  l->warm.hinted_ms = loop_now_ms(w->loop);
  if (l->warm.idle_n + l->warm.asked < l->warm.hints + WARM_QUIET) warm_want(l);
}

static void hint_deliver(struct loop *l, struct loop_msg *m) {
  struct hint *h = CONTAINER_OF(m, struct hint, msg);
  if (l != NULL) hint_here(h->worker, h->link_id);
  free(h);
}

void warm_hint(struct worker *from, struct tunnel *t) {
  if (t->worker == from) {
    hint_here(from, t->link_id);
    return;
  }
  struct hint *h = calloc(1, sizeof *h);
  if (h == NULL) return;           /* only a hint */
  h->msg.fn = hint_deliver;
  h->worker = t->worker;
  memcpy(h->link_id, t->link_id, LINK_ID_BYTES);
  loop_post(t->worker->loop, &h->msg);
}

/* Arrivals */

struct arrival {
  struct loop_msg msg;
  struct worker *worker;
  struct data_connection data;
  struct preface preface;
};

static int arrival_keys(struct link *l, const struct preface *p, struct number_keys *keys) {
  uint64_t now_ms = loop_now_ms(l->worker->loop);
  int rc = link_keys_peek(l->engine.keys, p->number, now_ms, keys);
  if (rc == 0) rc = preface_verify(p, keys);
  if (rc == 0) link_keys_claim(l->engine.keys, p->number, now_ms);
  return rc;
}

/* The first of a link: an agent that hears nothing of its plain ones sends them inside TLS. */
static void arrival_tell(struct link *l, uint64_t number) {
  uint8_t frame[16];
  struct writer w = writer_of(frame, sizeof frame);
  if (l->warm.arrived) return;
  l->warm.arrived = true;
  frame_arrived_encode(&w, number);
  link_send(l, &w);
}

static void arrival_refuse(struct worker *w, struct data_connection data) {
  METRIC_ADD(&w->metrics, data_connections_refused_total, 1);
  data_connection_close(&data);
}

/* There is no such link, at least not here. */
static void arrival_lost(struct worker *w, struct data_connection data, const struct preface *p) {
  if (!stray_keep(w, &data, p)) arrival_refuse(w, data);
}

static void arrival_here(struct worker *w, struct data_connection data, const struct preface *p) {
  struct link *l = link_find(w, p->link_id);
  if (l == NULL) {
    arrival_lost(w, data, p);
    return;
  }
  data.keys = l->engine.state == LINK_UP ? secret_alloc(sizeof *data.keys) : NULL;
  if (data.keys == NULL || arrival_keys(l, p, data.keys) != 0) {
    arrival_refuse(w, data);
    return;
  }
  if (l->warm.asked > 0) l->warm.asked--;        /* it is here, even if there is no room for it */
  if (l->warm.idle_n >= WARM_MAX || warm_add(l, &data, false) != 0) {
    arrival_refuse(w, data);
    return;
  }
  METRIC_ADD(&w->metrics, data_connections_total, 1);
  if (data.wire.outer != NULL) METRIC_ADD(&w->metrics, data_connections_wrapped_total, 1);
  (void)link_ref(l);
  arrival_tell(l, p->number);
  warm_serve(l);
  warm_want(l);                    /* it may have been dead */
  link_unref(l);
}

static void arrival_deliver(struct loop *l, struct loop_msg *m) {
  struct arrival *a = CONTAINER_OF(m, struct arrival, msg);
  if (l != NULL) arrival_here(a->worker, a->data, &a->preface);
  else data_connection_close(&a->data);
  free(a);
}

void warm_arrived(struct worker *w, struct wire wire, const struct preface *p) {
  struct worker *to = registry_link_find(w->relay->registry, p->link_id);
  struct data_connection data = {.wire = wire};
  if (to == w || to == NULL) {
    arrival_here(w, data, p);
    return;
  }
  struct arrival *a = calloc(1, sizeof *a);
  if (a == NULL) {
    arrival_refuse(w, data);
    return;
  }
  a->msg.fn = arrival_deliver;
  a->worker = to;
  a->data = data;
  a->preface = *p;
  loop_post(to->loop, &a->msg);
}

/* With the link */

void warm_init(struct link *l) {
  memset(&l->warm, 0, sizeof l->warm);
  list_init(&l->warm.idle);
  list_init(&l->warm.waiting);
  l->warm.target = WARM_QUIET;
}

void warm_tick(struct link *l) {
  struct warm_pool *p = &l->warm;
  uint64_t now_ms = loop_now_ms(l->worker->loop);
  if (p->asked > 0 && now_ms - p->asked_ms > ASKED_LOST_MS) p->asked = 0;  /* dials that failed: ask again */
  if (p->hints > 0 && now_ms - p->hinted_ms > HINT_LIFE_MS) p->hints = 0;  /* handshakes that came to nothing */
  if (p->target > WARM_QUIET && now_ms - p->grown_ms > WARM_DECAY_MS) {
    p->target = p->target / 2 < WARM_QUIET ? WARM_QUIET : p->target / 2;
    p->grown_ms = now_ms;
  }
  while (p->idle_n > p->target + p->hints + WARM_QUIET) warm_drop(CONTAINER_OF(p->idle.prev, struct warm, node));
  LIST_FOREACH(&p->waiting, it) {
    struct ask *a = CONTAINER_OF(it, struct ask, node);
    if (!__atomic_load_n(&a->cancelled, __ATOMIC_ACQUIRE)) continue;
    list_remove(&a->node);
    p->waiting_n--;
    ask_answer(a, l->worker, DATA_CONNECTION_NONE);
  }
  link_keys_expire(l->engine.keys, now_ms);
  warm_want(l);
}

void warm_close(struct link *l) {
  LIST_FOREACH(&l->warm.idle, it) warm_drop(CONTAINER_OF(it, struct warm, node));
  while (!list_empty(&l->warm.waiting)) {
    struct ask *a = CONTAINER_OF(l->warm.waiting.next, struct ask, node);
    list_remove(&a->node);
    l->warm.waiting_n--;
    ask_answer(a, l->worker, DATA_CONNECTION_NONE);
  }
}

/* To another process and back */

enum { EXPORT_MAGIC = 0x61647731 /* "adw1" */, EXPORT_VERSION = 1 };

void warm_pool_write(const struct link *l, struct writer *w) {
  const struct warm_pool *p = &l->warm;
  uint64_t now_ms = loop_now_ms(l->worker->loop);
  write_u8(w, p->arrived);
  write_u16(w, (uint16_t)p->target);
  write_u16(w, (uint16_t)p->asked);
  write_u64(w, now_ms - p->asked_ms);
  write_u64(w, now_ms - p->grown_ms);
}

void warm_pool_read(struct link *l, struct reader *r) {
  struct warm_pool *p = &l->warm;
  uint64_t now_ms = loop_now_ms(l->worker->loop);
  warm_init(l);
  p->arrived = read_flag(r);
  p->target = read_u16(r);
  p->asked = read_u16(r);
  p->asked_ms = now_ms - size_min(read_u64(r), now_ms);
  p->grown_ms = now_ms - size_min(read_u64(r), now_ms);
  if (p->target < WARM_QUIET || p->target > WARM_MAX || p->asked > WARM_MAX) r->bad = true;
}

/* The last one first: an import puts each in front of those that are there, so the order stays. */
int warm_export(struct link *l, struct buf *state, int *fd) {
  if (list_empty(&l->warm.idle)) return ERR_CLOSED;
  struct warm *c = CONTAINER_OF(l->warm.idle.prev, struct warm, node);
  size_t n = 5 + LINK_ID_BYTES + sizeof *c->data.keys + wrap_export_bytes(c->data.wire.outer);
  if (n > state->max - state->len) return ERR_LIMIT;
  uint8_t *at = buf_reserve(state, n);
  if (at == NULL) return ERR_NOMEM;
  struct writer w = writer_of(at, n);
  struct data_connection data = warm_take(c, NULL);
  write_u32(&w, EXPORT_MAGIC);
  write_u8(&w, EXPORT_VERSION);
  write_bytes(&w, l->engine.id, LINK_ID_BYTES);
  write_bytes(&w, data.keys->preface, sizeof data.keys->preface);
  write_bytes(&w, data.keys->open, sizeof data.keys->open);
  write_bytes(&w, data.keys->accept, sizeof data.keys->accept);
  wrap_export(data.wire.outer, &w);
  ASSERT(!w.bad);
  buf_added(state, w.len);
  secret_free(data.keys, sizeof *data.keys);
  *fd = data.wire.fd;
  return 0;
}

static int import_data(struct reader *r, struct data_connection *data) {
  data->keys = secret_alloc(sizeof *data->keys);
  if (data->keys == NULL) return ERR_NOMEM;
  read_copy(r, data->keys->preface, sizeof data->keys->preface);
  read_copy(r, data->keys->open, sizeof data->keys->open);
  read_copy(r, data->keys->accept, sizeof data->keys->accept);
  int rc = wrap_import(r, &data->wire.outer);
  return rc == 0 && !reader_done(r) ? ERR_SYNTAX : rc;
}

int warm_import(struct worker *w, const uint8_t *state, size_t n, int fd) {
  struct reader r = reader_of(state, n);
  struct data_connection data = {.wire.fd = fd};
  bool known = read_u32(&r) == EXPORT_MAGIC;
  known = read_u8(&r) == EXPORT_VERSION && known;
  const uint8_t *id = read_bytes(&r, LINK_ID_BYTES);
  if (!known || id == NULL) return ERR_SYNTAX;
  struct link *l = link_find(w, id);
  int rc = import_data(&r, &data);
  if (rc == 0 && (l == NULL || l->engine.state != LINK_UP)) rc = ERR_CLOSED;
  if (rc == 0 && l->warm.idle_n >= WARM_MAX) rc = ERR_LIMIT;
  if (rc == 0) rc = warm_add(l, &data, true);
  if (rc == 0) {
    (void)link_ref(l);
    warm_serve(l);                 /* somebody may wait for it here already */
    link_unref(l);
    return 0;
  }
  data.wire.fd = -1;
  data_connection_close(&data);
  return rc;
}
