/* The socket, the timer and the end of the control link. The hard thing: nothing to URL is one exchange after TLS,
   so our Finished, HELLO and all BINDs are put together before a byte of them is sent. */
#include "agent/link.h"

#include <stdlib.h>
#include <string.h>

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
  l->handlers->down(l);
  loop_io_del(&l->io);
  reached_close(l->client, &l->at);
  loop_defer(l->client->loop, &l->defer, link_release);
}

void link_lose(struct link *l, enum refusal reason, const struct err *e) {
  if (l->engine.state == LINK_DOWN) return;
  bool was_up = l->engine.state == LINK_UP;
  struct err copy = *e;
  link_end(l);
  l->handlers->lost(l, was_up, reason, &copy);
}

void link_lose_text(struct link *l, int code, const char *text) {
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
    ssize_t n = wire_send(&l->at.wire, p, left);
    if (n == NET_AGAIN) break;
    if (n < 0) return NET_RESET;
    engine_sent(&l->engine, (size_t)n);
  }
  int flushed = wire_flush(&l->at.wire);
  loop_io_set(&l->io, left > 0 || flushed == NET_AGAIN ? EPOLLIN | EPOLLOUT : EPOLLIN);
  return flushed == NET_RESET ? NET_RESET : 0;
}

/* Half of the queue at most: hundreds of tunnels with long lists would fill it, and other frames must find room. */
static bool link_has_room_for_binds(const struct link *l) {
  return engine_waiting(&l->engine) <= LINK_OUT_MAX_BYTES / 2;
}

static void link_ask_for_binds(struct link *l) {
  l->binds_waiting = false;
  l->handlers->binds(l);
  ASSERT(l->engine.state != LINK_DOWN);
}

void link_flush(struct link *l) {
  while (l->engine.state != LINK_DOWN) {
    int sent = link_write(l);
    if (engine_failed(&l->engine)) link_lose_text(l, ERR_LIMIT, "the relay does not read the control link");
    else if (sent != 0) link_lose_text(l, ERR_CLOSED, "the connection to the relay was reset");
    else if (!l->binds_waiting || !link_has_room_for_binds(l)) return;
    else link_ask_for_binds(l);
  }
}

bool link_may_bind(struct link *l) {
  if (link_has_room_for_binds(l)) return true;
  l->binds_waiting = true;
  return false;
}

void link_bind(struct link *l, const struct frame_bind *f) {
  uint8_t bytes[FRAME_HEADER_BYTES + 4096];
  struct writer w = writer_of(bytes, sizeof bytes);
  frame_bind_encode(&w, f);
  engine_send(&l->engine, &w);
}

void link_unbind(struct link *l, uint32_t id) {
  uint8_t bytes[FRAME_HEADER_BYTES + 8];
  struct writer w = writer_of(bytes, sizeof bytes);
  frame_unbind_encode(&w, id);
  engine_send(&l->engine, &w);
}

void link_short(struct link *l, size_t n) {
  uint8_t bytes[FRAME_HEADER_BYTES + 8];
  struct writer w = writer_of(bytes, sizeof bytes);
  frame_short_encode(&w, (uint16_t)size_min(n, UINT16_MAX));
  engine_send(&l->engine, &w);
  loop_io_set(&l->io, EPOLLIN | EPOLLOUT);
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
      net_linger_off(l->at.wire.fd);    /* so that the kernel delivers it after the close */
      net_shutdown_write(l->at.wire.fd);
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

void link_beat(struct link *l, uint32_t every_ms) {
  l->heartbeat_ms = every_ms < 100 ? 100 : every_ms > HEARTBEAT_MS ? HEARTBEAT_MS : every_ms;
  l->pinged_ms = l->engine.heard_ms;
  (void)loop_timer_set(l->client->loop, &l->tick, l->heartbeat_ms, link_tick);
}

/* ---- reading ---- */

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
  bool readable = (events & ~(uint32_t)EPOLLOUT) != 0, heard = false;
  for (int i = 0; readable && (i < LINK_READS_PER_TURN || wrap_has_input(l->at.wire.outer)); i++) {
    size_t room;
    uint8_t *to = engine_room(&l->engine, &room);
    if (to == NULL) {
      link_lose_text(l, ERR_LIMIT, "out of memory");
      return;
    }
    ssize_t n = wire_recv(&l->at.wire, to, room);
    if (n == NET_AGAIN) break;
    if (n <= 0) {
      link_lose_text(l, ERR_CLOSED, "the connection to the relay was lost");
      return;
    }
    engine_received(&l->engine, (size_t)n);
    heard = true;
    link_work(l);
    if (l->engine.state == LINK_DOWN) return;
    if (l->at.wire.outer == NULL && (size_t)n < room) break;   /* it was all that there is */
  }
  bool answers = engine_waiting(&l->engine) > 0;
  link_flush(l);
  /* A WANT is answered by new connections: a proxy may hold the next one back until then. */
  if (heard && !answers && l->engine.state != LINK_DOWN) net_acknowledge(l->at.wire.fd);
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
  link_ask_for_binds(l);
  return engine_failed(&l->engine) ? err_set(e, ERR_NOMEM, "out of memory") : 0;
}

struct link *link_start(struct adit_client *c, struct relay_choice *choice, const struct reached *reached,
                        struct tls_conn *tls, const struct link_handlers *handlers, struct err *e) {
  struct link *l = calloc(1, sizeof *l);
  if (l == NULL) {
    struct reached at = *reached;
    tls_conn_free(tls);
    reached_close(c, &at);
    err_set(e, ERR_NOMEM, "out of memory");
    return NULL;
  }
  *l = (struct link){.magic = LINK_MAGIC,
                      .handlers = handlers,
                      .client = c,
                      .choice = choice,
                      .at = *reached,
                      .heartbeat_ms = HEARTBEAT_MS};
  list_init(&l->warm);
  l->since_ms = loop_now_ms(c->loop);
  int r = engine_take_over(&l->engine, handlers->role, tls);
  if (r != 0) {
    err_set(e, r, r == ERR_NOMEM ? "out of memory" : "the TLS connection could not be taken over");
    goto fail;
  }
  if (link_hello(l, e) != 0) goto fail;
  tls_conn_free(tls);
  tls = NULL;
  if (loop_io_add(c->loop, &l->io, l->at.wire.fd, EPOLLIN, link_ready) != 0 ||
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

/* ---- moving to another program: times go as what has passed ---- */

void link_facts_write(const struct link *l, struct writer *w) {
  uint64_t now_ms = loop_now_ms(l->client->loop);
  write_u16(w, (uint16_t)(l->choice - l->client->choices));
  addr_write(w, &l->at.to);
  write_u64(w, now_ms - l->since_ms);
  write_u64(w, now_ms - l->pinged_ms);
  write_u32(w, (uint32_t)l->heartbeat_ms);
  write_u8(w, l->binds_waiting);
  write_u8(w, l->takes_revokes);
  write_u32(w, l->last_revoke);
}

static void link_read_times(struct link *l, struct reader *r) {
  uint64_t now_ms = loop_now_ms(l->client->loop), since_ms = read_u64(r), pinged_ms = read_u64(r);
  l->since_ms = since_ms < now_ms ? now_ms - since_ms : 0;
  l->pinged_ms = pinged_ms < now_ms ? now_ms - pinged_ms : 0;
  l->heartbeat_ms = read_u32(r);
  if (l->heartbeat_ms < 100 || l->heartbeat_ms > HEARTBEAT_MS) r->bad = true;
}

int link_facts_read(struct adit_client *c, const struct link_handlers *handlers, struct reader *r,
                    struct link **out) {
  size_t choice = read_u16(r);
  struct link *l = choice < c->choices_n ? calloc(1, sizeof *l) : NULL;
  if (l == NULL) return choice < c->choices_n ? ERR_NOMEM : ERR_SYNTAX;
  *l = (struct link){.magic = LINK_MAGIC,
                     .handlers = handlers,
                     .client = c,
                     .choice = &c->choices[choice],
                     .at.wire = WIRE_NONE};
  list_init(&l->warm);
  int rc = addr_read(r, &l->at.to);
  link_read_times(l, r);
  l->binds_waiting = read_flag(r);
  l->takes_revokes = read_flag(r);
  l->last_revoke = read_u32(r);
  if (rc == 0 && r->bad) rc = ERR_SYNTAX;
  if (rc == 0) *out = l;
  else free(l);
  return rc;
}

/* The first turn brings what is there, and sends what waits. */
int link_go_on(struct link *l) {
  int rc = loop_io_add(l->client->loop, &l->io, l->at.wire.fd, EPOLLIN | EPOLLOUT, link_ready);
  return rc == 0 ? loop_timer_set(l->client->loop, &l->tick, 1, link_tick) : rc;
}

void link_vanish(struct link *l) {
  l->magic = 0;
  engine_stop(&l->engine);
  loop_timer_stop(&l->tick);
  loop_io_del(&l->io);
  wrap_free(l->at.wire.outer);
  l->at.wire = WIRE_NONE;
  loop_defer(l->client->loop, &l->defer, link_release);
}
