/* The control link: the socket around the engine (link/engine.h), and what a relay's frames do. The hard thing:
   nothing to URL is one exchange after TLS, so our Finished, HELLO and all BINDs are put together before a byte of
   them is sent. */
#include "agent/link.h"

#include <stdlib.h>
#include <string.h>

#include "agent/tunnel.h"
#include "agent/warm.h"
#include "base/secret.h"
#include "loop/net.h"

enum { LINK_READS_PER_TURN = 8 };

static void link_release(struct loop_deferred *f) {
  struct link *l = CONTAINER_OF(f, struct link, defer);
  engine_free(&l->engine);
  free(l);
}

/* Everything but the memory that this turn may still look at. */
static void link_end(struct link *l) {
  engine_stop(&l->engine);
  loop_timer_stop(&l->tick);
  loop_timer_stop(&l->data_check);
  loop_timer_stop(&l->data_proof);
  loop_timer_stop(&l->redial);
  warm_stop_all(l);
  loop_io_del(&l->io);
  reached_close(l->client, &l->at);
  loop_defer(l->client->loop, &l->defer, link_release);
}

/* The link is lost: ends it and tells the client. */
static void link_lose(struct link *l, enum refusal reason, const struct err *e) {
  if (l->engine.state == LINK_DOWN) return;
  bool was_welcomed = l->engine.state == LINK_UP;
  struct adit_client *c = l->client;
  struct relay_choice *choice = l->choice;
  struct err copy = *e;
  link_end(l);
  client_link_lost(c, choice, was_welcomed, reason, &copy);
}

static void link_lose_text(struct link *l, int code, const char *text) {
  struct err e = {0};
  err_set(&e, code, "%s", text);
  link_lose(l, REFUSE_NONE, &e);
}

bool link_is_up(const struct link *l) {
  return l != NULL && l->engine.state == LINK_UP;
}

bool link_takes_binds(const struct link *l) {
  return l != NULL && l->engine.state != LINK_DOWN;
}

/* ---- writing ---- */

/* 0, or NET_RESET. */
static int link_write(struct link *l) {
  const uint8_t *p;
  size_t left;
  while ((p = engine_output(&l->engine, &left)) != NULL) {
    ssize_t n = wrap_send(l->at.wrap, l->at.fd, p, left);
    if (n == NET_AGAIN) break;
    if (n < 0) return NET_RESET;
    engine_sent(&l->engine, (size_t)n);
  }
  int flushed = wrap_flush(l->at.wrap, l->at.fd);
  loop_io_set(&l->io, left > 0 || flushed == NET_AGAIN ? EPOLLIN | EPOLLOUT : EPOLLIN);
  return flushed == NET_RESET ? NET_RESET : 0;
}

/* BINDs take half of the queue at most: hundreds of tunnels with long lists would fill it, and other frames must find
   room. */
static bool link_has_room_for_binds(const struct link *l) {
  return engine_waiting(&l->engine) <= LINK_OUT_MAX_BYTES / 2;
}

static void link_bind_waiting(struct link *l) {
  l->binds_waiting = false;
  LIST_FOREACH(&l->client->tunnels, it) {
    struct adit_tunnel *t = CONTAINER_OF(it, struct adit_tunnel, node);
    if (tunnel_wants_bind(t)) link_bind(l, t);
  }
}

void link_flush(struct link *l) {
  while (l->engine.state != LINK_DOWN) {
    int sent = link_write(l);
    if (engine_failed(&l->engine)) link_lose_text(l, ERR_LIMIT, "the relay does not read the control link");
    else if (sent != 0) link_lose_text(l, ERR_CLOSED, "the connection to the relay was reset");
    else if (l->binds_waiting && link_has_room_for_binds(l)) link_bind_waiting(l);
    else return;
  }
}

void link_bind(struct link *l, struct adit_tunnel *t) {
  if (!link_has_room_for_binds(l)) {
    l->binds_waiting = true;
    return;
  }
  uint8_t bytes[FRAME_HEADER_BYTES + 4096];
  struct writer w = writer_of(bytes, sizeof bytes);
  tunnel_bind_encode(t, &w);
  engine_send(&l->engine, &w);
}

void link_unbind(struct link *l, uint32_t id) {
  uint8_t bytes[FRAME_HEADER_BYTES + 8];
  struct writer w = writer_of(bytes, sizeof bytes);
  frame_unbind_encode(&w, id);
  engine_send(&l->engine, &w);
}

void link_stop(struct link *l, bool goodbye) {
  if (l == NULL || l->engine.state == LINK_DOWN) return;
  CHECK_MAGIC(l, LINK_MAGIC);
  if (goodbye) {
    uint8_t bytes[FRAME_HEADER_BYTES + 300];
    struct writer w = writer_of(bytes, sizeof bytes);
    frame_goodbye_encode(&w, &(struct frame_goodbye){.reason = REFUSE_CLOSED});
    engine_send(&l->engine, &w);
    engine_close(&l->engine);
    if (!engine_failed(&l->engine)) {
      (void)link_write(l);
      net_linger_off(l->at.fd);    /* so that the kernel delivers it after the close */
      net_shutdown_write(l->at.fd);
    }
  }
  link_end(l);
}

/* ---- heartbeats ---- */

/* Also while the relay is heard: a busy relay has much to say to an agent that would otherwise never speak, and each
   side believes only what it hears. */
static void link_tick(struct loop_timer *t) {
  struct link *l = CONTAINER_OF(t, struct link, tick);
  CHECK_MAGIC(l, LINK_MAGIC);
  uint64_t now = loop_now_ms(l->client->loop);
  if (l->engine.state == LINK_HELLO) {
    link_lose_text(l, ERR_TIMEOUT, "the relay did not answer HELLO");
    return;
  }
  if (now - l->engine.heard_ms >= LINK_SILENCE_MAX_MS) {
    link_lose_text(l, ERR_TIMEOUT, "the relay has gone silent");
    return;
  }
  if (now - l->pinged_ms >= l->heartbeat_ms) {
    l->pinged_ms = now;
    engine_ping(&l->engine, now);
    link_flush(l);
    if (l->engine.state == LINK_DOWN) return;
  }
  uint64_t next = l->pinged_ms + l->heartbeat_ms;
  if (next > l->engine.heard_ms + LINK_SILENCE_MAX_MS) next = l->engine.heard_ms + LINK_SILENCE_MAX_MS;
  (void)loop_timer_set(l->client->loop, &l->tick, next > now ? next - now : 1, link_tick);
}

/* ---- reading ---- */

/* From the start. HTTP proxies end both directions when one ends, and pass a reset on as an end, and Unix sockets
   know no reset; inside TLS neither is taken for the other. */
static bool link_wraps_data(const struct link *l) {
  enum setup_data asked = l->client->setup.data;
  if (dial_address_is_unix(&l->choice->dial)) return true;
  return asked == SETUP_DATA_TLS || (asked == SETUP_DATA_AUTO && l->takes_wrapped && l->choice->proxy != NULL);
}

static int link_welcome(struct engine *e, const struct frame *frame) {
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
  l->data_wrapped = link_wraps_data(l);
  if (l->data_wrapped && !l->takes_wrapped && dial_address_is_unix(&l->choice->dial)) {
    link_lose_text(l, ERR_SYNTAX, "this relay takes no data connections inside TLS, as those through a Unix socket are "
                                  "(update the relay)");
    return 0;
  }
  l->heartbeat_ms = f.heartbeat_ms < 100 ? 100 : f.heartbeat_ms > HEARTBEAT_MS ? HEARTBEAT_MS : f.heartbeat_ms;
  l->pinged_ms = l->engine.heard_ms;
  (void)loop_timer_set(l->client->loop, &l->tick, l->heartbeat_ms, link_tick);
  client_link_welcomed(l->client, f.relay[0] != '\0' ? f.relay : l->choice->name);
  if (e->state == LINK_DOWN) return 0;
  warm_dial(l, f.warm);
  warm_watch(l);
  return 0;
}

static int link_goodbye(struct engine *e, const struct frame *frame) {
  struct frame_goodbye f;
  struct err why = {0};
  if (frame_goodbye_decode(frame->body, &f) != 0) return ERR_SYNTAX;
  enum refusal reason = (enum refusal)f.reason;
  why.code = refusal_is_final(reason) ? ERR_AUTH : ERR_CLOSED;
  refusal_explain(reason, f.text, why.text, sizeof why.text);
  link_lose(CONTAINER_OF(e, struct link, engine), reason, &why);
  return 0;
}

static int link_bound(struct engine *e, const struct frame *frame) {
  struct link *l = CONTAINER_OF(e, struct link, engine);
  struct frame_bound f;
  if (frame_bound_decode(frame->body, &f) != 0) return ERR_SYNTAX;
  struct adit_tunnel *t = tunnel_find(l->client, f.id);
  if (t != NULL) tunnel_bound(t, &f);
  return 0;
}

static int link_unbound(struct engine *e, const struct frame *frame) {
  struct link *l = CONTAINER_OF(e, struct link, engine);
  struct frame_unbound f;
  if (frame_unbound_decode(frame->body, &f) != 0) return ERR_SYNTAX;
  struct adit_tunnel *t = tunnel_find(l->client, f.id);
  if (t != NULL) tunnel_unbound(t, (enum refusal)f.reason, f.text);
  return 0;
}

static int link_notice(struct engine *e, const struct frame *frame) {
  struct link *l = CONTAINER_OF(e, struct link, engine);
  struct frame_notice f;
  if (frame_notice_decode(frame->body, &f) != 0) return ERR_SYNTAX;
  struct adit_tunnel *t = tunnel_find(l->client, f.id);
  if (t != NULL) tunnel_noticed(t, f.reason, f.count);
  if (f.reason == NOTICE_LOST) warm_lost(l, f.count);
  return 0;
}

static int link_ticket(struct engine *e, const struct frame *frame) {
  struct link *l = CONTAINER_OF(e, struct link, engine);
  struct frame_ticket f;
  if (frame_ticket_decode(frame->body, &f) != 0) return ERR_SYNTAX;
  struct adit_tunnel *t = tunnel_find(l->client, f.id);
  if (t != NULL) tunnel_ticket(t, f.ticket, f.ticket_n);
  return 0;
}

static int link_want(struct engine *e, const struct frame *frame) {
  struct link *l = CONTAINER_OF(e, struct link, engine);
  uint16_t n;
  if (frame_want_decode(frame->body, &n) != 0) return ERR_SYNTAX;
  warm_wanted(l, n);
  return 0;
}

static int link_arrived(struct engine *e, const struct frame *frame) {
  struct link *l = CONTAINER_OF(e, struct link, engine);
  uint64_t number;
  if (frame_arrived_decode(frame->body, &number) != 0) return ERR_SYNTAX;
  warm_proven(l);
  return 0;
}

static uint64_t link_now_ms(struct engine *e) {
  return loop_now_ms(CONTAINER_OF(e, struct link, engine)->client->loop);
}

static const struct engine_role agent_role = {.hello_max_bytes = FRAME_BODY_MAX_BYTES,
                                              .now_ms = link_now_ms,
                                              .rules = {[FRAME_WELCOME] = {WHILE_HELLO, link_welcome},
                                                        [FRAME_GOODBYE] = {WHILE_HELLO | WHILE_UP, link_goodbye},
                                                        [FRAME_BOUND] = {WHILE_UP, link_bound},
                                                        [FRAME_UNBOUND] = {WHILE_UP, link_unbound},
                                                        [FRAME_TICKET] = {WHILE_UP, link_ticket},
                                                        [FRAME_NOTICE] = {WHILE_UP, link_notice},
                                                        [FRAME_WANT] = {WHILE_UP, link_want},
                                                        [FRAME_ARRIVED] = {WHILE_UP, link_arrived}}};

/* All that has come: a relay's frames are few, and ours. */
static void link_work(struct link *l) {
  switch (engine_work(&l->engine, SIZE_MAX)) {
    case ENGINE_IDLE:
    case ENGINE_RESTS:
    case ENGINE_STOPPED: return;
    case ENGINE_ENDED: link_lose_text(l, ERR_CLOSED, "the relay closed the control link"); return;
    case ENGINE_ALERTED: link_lose_text(l, ERR_CLOSED, "the relay ended the control link with an alert"); return;
    case ENGINE_MALFORMED: link_lose_text(l, ERR_SYNTAX, "the relay sent a malformed frame"); return;
    case ENGINE_NO_MEMORY: link_lose_text(l, ERR_NOMEM, "out of memory"); return;
    case ENGINE_VIOLATED:
      (void)link_write(l);         /* with the alert that says so */
      link_lose_text(l, ERR_SYNTAX, "the relay violated the record layer");
  }
}

static void link_ready(struct loop_io *io, uint32_t events) {
  struct link *l = CONTAINER_OF(io, struct link, io);
  CHECK_MAGIC(l, LINK_MAGIC);
  bool readable = (events & ~(uint32_t)EPOLLOUT) != 0;
  for (int i = 0; readable && (i < LINK_READS_PER_TURN || wrap_has_input(l->at.wrap)); i++) {
    size_t room;
    uint8_t *to = engine_room(&l->engine, &room);
    if (to == NULL) {
      link_lose_text(l, ERR_LIMIT, "out of memory");
      return;
    }
    ssize_t n = wrap_recv(l->at.wrap, l->at.fd, to, room);
    if (n == NET_AGAIN) break;
    if (n <= 0) {
      link_lose_text(l, ERR_CLOSED, "the connection to the relay was lost");
      return;
    }
    engine_received(&l->engine, (size_t)n);
    link_work(l);
    if (l->engine.state == LINK_DOWN) return;
  }
  link_flush(l);
}

/* ---- starting ---- */

static int link_hello(struct link *l, struct err *e) {
  const struct setup_token *token = l->choice->token;
  struct frame_hello f = {
      .version = WIRE_VERSION, .chain = token->chain, .chain_n = token->chain_n};
  memcpy(f.software, "adit/" ADIT_VERSION, sizeof "adit/" ADIT_VERSION);
  uint8_t bytes[FRAME_BEFORE_AUTH_MAX_BYTES];
  if (engine_make_share(&l->engine, f.share) != 0) return err_set(e, ERR_CRYPTO, "no key could be made");
  if (frame_hello_sign(&f, engine_exporter(&l->engine), token->seed) != 0)
    return err_set(e, ERR_CRYPTO, "the token's key does not sign");
  struct writer w = writer_of(bytes, sizeof bytes);
  frame_hello_encode(&w, &f);
  engine_send(&l->engine, &w);
  LIST_FOREACH(&l->client->tunnels, it) {
    struct adit_tunnel *t = CONTAINER_OF(it, struct adit_tunnel, node);
    if (tunnel_wants_bind(t)) link_bind(l, t);
  }
  return engine_failed(&l->engine) ? err_set(e, ERR_NOMEM, "out of memory") : 0;
}

struct link *link_start(struct adit_client *c, struct relay_choice *choice, const struct reached *reached,
                        struct tls_conn *tls, struct err *e) {
  struct link *l = calloc(1, sizeof *l);
  if (l == NULL) {
    struct reached at = *reached;
    tls_conn_free(tls);
    reached_close(c, &at);
    err_set(e, ERR_NOMEM, "out of memory");
    return NULL;
  }
  *l = (struct link){
      .magic = LINK_MAGIC, .client = c, .choice = choice, .at = *reached, .heartbeat_ms = HEARTBEAT_MS};
  list_init(&l->warm);
  l->since_ms = loop_now_ms(c->loop);
  int r = engine_take_over(&l->engine, &agent_role, tls);
  if (r != 0) {
    err_set(e, r, r == ERR_NOMEM ? "out of memory" : "the TLS connection could not be taken over");
    goto fail;
  }
  if (link_hello(l, e) != 0) goto fail;
  tls_conn_free(tls);
  tls = NULL;
  if (loop_io_add(c->loop, &l->io, l->at.fd, EPOLLIN, link_ready) != 0 ||
      loop_timer_set(c->loop, &l->tick, AGENT_CONNECT_DEADLINE_MS, link_tick) != 0) {
    err_set(e, ERR_NOMEM, "out of memory");
    goto fail;
  }
  if (link_write(l) == 0 && !engine_failed(&l->engine)) return l;
  err_set(e, ERR_CLOSED, "the connection to the relay was reset");
fail:
  tls_conn_free(tls);
  link_end(l);
  return NULL;
}
