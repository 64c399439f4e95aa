/* A tunnel's life in the loop's thread: asked for, bound, bound again after each loss of the link, ended. The hard
   thing: two threads know it. What the host reads is either immutable once published (the address) or under the
   client's lock; all else is this thread's. tunnel_host.c has what the host's threads call. */
#include "agent/tunnel.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/link.h"

struct adit_tunnel *tunnel_find(struct adit_client *c, uint32_t id) {
  LIST_FOREACH(&c->tunnels, it) {
    struct adit_tunnel *t = CONTAINER_OF(it, struct adit_tunnel, node);
    if (t->id == id && id != 0 && t->state != TUNNEL_ENDED) return t;
  }
  return NULL;
}

bool tunnel_retries(const struct adit_tunnel *t) {
  bool was_open = atomic_load(&t->address) != NULL;
  return t->request.retry_ms != 0 && !was_open && t->state != TUNNEL_ENDED && !tunnel_is_closing(t);
}

static void tunnel_tried_enough(struct loop_timer *timer) {
  struct adit_tunnel *t = CONTAINER_OF(timer, struct adit_tunnel, opening);
  const struct trouble *trouble = &t->client->trouble;
  if (t->state == TUNNEL_BINDING && link_is_up(t->client->link)) {
    link_unbind(t->client->link, t->id);
    link_flush(t->client->link);
  }
  if (trouble->code != 0) tunnel_fail(t, trouble->code, "relay_unreachable", trouble->text);
  else
    tunnel_fail(t, ADIT_ETIMEDOUT, "timeout", "relay: it has not opened the tunnel in the time that was given (is it "
                                              "overloaded, or something between in the way?)");
}

int tunnel_open_within(struct adit_tunnel *t, uint64_t ms) {
  return loop_timer_set(t->client->loop, &t->opening, ms, tunnel_tried_enough);
}

void tunnel_attach(struct adit_tunnel *t) {
  struct adit_client *c = t->client;
  list_push_tail(&c->tunnels, &t->node);
  if (t->request.retry_ms > 0)
    (void)!tunnel_open_within(t, (uint64_t)t->request.retry_ms);
}

bool tunnel_is_closing(const struct adit_tunnel *t) { return t->exit != TUNNEL_STAYS; }

bool tunnel_wants_bind(const struct adit_tunnel *t) {
  return t->state == TUNNEL_UNBOUND && !tunnel_is_closing(t) && !loop_timer_is_set(&t->retry);
}

void tunnel_detach_link(struct adit_tunnel *t) {
  loop_timer_stop(&t->retry);
  t->id = 0;
  if (t->state != TUNNEL_ENDED) t->state = TUNNEL_UNBOUND;
}

void tunnel_bind(struct adit_tunnel *t, struct link *l) {
  const struct tunnel_request *r = &t->request;
  if (!link_may_bind(l)) return;
  if (t->id == 0) t->id = ++t->client->last_bind_id;
  struct frame_bind f = {.id = t->id, .flags = r->flags, .alpn = r->alpn, .alpn_n = r->alpn_n, .allow_n = r->allow_n,
    .deny_n = r->deny_n, .ticket = t->keep.ticket, .ticket_n = t->keep.ticket_n, .incarnation = t->keep.incarnation};
  memcpy(f.allow, r->allow, sizeof f.allow);
  memcpy(f.deny, r->deny, sizeof f.deny);
  link_bind(l, &f);
  t->state = TUNNEL_BINDING;
}

static void tunnel_end_if_due(struct adit_tunnel *t);

void tunnel_fail(struct adit_tunnel *t, int code, const char *reason, const char *text) {
  if (t->state == TUNNEL_ENDED) return;
  struct adit_client *c = t->client;
  t->state = TUNNEL_ENDED;
  loop_timer_stop(&t->retry);
  loop_timer_stop(&t->opening);
  keep_give_up(&t->keep);          /* from now on the file is for the next tunnel, of this program or another */
  pthread_mutex_lock(&c->lock);
  t->shown = SHOWN_ENDED;
  t->end_reason = reason;
  t->end.code = code;
  strncpy(t->end.text, text, sizeof t->end.text - 1);
  pthread_cond_broadcast(&c->changed);
  pthread_mutex_unlock(&c->lock);
  enum adit_event_kind kind = strcmp(reason, "superseded") == 0 ? ADIT_EVENT_SUPERSEDED : ADIT_EVENT_CLOSED;
  events_tell(&c->events, kind, t, code, reason, "%s", text);
  tunnel_end_if_due(t);            /* one that is closing may have waited for the write that was given up */
}

static bool address_same(const struct tunnel_address *a, const struct frame_bound *f) {
  return a != NULL && a->port == f->port && a->tcp_port == f->tcp_port && strcmp(a->host, f->host) == 0 &&
         strcmp(a->tcp_host, f->tcp_host) == 0;
}

struct tunnel_address *tunnel_address_new(const struct frame_bound *f) {
  struct tunnel_address *a = calloc(1, sizeof *a);
  if (a == NULL) return NULL;
  memcpy(a->host, f->host, sizeof a->host);
  memcpy(a->tcp_host, f->tcp_host, sizeof a->tcp_host);
  a->port = f->port;
  a->tcp_port = f->tcp_port;
  struct host_port hp = {.port = f->port};
  memcpy(hp.host, f->host, sizeof hp.host);
  memcpy(a->url, "https://", 8);
  if (f->port == 443) strcpy(a->url + 8, f->host);
  else host_port_format(&hp, a->url + 8, sizeof a->url - 8);
  return a;
}

static void tunnel_tell(struct adit_tunnel *t);
static void tunnel_keep(struct adit_tunnel *t, const char *host);

static void tunnel_tell_kept(struct keep *k, const struct err *e, const char *old) {
  struct adit_tunnel *t = CONTAINER_OF(k, struct adit_tunnel, keep);
  if (e->code != 0) events_tell(&t->client->events, ADIT_EVENT_WARNING, t, ADIT_ESYSTEM, "keep_file", "%s", e->text);
  if (old != NULL)
    events_tell(&t->client->events, ADIT_EVENT_WARNING, t, 0, "keep_file",
                "keep file %s: the ticket of the old address is now in %s (move it back and "
                "start again once the relay may know it, or delete it)",
                t->request.keep_file, old);
}

static void tunnel_kept(struct keep *k, bool again) {
  struct adit_tunnel *t = CONTAINER_OF(k, struct adit_tunnel, keep);
  if (again && !tunnel_is_closing(t)) tunnel_keep(t, atomic_load(&t->address)->host);
  if (!keep_is_writing(k) && !t->told && t->state == TUNNEL_OPEN && !tunnel_is_closing(t)) tunnel_tell(t);
  tunnel_end_if_due(t);            /* a tunnel that is closing may have waited for this alone */
}

/* On disk before anybody is told the address: a crash right after must find it again. */
static void tunnel_keep(struct adit_tunnel *t, const char *host) {
  static const struct keep_handlers handlers = {.told = tunnel_tell_kept, .ended = tunnel_kept};
  keep_write(&t->keep, t->client->loop, t->client->home, host, &handlers);
}

void tunnel_ticket(struct adit_tunnel *t, const uint8_t *ticket, size_t n) {
  const struct tunnel_address *a = atomic_load(&t->address);
  if (a == NULL || !keep_set(&t->keep, ticket, n)) return;
  /* They come once a day; a relay that sends them without end must not keep our disk busy. */
  if (loop_now_ms(t->client->loop) - t->keep.written_ms >= TICKET_KEEP_MIN_MS) tunnel_keep(t, a->host);
}

/* Visitors can reach it: tells whoever waits, and of a new address by an event. */
static void tunnel_tell(struct adit_tunnel *t) {
  struct adit_client *c = t->client;
  bool is_new = !t->told;
  t->told = true;
  pthread_mutex_lock(&c->lock);
  t->shown = SHOWN_OPEN;
  c->trouble.code = 0;
  pthread_cond_broadcast(&c->changed);
  pthread_mutex_unlock(&c->lock);
  if (is_new) events_tell(&c->events, ADIT_EVENT_OPEN, t, 0, "open", "%s", atomic_load(&t->address)->url);
  if (is_new && t->sealed_instead)
    events_tell(&c->events, ADIT_EVENT_WARNING, t, 0, "sealed",
                "the relay does not allow plain raw ports: their bytes are sealed between it and here");
  c->on_tunnel->open(c);
}

void tunnel_bound(struct adit_tunnel *t, const struct frame_bound *f) {
  struct adit_client *c = t->client;
  if (t->state != TUNNEL_BINDING || tunnel_is_closing(t)) return;
  struct tunnel_address *old = atomic_load(&t->address);
  bool same = address_same(old, f);
  if (!same) {
    struct tunnel_address *a = NULL;
    if (t->addresses_n == TUNNEL_ADDRESSES_MAX) {
      link_unbind(c->link, t->id);
      tunnel_fail(t, ADIT_EREFUSED, "address_changes",
                  "the relay gives it another address again and again (tell its operator)");
      return;
    }
    if ((a = tunnel_address_new(f)) == NULL) {
      tunnel_fail(t, ADIT_ENOMEM, "out_of_memory", "out of memory");
      return;
    }
    a->older = old;
    t->addresses_n++;
    atomic_store(&t->address, a);
    t->told = false;
  }
  t->state = TUNNEL_OPEN;
  loop_timer_stop(&t->opening);
  (void)keep_set(&t->keep, f->ticket, f->ticket_n);
  if (c->home[0] == '\0' && c->link != NULL) memcpy(c->home, c->link->choice->name, sizeof c->home);
  t->sealed_instead = (t->request.flags & TUNNEL_PLAIN) != 0 && !f->plain;
  tunnel_keep(t, f->host);
  if (t->told || !keep_is_writing(&t->keep)) tunnel_tell(t);   /* else once it is kept */
}

static void tunnel_rebind(struct adit_tunnel *t) {
  t->state = TUNNEL_UNBOUND;
  if (!link_is_up(t->client->link)) return;
  tunnel_bind(t, t->client->link); /* flushed by whoever reads the link, or by the retry timer */
}

static void tunnel_retry_due(struct loop_timer *timer) {
  struct adit_tunnel *t = CONTAINER_OF(timer, struct adit_tunnel, retry);
  if (t->state != TUNNEL_UNBOUND || tunnel_is_closing(t) || !link_is_up(t->client->link)) return;
  t->id = 0;                       /* by now the old one may be too far back for the relay to take it */
  tunnel_rebind(t);
  link_flush(t->client->link);
}

int tunnel_retry_in(struct adit_tunnel *t, uint64_t ms) {
  return loop_timer_set(t->client->loop, &t->retry, ms, tunnel_retry_due);
}

static void tunnel_rebind_later(struct adit_tunnel *t) {
  t->state = TUNNEL_UNBOUND;
  (void)!tunnel_retry_in(t, TUNNEL_RETRY_MS);
}

void tunnel_unbound(struct adit_tunnel *t, enum refusal reason, const char *came) {
  char text[ERR_TEXT_MAX];
  if (tunnel_is_closing(t) || reason == REFUSE_CLOSED) return;
  refusal_explain(reason, came, text, sizeof text);
  if (reason == REFUSE_TICKET && t->keep.ticket_n > 0 && atomic_load(&t->address) == NULL) {
    /* A new address would overwrite one that another token, or another relay, may still have a right to. */
    char why[ERR_TEXT_MAX];
    snprintf(why, sizeof why, "keep file %.200s: its address is not valid with this token at this relay "
             "(use another file, or delete it for a new address)", t->request.keep_file);
    tunnel_fail(t, events_errno_of(reason), refusal_name(reason), why);
    return;
  }
  if (reason == REFUSE_TICKET && t->keep.ticket_n > 0) {
    keep_forget(&t->keep);
    events_tell(&t->client->events, ADIT_EVENT_WARNING, t, 0, refusal_name(reason),
                "the address has changed: %s", text);
    uint64_t now = loop_now_ms(t->client->loop);
    bool again = t->ticket_refused_ms != 0 && now - t->ticket_refused_ms < TUNNEL_RETRY_MS;
    t->ticket_refused_ms = now;
    if (again) tunnel_rebind_later(t);     /* a relay that refuses its own tickets sets the pace otherwise */
    else tunnel_rebind(t);
    return;
  }
  /* What was open once is worth asking for again; a new tunnel's owner wants to hear the refusal. */
  if (refusal_is_final(reason) || (atomic_load(&t->address) == NULL && reason != REFUSE_DRAINING)) {
    tunnel_fail(t, events_errno_of(reason), refusal_name(reason), text);
    return;
  }
  events_tell(&t->client->events, ADIT_EVENT_WARNING, t, events_errno_of(reason), refusal_name(reason),
              "%s; trying again", text);
  tunnel_rebind_later(t);
}

/* A relay that says it again and again need not be listened to. */
void tunnel_noticed(struct adit_tunnel *t, uint16_t reason, uint32_t count) {
  uint64_t left_out;
  if (!seldom_due(&t->notice_warned, loop_now_ms(t->client->loop), NOTICE_EVERY_MS / 2, &left_out)) return;
  events_tell(&t->client->events, ADIT_EVENT_WARNING, t, ADIT_EREFUSED, notice_name(reason),
              "%u visitor%s refused: %s", count, count == 1 ? "" : "s", notice_text(reason));
}

/* ---- closing ---- */

/* End of a turn: nothing of ours refers to it any more. From here on its memory is the host's thread's. */
static void tunnel_leave(struct loop_deferred *f) {
  struct adit_tunnel *t = CONTAINER_OF(f, struct adit_tunnel, defer);
  struct adit_client *c = t->client;
  events_forget(&c->events, t);
  pthread_mutex_lock(&c->lock);
  t->shown = SHOWN_GONE;
  if (t->end.code == 0) {
    t->end.code = ADIT_ECLOSED;
    strcpy(t->end.text, "the tunnel was closed");
  }
  pthread_cond_broadcast(&c->changed);
  pthread_mutex_unlock(&c->lock);
  c->on_tunnel->gone(c);
}

/* The last stream has ended, and the ticket is on the disk. Who waits in tunnel_finish still holds it. */
static void tunnel_tell_finished(struct adit_tunnel *t) {
  struct adit_client *c = t->client;
  pthread_mutex_lock(&c->lock);
  t->finish = FINISH_DONE;
  pthread_cond_broadcast(&c->changed);
  pthread_mutex_unlock(&c->lock);
}

/* Whoever finishes a tunnel has a limit of his own; whoever closes one waits for the disk, too, but not for ever. */
static bool tunnel_waits_for_disk(struct adit_tunnel *t) {
  return keep_is_writing(&t->keep) && (t->exit == TUNNEL_FINISHES || keep_may_end(&t->keep, t->client->loop));
}

static void tunnel_end_if_due(struct adit_tunnel *t) {
  if (!tunnel_is_closing(t) || t->exit == TUNNEL_LEAVES || !list_empty(&t->streams.all)) return;
  if (tunnel_waits_for_disk(t)) return;
  if (t->exit == TUNNEL_FINISHES) {
    tunnel_tell_finished(t);
    return;
  }
  t->exit = TUNNEL_LEAVES;
  loop_timer_stop(&t->drain);
  loop_timer_stop(&t->retry);
  loop_timer_stop(&t->keep.limit);
  app_close(t);
  list_remove(&t->node);
  loop_defer(t->client->loop, &t->defer, tunnel_leave);
}

void tunnel_stream_ended(struct streams *s) { tunnel_end_if_due(CONTAINER_OF(s, struct adit_tunnel, streams)); }

static void tunnel_drained(struct loop_timer *timer) {
  struct adit_tunnel *t = CONTAINER_OF(timer, struct adit_tunnel, drain);
  streams_stop(&t->streams);
}

static void tunnel_turn_away(struct adit_tunnel *t) {
  struct adit_client *c = t->client;
  loop_timer_stop(&t->opening);
  if (link_is_up(c->link) && (t->state == TUNNEL_OPEN || t->state == TUNNEL_BINDING)) {
    link_unbind(c->link, t->id);
    link_flush(c->link);
  }
}

void tunnel_finish_begin(struct adit_tunnel *t) {
  if (tunnel_is_closing(t)) return;
  t->exit = TUNNEL_FINISHES;
  tunnel_turn_away(t);
  tunnel_end_if_due(t);
}

void tunnel_close_begin(struct adit_tunnel *t, uint64_t drain_ms) {
  bool was_closing = tunnel_is_closing(t);
  if (t->exit >= TUNNEL_CLOSES) return;
  t->exit = TUNNEL_CLOSES;
  if (!was_closing) tunnel_turn_away(t);
  if (!list_empty(&t->streams.all)) {
    if (drain_ms > 0 && loop_timer_set(t->client->loop, &t->drain, drain_ms, tunnel_drained) == 0) return;
    streams_stop(&t->streams);
  }
  tunnel_end_if_due(t);
}
