/* BIND, step by step:

     check      what is asked, the ticket, the token's limits
     register   the label leads here from now on; whoever held it is told `superseded`
     port       a raw port's lease, committed to the state          (keeper)
     listen     the port leads here                                 (the port's worker)
     announce   BOUND with a fresh ticket

   Closing may come between any two. A bound that is closed with a step under way is kept until the step is back, and
   undone then. */
#include "relay/bind.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/secret.h"
#include "base/text.h"
#include "relay/bound_move.h"
#include "relay/keeper.h"
#include "relay/raw.h"
#include "relay/tickets.h"

enum { PORT_TRIES_MAX = 20 };

struct job {                       /* a step under way */
  struct bound *bound;
  struct port_request port;
  struct raw_request raw;
};

static void log_tunnel(const char *event, const struct bound *b, const char *reason) {
  char label[LABEL_LOG_CHARS + 1];
  const struct tunnel *t = b->tunnel;
  memcpy(label, t->label, LABEL_LOG_CHARS);
  label[LABEL_LOG_CHARS] = '\0';
  log_event(LOG_INFO, event, "label", label, "owner", t->owner->name, "tcp_port", LOG_U64(t->tcp_port), "streams",
            LOG_U64(__atomic_load_n(&t->streams_total, __ATOMIC_RELAXED)), "reason", reason, NULL);
}

/* Whom we refuse, or end, may ask again under the same id. One that the agent has given up stays used: an OPEN for it
   may be under way, and must not meet another tunnel. */
static void send_unbound(struct link *l, uint32_t id, enum refusal why) {
  uint8_t frame[FRAME_HEADER_BYTES + 64];
  struct writer w = writer_of(frame, sizeof frame);
  struct frame_unbound f = {.id = id, .reason = (uint16_t)why};
  if (why != REFUSE_CLOSED) window_give_back(&l->bind_ids, id);
  frame_unbound_encode(&w, &f);
  link_send(l, &w);
}

/* A port that was new, and that its agent was never told of, is nobody's. */
static void port_give_back(struct bound *b, enum port_fate fate) {
  struct tunnel *t = b->tunnel;
  if (fate == PORT_KEPT && b->port_is_new && !b->announced) fate = PORT_FORGOTTEN;
  keeper_release_port(b->link->worker->relay->keeper, t->tcp_port, t->serial, fate);
  b->leased = false;
}

/* The end of a bound */

static void bound_free(struct bound *b) {
  struct link *l = b->link;
  l->bound_n--;
  tunnel_unref(l->worker->relay->registry, b->tunnel);
  free(b);
  link_unref(l);
}

/* Takes it out of all places; the memory goes when no step is under way. */
static void bound_remove(struct bound *b, enum refusal why) {
  struct link *l = b->link;
  struct relay *r = l->worker->relay;
  struct tunnel *t = b->tunnel;
  if (b->gone) return;
  b->gone = true;
  list_remove(&b->node);
  registry_remove(r->registry, t);
  if (b->announced) {
    METRIC_SUB(&l->worker->metrics, tunnels_now, 1);
    log_tunnel("tunnel_closed", b, refusal_name(why));
  }
  if (b->job != NULL && keeper_withdraw_port(r->keeper, &b->job->port)) {
    free(b->job);
    b->steps--;
  }
  if (b->leased && b->steps == 0) {
    raw_detach(r, t->tcp_port, t);
    port_give_back(b, PORT_KEPT);
  }
  if (b->steps == 0) bound_free(b);
}

static void bound_refuse(struct bound *b, enum refusal why) {
  struct link *l = b->link;
  uint32_t id = b->tunnel->bind_id;
  (void)link_ref(l);
  bound_remove(b, why);
  send_unbound(l, id, why);
  link_unref(l);
}

/* Being superseded comes from another worker. */
struct supersede {
  struct loop_msg msg;
  struct tunnel *tunnel;
};

static struct bound *bound_of(struct link *l, uint32_t id) {
  LIST_FOREACH(&l->bound, it) {
    struct bound *b = CONTAINER_OF(it, struct bound, node);
    if (b->tunnel->bind_id == id) return b;
  }
  return NULL;
}

static void supersede_here(struct loop *loop, struct loop_msg *m) {
  struct supersede *s = CONTAINER_OF(m, struct supersede, msg);
  struct worker *w = s->tunnel->worker;
  struct link *l = loop != NULL ? link_find(w, s->tunnel->link_id) : NULL;
  struct bound *b = l != NULL ? bound_of(l, s->tunnel->bind_id) : NULL;
  if (b != NULL && b->tunnel == s->tunnel) bound_refuse(b, REFUSE_SUPERSEDED);
  tunnel_unref(w->relay->registry, s->tunnel);
  free(s);
}

static void supersede(struct relay *r, struct tunnel *old) {
  struct supersede *s = calloc(1, sizeof *s);
  if (s == NULL) {                 /* the loser is not told, but the label leads to the winner */
    tunnel_unref(r->registry, old);
    return;
  }
  s->msg.fn = supersede_here;
  s->tunnel = old;                 /* with its reference */
  loop_post(old->worker->loop, &s->msg);
}

/* announce */

static int make_ticket(struct link *l, const struct tunnel *t, uint8_t out[TICKET_MAX_BYTES], size_t *n) {
  struct relay *r = l->worker->relay;
  struct ticket k = {.tcp_port = t->tcp_port,
                     .incarnation = t->incarnation,
                     .expires_s = loop_wall_s(l->worker->loop) + TICKET_LIFE_S};
  strcpy(k.relay, r->options->domain);
  memcpy(k.owner, t->holder, sizeof k.owner);
  strcpy(k.label, t->label);
  return tickets_make(r, &k, out, n);
}

static void bound_announce(struct bound *b) {
  struct link *l = b->link;
  struct relay *r = l->worker->relay;
  struct tunnel *t = b->tunnel;
  uint8_t frame[FRAME_HEADER_BYTES + 2 * (HOST_NAME_MAX_CHARS + 1) + TICKET_MAX_BYTES + 64], ticket[TICKET_MAX_BYTES];
  struct writer w = writer_of(frame, sizeof frame);
  struct frame_bound f = {.id = t->bind_id,
                          .port = r->public_port,
                          .tcp_port = t->tcp_port,
                          .plain = (t->flags & TUNNEL_PLAIN) != 0,
                          .ticket = ticket};
  if (make_ticket(l, t, ticket, &f.ticket_n) != 0) {
    bound_refuse(b, REFUSE_INTERNAL);
    return;
  }
  strcpy(f.host, t->host);
  if (t->tcp_port != 0) strcpy(f.tcp_host, r->public_host);
  b->announced = true;
  METRIC_ADD(&l->worker->metrics, tunnels_now, 1);
  METRIC_ADD(&l->worker->metrics, tunnels_total, 1);
  log_tunnel("tunnel_open", b, "");
  frame_bound_encode(&w, &f);
  link_send(l, &w);
}

bool bind_renew(struct link *l) {
  uint64_t now_ms = loop_now_ms(l->worker->loop);
  LIST_FOREACH(&l->bound, it) {
    struct bound *b = CONTAINER_OF(it, struct bound, node);
    uint8_t frame[FRAME_HEADER_BYTES + TICKET_MAX_BYTES + 16], ticket[TICKET_MAX_BYTES];
    struct writer w = writer_of(frame, sizeof frame);
    struct frame_ticket f = {.id = b->tunnel->bind_id, .ticket = ticket};
    if (!b->announced || b->renewed_ms > l->renewed_ms) continue;
    if (engine_waiting(&l->engine) > LINK_OUT_MAX_BYTES / 2) return false;
    b->renewed_ms = now_ms;
    if (make_ticket(l, b->tunnel, ticket, &f.ticket_n) != 0) continue;
    frame_ticket_encode(&w, &f);
    link_send(l, &w);
    if (l->engine.state == LINK_DOWN) return true;
  }
  return true;
}

/* port and listen */

static void step_port(struct job *j);

/* Whether a port that it has got is of no use any more: where it has moved to, it asks for the one that it was told of
   or had before, and for any other anew. */
static bool port_is_spent(const struct bound *b) { return !b->moved || (b->port_is_new && !b->announced); }

/* A step is back. True when the bound was closed meanwhile: then everything is undone here. */
static bool step_back(struct job *j, bool attached) {
  struct bound *b = j->bound;
  struct relay *r = b->link->worker->relay;
  b->steps--;
  if (!b->gone) return false;
  if (attached && port_is_spent(b)) raw_detach(r, b->tunnel->tcp_port, b->tunnel);
  if (b->leased && port_is_spent(b)) port_give_back(b, PORT_KEPT);
  free(j);
  bound_free(b);
  return true;
}

/* Why a port cannot be listened on. What lies in the port is tried with another, or told its owner for good; whatever
   else is wrong with this host passes, and costs nobody his address. */
static enum refusal listen_refusal(const struct bound *b, int result) {
  switch (result) {
    case ERR_CONFLICT: case ERR_AUTH: return b->port_is_new ? REFUSE_PORTS_EXHAUSTED : REFUSE_TICKET;
    case ERR_NOT_NOW: return REFUSE_SUPERSEDED;
    case ERR_CLOSED: return REFUSE_DRAINING;
    case ERR_LIMIT: case ERR_NOMEM: return REFUSE_SHORTAGE;
    default: return REFUSE_INTERNAL;
  }
}

static void step_listened(struct raw_request *q) {
  struct job *j = CONTAINER_OF(q, struct job, raw);
  struct bound *b = j->bound;
  if (step_back(j, q->result == 0)) return;
  if (q->result == 0) {
    free(j);
    bound_announce(b);
    return;
  }
  enum refusal why = listen_refusal(b, q->result);
  port_give_back(b, why == REFUSE_PORTS_EXHAUSTED ? PORT_AVOIDED : PORT_KEPT);
  __atomic_store_n(&b->tunnel->tcp_port, 0, __ATOMIC_RELAXED);
  if (why == REFUSE_PORTS_EXHAUSTED && ++b->tries < PORT_TRIES_MAX) {
    step_port(j);
    return;
  }
  free(j);
  bound_refuse(b, why);
}

static enum refusal port_refusal(int result) {
  switch (result) {
    case ERR_LIMIT: return REFUSE_PORTS_EXHAUSTED;
    case ERR_CONFLICT: return REFUSE_TICKET;
    case ERR_NOT_NOW: return REFUSE_SUPERSEDED;
    case ERR_CLOSED: return REFUSE_DRAINING;
    default: return REFUSE_STATE;
  }
}

static void step_leased(struct port_request *q) {
  struct job *j = CONTAINER_OF(q, struct job, port);
  struct bound *b = j->bound;
  b->job = NULL;
  b->leased = q->result == 0;
  if (b->leased) __atomic_store_n(&b->tunnel->tcp_port, q->port, __ATOMIC_RELAXED);
  if (step_back(j, false)) return;
  if (q->result == 0) {
    b->steps++;
    raw_attach(&j->raw, b->link->worker, q->port, b->tunnel, step_listened);
    return;
  }
  enum refusal why = port_refusal(q->result);
  free(j);                         /* and q with it */
  bound_refuse(b, why);
}

/* It is listened on already; only the keeper had not been told who holds it. */
static void step_adopted(struct port_request *q) {
  struct job *j = CONTAINER_OF(q, struct job, port);
  struct bound *b = j->bound;
  int result = q->result == ERR_CLOSED ? 0 : q->result;  /* a relay that ends keeps it as long as it lives */
  b->job = NULL;
  b->leased = q->result == 0;
  if (step_back(j, true)) return;
  free(j);
  if (result == 0) return;
  raw_detach(b->link->worker->relay, b->tunnel->tcp_port, b->tunnel);
  bound_refuse(b, port_refusal(result));
}

static void step_port(struct job *j) {
  struct bound *b = j->bound;
  memset(&j->port, 0, sizeof j->port);
  memcpy(j->port.owner, b->tunnel->holder, TOKEN_ID_BYTES);
  strcpy(j->port.label, b->tunnel->label);
  j->port.serial = b->tunnel->serial;
  j->port.max_tunnels = b->tunnel->owner->root->max_tunnels;
  j->port.adopts = b->announced;
  j->port.port = b->port_is_new && !b->announced ? 0 : b->tunnel->tcp_port;
  j->port.done = b->announced ? step_adopted : step_leased;
  b->job = j;
  b->steps++;
  keeper_take_port(b->link->worker->relay->keeper, b->link->worker, &j->port);
}

static void bound_ask_port(struct bound *b) {
  struct job *j = calloc(1, sizeof *j);
  if (j == NULL) {
    bound_refuse(b, REFUSE_INTERNAL);
    return;
  }
  j->bound = b;
  step_port(j);
}

/* check and register */

/* The certificate that h2 needs is not made here, but when the first visitor comes: a link asks for tunnels at no
   cost. */
static enum refusal check_flags(const struct relay *r, const struct frame_bind *f) {
  const struct relay_options *o = r->options;
  if (alpn_check(f->alpn, f->alpn_n) != 0) return REFUSE_ALPN;
  if ((f->flags & TUNNEL_TCP) != 0 && o->tcp_port_from == 0) return REFUSE_NO_RAW_PORTS;
  if ((f->flags & TUNNEL_PLAIN) != 0 && !o->plain_allowed) return REFUSE_PLAIN;
  if ((f->flags & TUNNEL_H2) == 0) return alpn_contains(f->alpn, f->alpn_n, "h2") ? REFUSE_H2 : REFUSE_NONE;
  return certs_makes_exact(r->certs) || o->h2_shared_name ? REFUSE_NONE : REFUSE_H2;
}

/* What was taken away when the token was narrowed. */
static enum refusal check_token(const struct owner *o, const struct frame_bind *f) {
  if ((f->flags & TUNNEL_TCP) != 0 && o->no_raw) return REFUSE_TOKEN_RAW;
  return cidrs_meet(o->allow, o->allow_n, f->allow, f->allow_n) ? REFUSE_NONE : REFUSE_TOKEN_ALLOW;
}

/* An embedded relay's programs have a new token at each start, and their addresses stay what they were: there the
   ticket alone is the right to them, which nobody but their user can have. He holds them all, so that what is bounded
   for each holder is bounded for him, however many programs he starts. */
static void set_holder(const struct link *l, uint8_t holder[TOKEN_ID_BYTES]) {
  if (relay_is_embedded(l->worker->relay)) memset(holder, 0, TOKEN_ID_BYTES);
  else memcpy(holder, l->owner->root->id, TOKEN_ID_BYTES);
}

static bool is_holder(const struct link *l, const uint8_t holder[TOKEN_ID_BYTES]) {
  return relay_is_embedded(l->worker->relay) || memcmp(holder, l->owner->root->id, TOKEN_ID_BYTES) == 0;
}

/* A ticket brings label, port and the right to them; without one the label is new. */
static enum refusal check_ticket(struct link *l, struct tunnel *t, const struct frame_bind *f) {
  struct relay *r = l->worker->relay;
  struct ticket k;
  if (f->ticket_n == 0) {
    uint8_t random[LABEL_RANDOM_BYTES];
    loop_random(l->worker->loop, random, sizeof random);
    base32_encode(random, sizeof random, t->label);
    set_holder(l, t->holder);
    t->incarnation = f->incarnation;
    return REFUSE_NONE;
  }
  int rc = tickets_read(r, f->ticket, f->ticket_n, &k);
  if (rc != 0 || strcmp(k.relay, r->options->domain) != 0 || !is_holder(l, k.owner) ||
      k.expires_s <= loop_wall_s(l->worker->loop) || f->incarnation < k.incarnation)
    return REFUSE_TICKET;
  strcpy(t->label, k.label);
  memcpy(t->holder, k.owner, sizeof t->holder);
  t->incarnation = f->incarnation;
  t->tcp_port = k.tcp_port;
  return REFUSE_NONE;
}

struct tunnel *bind_tunnel_new(struct link *l) {
  struct tunnel *t = calloc(1, sizeof *t);
  if (t == NULL) return NULL;
  t->refs = 1;
  t->owner = owner_ref(l->owner);
  t->worker = l->worker;
  memcpy(t->link_id, l->engine.id, sizeof t->link_id);
  memcpy(t->agent, l->software, sizeof t->agent);
  t->agent_from = l->peer;
  t->opened_ms = loop_now_ms(l->worker->loop);
  return t;
}

static struct tunnel *tunnel_new(struct link *l, const struct frame_bind *f) {
  struct tunnel *t = bind_tunnel_new(l);
  if (t == NULL) return NULL;
  t->bind_id = f->id;
  t->flags = f->flags;
  if (tunnel_set_admission(t, f->allow, f->allow_n, f->deny, f->deny_n) == 0) return t;
  tunnel_unref(l->worker->relay->registry, t);
  return NULL;
}

static enum refusal bind_check(struct link *l, struct tunnel *t, const struct frame_bind *f) {
  enum refusal why = l->bound_n >= LINK_TUNNELS_MAX ? REFUSE_TUNNEL_LIMIT : check_token(l->owner, f);
  if (why == REFUSE_NONE) why = check_ticket(l, t, f);
  if (why != REFUSE_NONE) return why;
  int n = snprintf(t->host, sizeof t->host, "%s.%s", t->label, l->worker->relay->options->domain);
  if (n < 0 || (size_t)n >= sizeof t->host) return REFUSE_INTERNAL;
  why = check_flags(l->worker->relay, f);
  if (why != REFUSE_NONE) return why;
  memcpy(t->alpn, f->alpn, f->alpn_n);
  t->alpn_n = f->alpn_n;
  if ((f->flags & TUNNEL_TCP) == 0) t->tcp_port = 0;
  return REFUSE_NONE;
}

static enum refusal place_refusal(int rc) {
  switch (rc) {
    case 0: return REFUSE_NONE;
    case ERR_LIMIT: return REFUSE_TUNNEL_LIMIT;
    case ERR_CONFLICT: return REFUSE_SUPERSEDED;
    default: return REFUSE_INTERNAL;
  }
}

/* Its tunnel has its place, and whoever had that is told, unless it is what the same link has left behind here. */
static void bound_enter(struct bound *b, struct tunnel *replaced) {
  struct link *l = b->link;
  struct relay *r = l->worker->relay;
  bool left = replaced != NULL && memcmp(replaced->link_id, l->engine.id, sizeof replaced->link_id) == 0 &&
              replaced->serial == b->tunnel->serial;
  if (left) tunnel_unref(r->registry, replaced);
  else if (replaced != NULL) supersede(r, replaced);
  (void)link_ref(l);
  list_push_tail(&l->bound, &b->node);
  l->bound_n++;
}

static enum refusal bind_register(struct link *l, struct tunnel *t, struct bound **out) {
  struct tunnel *replaced;
  struct bound *b = calloc(1, sizeof *b);
  if (b == NULL) return REFUSE_INTERNAL;
  int rc = registry_put(l->worker->relay->registry, t, &replaced);
  if (rc != 0) {
    free(b);
    return place_refusal(rc);
  }
  b->link = l;
  b->tunnel = t;                   /* with its reference */
  b->port_is_new = t->tcp_port == 0;
  bound_enter(b, replaced);
  *out = b;
  return REFUSE_NONE;
}

void bind_request(struct link *l, const struct frame_bind *f) {
  struct relay *r = l->worker->relay;
  struct bound *b = NULL;
  if (!window_take(&l->bind_ids, f->id)) {
    link_end(l, REFUSE_MALFORMED);
    return;
  }
  if (relay_draining(r)) {         /* its link ends as soon as the visitors that are here have their streams */
    send_unbound(l, f->id, REFUSE_DRAINING);
    return;
  }
  struct tunnel *t = tunnel_new(l, f);
  enum refusal why = t == NULL ? REFUSE_INTERNAL : bind_check(l, t, f);
  if (why == REFUSE_NONE) why = bind_register(l, t, &b);
  if (why != REFUSE_NONE) {
    if (t != NULL) tunnel_unref(r->registry, t);
    send_unbound(l, f->id, why);
    return;
  }
  if ((f->flags & TUNNEL_TCP) == 0) {
    bound_announce(b);
    return;
  }
  bound_ask_port(b);
}

void bind_close(struct link *l, uint32_t id) {
  struct bound *b = bound_of(l, id);
  (void)window_take(&l->bind_ids, id);           /* also when we had refused it meanwhile */
  if (b != NULL) bound_refuse(b, REFUSE_CLOSED);
}

void bind_close_all(struct link *l) {
  LIST_FOREACH(&l->bound, it) bound_remove(CONTAINER_OF(it, struct bound, node), REFUSE_CLOSED);
}

/* Of the reason that most were refused for; the others have their turn later. */
static enum notice most_frequent(const struct tunnel *t) {
  enum notice most = NOTICE_NONE;
  uint32_t count = 0;
  for (int i = NOTICE_NONE + 1; i < NOTICES; i++) {
    uint32_t n = __atomic_load_n(&t->refused[i], __ATOMIC_RELAXED);
    if (n > count) most = (enum notice)i;
    if (n > count) count = n;
  }
  return most;
}

void bind_tell_refused(struct link *l, uint64_t now_ms) {
  LIST_FOREACH(&l->bound, it) {
    struct bound *b = CONTAINER_OF(it, struct bound, node);
    enum notice why = most_frequent(b->tunnel);
    if (why == NOTICE_NONE || !b->announced || (b->told_ms != 0 && now_ms - b->told_ms < NOTICE_EVERY_MS)) continue;
    uint8_t frame[FRAME_HEADER_BYTES + 16];
    struct writer w = writer_of(frame, sizeof frame);
    struct frame_notice f = {.id = b->tunnel->bind_id,
                             .reason = (uint16_t)why,
                             .count = __atomic_exchange_n(&b->tunnel->refused[why], 0, __ATOMIC_RELAXED)};
    b->told_ms = now_ms;
    frame_notice_encode(&w, &f);
    link_send(l, &w);
    if (l->engine.state != LINK_UP) return;             /* it ended at that, and the list with it */
  }
}

/* To another process and back */

static void bound_let_go(struct bound *b) {
  struct worker *w = b->link->worker;
  list_remove(&b->node);
  if (b->announced) METRIC_SUB(&w->metrics, tunnels_now, 1);
  b->gone = b->moved = true;
  if (b->job != NULL && keeper_withdraw_port(w->relay->keeper, &b->job->port)) {
    free(b->job);
    b->steps--;
  }
  if (b->steps == 0) bound_free(b);
}

void bind_let_go(struct link *l) {
  LIST_FOREACH(&l->bound, it) bound_let_go(CONTAINER_OF(it, struct bound, node));
}

void bind_resume(struct bound *b) {
  struct link *l = b->link;
  struct tunnel *replaced;
  memcpy(b->tunnel->link_id, l->engine.id, sizeof b->tunnel->link_id);
  int rc = registry_put_moved(l->worker->relay->registry, b->tunnel, &replaced);
  if (rc != 0) {
    uint32_t id = b->tunnel->bind_id;
    bound_discard(b);
    send_unbound(l, id, place_refusal(rc));
    return;
  }
  bound_enter(b, replaced);
  if (b->announced) METRIC_ADD(&l->worker->metrics, tunnels_now, 1);
  b->leased = b->announced && b->tunnel->tcp_port != 0;
  if ((b->tunnel->flags & TUNNEL_TCP) != 0) bound_ask_port(b);
}
