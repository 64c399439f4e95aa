/* The hard thing: each of these may end the link, which then still lies in memory; so what comes last in a handler
   is what may end it, or the engine's state is looked at. */
#include "agent/control.h"

#include "agent/tunnel.h"
#include "agent/warm.h"

/* From the start. HTTP proxies end both directions when one ends, and pass a reset on as an end, and Unix sockets
   know no reset; inside TLS neither is taken for the other. */
static bool wraps_data(const struct link *l) {
  enum setup_data asked = l->client->setup.data;
  if (dial_address_is_unix(&l->choice->dial)) return true;
  return asked == SETUP_DATA_TLS || (asked == SETUP_DATA_AUTO && l->takes_wrapped && l->choice->proxy != NULL);
}

static int on_welcome(struct engine *e, const struct frame *frame) {
  struct link *l = CONTAINER_OF(e, struct link, engine);
  struct frame_welcome f;
  if (frame_welcome_decode(frame->body, &f) != 0 || f.version != WIRE_VERSION) {
    link_lose_text(l, ERR_SYNTAX, "the relay does not speak this version of the protocol (update adit)");
    return 0;
  }
  if (engine_agree(e, f.share) != 0) {
    link_lose_text(l, ERR_CRYPTO, "no keys could be agreed with the relay");
    return 0;
  }
  engine_open(e);
  l->takes_wrapped = (f.flags & WELCOME_WRAPPED) != 0;
  l->data_wrapped = wraps_data(l);
  if (l->data_wrapped && !l->takes_wrapped && dial_address_is_unix(&l->choice->dial)) {
    link_lose_text(l, ERR_SYNTAX, "this relay takes no data connections inside TLS, as those through a Unix socket are "
                                  "(update the relay)");
    return 0;
  }
  link_beat(l, f.heartbeat_ms);
  l->handlers->up(l, f.relay[0] != '\0' ? f.relay : l->choice->name);
  if (e->state == LINK_DOWN) return 0;
  warm_dial(l, f.warm);
  warm_watch(l);
  return 0;
}

static int on_goodbye(struct engine *e, const struct frame *frame) {
  struct frame_goodbye f;
  struct err why = {0};
  if (frame_goodbye_decode(frame->body, &f) != 0) return ERR_SYNTAX;
  enum refusal reason = (enum refusal)f.reason;
  why.code = refusal_is_final(reason) ? ERR_AUTH : ERR_CLOSED;
  refusal_explain(reason, f.text, why.text, sizeof why.text);
  link_lose(CONTAINER_OF(e, struct link, engine), reason, &why);
  return 0;
}

static int on_bound(struct engine *e, const struct frame *frame) {
  struct link *l = CONTAINER_OF(e, struct link, engine);
  struct frame_bound f;
  if (frame_bound_decode(frame->body, &f) != 0) return ERR_SYNTAX;
  struct adit_tunnel *t = tunnel_find(l->client, f.id);
  if (t != NULL) tunnel_bound(t, &f);
  return 0;
}

static int on_unbound(struct engine *e, const struct frame *frame) {
  struct link *l = CONTAINER_OF(e, struct link, engine);
  struct frame_unbound f;
  if (frame_unbound_decode(frame->body, &f) != 0) return ERR_SYNTAX;
  struct adit_tunnel *t = tunnel_find(l->client, f.id);
  if (t != NULL) tunnel_unbound(t, (enum refusal)f.reason, f.text);
  return 0;
}

static int on_notice(struct engine *e, const struct frame *frame) {
  struct link *l = CONTAINER_OF(e, struct link, engine);
  struct frame_notice f;
  if (frame_notice_decode(frame->body, &f) != 0) return ERR_SYNTAX;
  struct adit_tunnel *t = tunnel_find(l->client, f.id);
  if (t != NULL) tunnel_noticed(t, f.reason, f.count);
  if (f.reason == NOTICE_LOST) warm_lost(l, f.count);
  return 0;
}

static int on_ticket(struct engine *e, const struct frame *frame) {
  struct link *l = CONTAINER_OF(e, struct link, engine);
  struct frame_ticket f;
  if (frame_ticket_decode(frame->body, &f) != 0) return ERR_SYNTAX;
  struct adit_tunnel *t = tunnel_find(l->client, f.id);
  if (t != NULL) tunnel_ticket(t, f.ticket, f.ticket_n);
  return 0;
}

static int on_want(struct engine *e, const struct frame *frame) {
  struct link *l = CONTAINER_OF(e, struct link, engine);
  uint16_t n;
  if (frame_want_decode(frame->body, &n) != 0) return ERR_SYNTAX;
  warm_wanted(l, n);
  return 0;
}

static int on_arrived(struct engine *e, const struct frame *frame) {
  struct link *l = CONTAINER_OF(e, struct link, engine);
  uint64_t number;
  if (frame_arrived_decode(frame->body, &number) != 0) return ERR_SYNTAX;
  warm_proven(l);
  return 0;
}

static uint64_t control_now_ms(struct engine *e) {
  return loop_now_ms(CONTAINER_OF(e, struct link, engine)->client->loop);
}

const struct engine_role control_role = {.hello_max_bytes = FRAME_BODY_MAX_BYTES,
                                         .now_ms = control_now_ms,
                                         .rules = {[FRAME_WELCOME] = {WHILE_HELLO, on_welcome},
                                                   [FRAME_GOODBYE] = {WHILE_HELLO | WHILE_UP, on_goodbye},
                                                   [FRAME_BOUND] = {WHILE_UP, on_bound},
                                                   [FRAME_UNBOUND] = {WHILE_UP, on_unbound},
                                                   [FRAME_TICKET] = {WHILE_UP, on_ticket},
                                                   [FRAME_NOTICE] = {WHILE_UP, on_notice},
                                                   [FRAME_WANT] = {WHILE_UP, on_want},
                                                   [FRAME_ARRIVED] = {WHILE_UP, on_arrived}}};

void control_binds(struct link *l) {
  LIST_FOREACH(&l->client->tunnels, it) {
    struct adit_tunnel *t = CONTAINER_OF(it, struct adit_tunnel, node);
    if (tunnel_wants_bind(t)) tunnel_bind(t, l);
  }
}

void control_down(struct link *l) { warm_stop(l); }
