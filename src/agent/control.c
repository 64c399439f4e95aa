/* The hard thing: what a handler calls may end the link. Its memory stays until the end of the turn, but it must not be
   used as if it were up: so a handler makes such a call last, or looks at the engine's state after it. */
#include "agent/control.h"

#include "agent/revoke.h"
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
  l->takes_revokes = (f.flags & WELCOME_REVOKES) != 0;
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

static int on_revoked(struct engine *e, const struct frame *frame) {
  struct frame_revoked f;
  if (frame_revoked_decode(frame->body, &f) != 0) return ERR_SYNTAX;
  revokes_answered(CONTAINER_OF(e, struct link, engine), &f);
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
                                                   [FRAME_ARRIVED] = {WHILE_UP, on_arrived},
                                                   [FRAME_REVOKED] = {WHILE_UP, on_revoked}}};

void control_binds(struct link *l) {
  LIST_FOREACH(&l->client->tunnels, it) {
    struct adit_tunnel *t = CONTAINER_OF(it, struct adit_tunnel, node);
    if (tunnel_wants_bind(t)) tunnel_bind(t, l);
  }
}

void control_down(struct link *l) {
  revokes_unsend(l->client);
  warm_stop(l);
}

/* To another program and back: the link's facts, those of its data connections, its engine, what lies around its
   wire. */

enum {
  EXPORT_MAGIC = 0x61646b31,       /* "adk1" */
  EXPORT_VERSION = 1,
  EXPORT_FIXED_BYTES = 16 + LINK_FACTS_BYTES + WARM_FACTS_BYTES
};

static void export_facts(struct link *l, struct writer *w) {
  write_u32(w, EXPORT_MAGIC);
  write_u8(w, EXPORT_VERSION);
  link_facts_write(l, w);
  warm_facts_write(l, w);
}

static void export_outer(struct link *l, struct buf *state) {
  size_t n = wrap_export_bytes(l->at.wire.outer);
  uint8_t *at = buf_reserve(state, n);
  ASSERT(at != NULL);              /* the room is there: control_pack has seen to it */
  struct writer w = writer_of(at, n);
  wrap_export(l->at.wire.outer, &w);
  l->at.wire.outer = NULL;
  ASSERT(!w.bad);
  buf_added(state, w.len);
}

int control_pack(struct link *l, struct buf *state, int *fd) {
  size_t before = state->len;
  size_t n = EXPORT_FIXED_BYTES + ENGINE_EXPORT_MAX_BYTES + wrap_export_bytes(l->at.wire.outer);
  if (l->engine.state != LINK_UP) return ERR_NOT_NOW;
  if (n > state->max - before) return ERR_LIMIT;
  uint8_t *at = buf_reserve(state, n);
  if (at == NULL) return ERR_NOMEM;
  struct writer w = writer_of(at, n);
  export_facts(l, &w);
  ASSERT(!w.bad);
  buf_added(state, w.len);
  int rc = engine_export(&l->engine, state);
  if (rc != 0) {
    buf_cut(state, before);
    return rc;
  }
  export_outer(l, state);
  *fd = l->at.wire.fd;
  warm_stop(l);
  link_vanish(l);
  return 0;
}

static int import_all(struct link *l, struct reader *r, int fd) {
  warm_facts_read(l, r);
  int rc = engine_import(&l->engine, l->handlers->role, r);
  if (rc == 0) rc = wrap_import(r, &l->at.wire.outer);
  if (rc == 0 && (!reader_done(r) || l->engine.keys == NULL)) rc = ERR_SYNTAX;
  if (rc != 0) return rc;
  l->at.wire.fd = fd;
  rc = link_go_on(l);
  return rc == 0 ? warm_go_on(l) : rc;
}

int control_unpack(struct adit_client *c, const struct link_handlers *handlers, const uint8_t *state, size_t n, int fd,
                   struct link **out) {
  struct reader r = reader_of(state, n);
  struct link *l;
  bool known = read_u32(&r) == EXPORT_MAGIC;
  known = read_u8(&r) == EXPORT_VERSION && known;
  int rc = known ? link_facts_read(c, handlers, &r, &l) : ERR_SYNTAX;
  if (rc != 0) return rc;
  rc = import_all(l, &r, fd);
  if (rc == 0) {
    *out = l;
  } else {
    warm_stop(l);
    link_vanish(l);
  }
  return rc;
}
