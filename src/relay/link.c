/* The socket, the timer and the end of a control link. The hard thing is that nearly every call may end the link:
   link_down leaves the struct in place until the end of the turn and the last job, and whoever called out looks at the
   engine's state again. */
#include "relay/link.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "loop/net.h"

enum { LINK_MAGIC = 0x6c696e6b, LINK_TICK_MS = 1000 };

struct link *link_find(struct worker *w, const uint8_t id[LINK_ID_BYTES]) { return map_get(w->links_by_id, id); }

static void link_ready(struct loop_io *io, uint32_t events);

/* Ending */

static void link_free(struct loop_deferred *d) {
  struct link *l = CONTAINER_OF(d, struct link, deferred);
  engine_free(&l->engine);
  l->magic = 0;
  free(l);
}

struct link *link_ref(struct link *l) {
  l->refs++;
  return l;
}

void link_unref(struct link *l) {
  ASSERT(l->refs > 0);
  if (--l->refs == 0) loop_defer(l->worker->loop, &l->deferred, link_free);
}

/* Out of the places that only a link that is up has. */
static void link_leave_places(struct link *l) {
  struct relay *r = l->worker->relay;
  (void)map_remove(l->worker->links_by_id, l->engine.id);
  registry_link_remove(r->registry, l->owner, l->engine.id);
  share_give(&r->shares, &l->owner->account, 1);
  METRIC_SUB(&l->worker->metrics, links_now, 1);
}

void link_down(struct link *l) {
  struct relay *r = l->worker->relay;
  if (l->engine.state == LINK_DOWN) return;
  bool was_up = l->engine.state == LINK_UP;
  engine_stop(&l->engine);
  loop_timer_stop(&l->tick);
  loop_io_del(&l->io);
  newcomer_leave(&l->newcomer);
  list_remove(&l->node);
  if (was_up) {
    link_leave_places(l);
    l->handlers->down(l);
  }
  if (l->fd >= 0) pump_linger_close(l->worker->pool, l->fd);
  l->fd = -1;
  registry_owner_unref(r->registry, l->owner);
  l->owner = NULL;
  link_unref(l);
}

/* Sending */

/* Nothing is read. */
static bool link_rests(const struct link *l) { return l->rest || l->held; }

static int link_flush(struct link *l) {
  const uint8_t *p;
  size_t left = 0;
  while (!l->held && (p = engine_output(&l->engine, &left)) != NULL) {
    ssize_t n = net_send(l->fd, p, left);
    if (n == NET_AGAIN) break;
    if (n < 0) return ERR_CLOSED;
    engine_sent(&l->engine, (size_t)n);
  }
  if (engine_failed(&l->engine)) return ERR_LIMIT;
  uint32_t in = link_rests(l) ? 0 : EPOLLIN, out = left > 0 ? EPOLLOUT : 0;
  loop_io_set(&l->io, in | out);
  return 0;
}

void link_send(struct link *l, const struct writer *w) {
  if (l->engine.state == LINK_DOWN || l->engine.state == LINK_HANDSHAKE) return;
  engine_send(&l->engine, w);
  if (engine_failed(&l->engine) || (!l->in_turn && link_flush(l) != 0)) link_down(l);
}

void link_end_saying(struct link *l, enum refusal why, const char *text) {
  uint8_t frame[FRAME_HEADER_BYTES + 512];
  struct writer w = writer_of(frame, sizeof frame);
  struct frame_goodbye f = {.reason = (uint16_t)why};
  (void)snprintf(f.text, sizeof f.text, "%s", text);
  if (l->engine.state == LINK_DOWN) return;
  if (l->engine.state == LINK_HANDSHAKE) {
    handshake_abort(&l->handshake);
    l->fd = -1;
    link_down(l);
    return;
  }
  if (l->engine.state == LINK_HELLO) METRIC_ADD(&l->worker->metrics, links_refused_total, 1);
  /* What strangers do is no news. */
  bool proven = l->owner != NULL || why == REFUSE_TOKEN_REVOKED || why == REFUSE_TOKEN_EXPIRED;
  log_event(proven ? LOG_INFO : LOG_DEBUG, "link_ended", "owner", l->owner != NULL ? l->owner->name : "", "reason",
            refusal_name(why), NULL);
  frame_goodbye_encode(&w, &f);
  l->in_turn = true;
  link_send(l, &w);
  if (l->engine.state == LINK_DOWN) return;
  engine_close(&l->engine);
  (void)link_flush(l);
  link_down(l);
}

void link_end(struct link *l, enum refusal why) { link_end_saying(l, why, ""); }

/* Coming up */

static int link_register(struct link *l) {
  struct registry *g = l->worker->relay->registry;
  int rc = registry_link_put(g, l->owner, l->engine.id, l->worker);
  if (rc == 0 && map_put(l->worker->links_by_id, l->engine.id, l) != 0) {
    registry_link_remove(g, l->owner, l->engine.id);
    rc = ERR_NOMEM;
  }
  return rc;
}

int link_enter(struct link *l) {
  struct shares *shares = &l->worker->relay->shares;
  loop_io_del(&l->io);
  if (loop_io_add(l->worker->loop, &l->io, l->fd, EPOLLIN, link_ready) != 0 ||
      !share_take(shares, &l->owner->account, 1))
    return ERR_NOMEM;
  int rc = link_register(l);
  if (rc != 0) {
    share_give(shares, &l->owner->account, 1);
    return rc;
  }
  engine_open(&l->engine);
  l->held = relay_hands_over(l->worker->relay);
  newcomer_leave(&l->newcomer);
  METRIC_ADD(&l->worker->metrics, links_now, 1);
  METRIC_ADD(&l->worker->metrics, links_total, 1);
  return 0;
}

/* Receiving */

static void link_receive(struct link *l) {
  size_t room;
  uint8_t *to = engine_room(&l->engine, &room);
  ssize_t n = to != NULL ? net_recv(l->fd, to, room) : NET_RESET;
  if (n > 0) engine_received(&l->engine, (size_t)n);
  else if (n != NET_AGAIN) link_down(l);
}

static void link_rest(struct loop *loop, struct loop_msg *m);

/* Itself, in the next turn. */
static void link_work_later(struct link *l) {
  l->rest = true;
  l->rest_msg.fn = link_rest;
  (void)link_ref(l);
  loop_post(l->worker->loop, &l->rest_msg);
}

/* Of one that comes up while this relay hands over nothing is heard here but HELLO. */
static size_t link_share(const struct link *l) {
  return l->engine.state == LINK_HELLO && relay_hands_over(l->worker->relay) ? 1 : LINK_FRAMES_PER_TURN_MAX;
}

/* A turn's share of what has come; the rest waits for the next. */
static void link_work(struct link *l) {
  switch (engine_work(&l->engine, link_share(l))) {
    case ENGINE_IDLE:
    case ENGINE_STOPPED: break;
    case ENGINE_RESTS: link_work_later(l); break;
    case ENGINE_MALFORMED: link_end(l, REFUSE_MALFORMED); break;
    case ENGINE_VIOLATED:
      (void)link_flush(l);         /* with the alert that says so */
      link_down(l);
      break;
    case ENGINE_ENDED:
    case ENGINE_ALERTED:
    case ENGINE_NO_MEMORY: link_down(l);
  }
}

static void link_turn(struct link *l, bool readable) {
  (void)link_ref(l);
  l->in_turn = true;
  if (readable) link_receive(l);
  link_work(l);
  l->in_turn = false;
  bool answers = engine_waiting(&l->engine) > 0;
  if (l->engine.state != LINK_DOWN && link_flush(l) != 0) link_down(l);
  /* A BIND may be answered once the disk has it: a proxy may hold the next one back until then. */
  if (l->engine.state != LINK_DOWN && readable && !answers) net_acknowledge(l->fd);
  link_unref(l);
}

static void link_ready(struct loop_io *io, uint32_t events) {
  struct link *l = CONTAINER_OF(io, struct link, io);
  CHECK_MAGIC(l, LINK_MAGIC);
  if (!link_rests(l)) link_turn(l, (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0);
  else if (link_flush(l) != 0) link_down(l);
}

static void link_rest(struct loop *loop, struct loop_msg *m) {
  struct link *l = CONTAINER_OF(m, struct link, rest_msg);
  CHECK_MAGIC(l, LINK_MAGIC);
  l->rest = false;
  if (loop != NULL && l->engine.state != LINK_DOWN && !l->held) link_turn(l, false);
  link_unref(l);
}

/* Time */

static void link_tick(struct loop_timer *t) {
  struct link *l = CONTAINER_OF(t, struct link, tick);
  uint64_t now_ms = loop_now_ms(l->worker->loop);
  bool lost = l->engine.state == LINK_HELLO ? now_ms >= l->hello_by_ms
                                            : now_ms - l->engine.heard_ms > LINK_SILENCE_MAX_MS;
  if (lost) {
    log_event(l->owner != NULL ? LOG_INFO : LOG_DEBUG, "link_lost", "owner", l->owner != NULL ? l->owner->name : "",
              NULL);
    link_down(l);
    return;
  }
  if (loop_timer_set(l->worker->loop, &l->tick, LINK_TICK_MS, link_tick) != 0) {
    link_down(l);
    return;
  }
  if (l->engine.state != LINK_UP) return;
  (void)link_ref(l);
  if (now_ms - l->engine.spoke_ms > HEARTBEAT_MS) {
    uint8_t frame[16];
    struct writer w = writer_of(frame, sizeof frame);
    frame_ping_encode(&w, FRAME_PING, now_ms);
    link_send(l, &w);
  }
  if (l->engine.state == LINK_UP) l->handlers->every_second(l, now_ms);
  link_unref(l);
}

/* Beginning */

static void link_shaken(struct handshake *h, bool ok) {
  struct link *l = CONTAINER_OF(h, struct link, handshake);
  CHECK_MAGIC(l, LINK_MAGIC);
  if (!ok) {
    METRIC_ADD(&l->worker->metrics, link_handshakes_failed_total, 1);
    link_down(l);
    return;
  }
  l->fd = h->fd;
  int rc = engine_take_over(&l->engine, l->handlers->role, h->conn);
  tls_conn_free(h->conn);          /* with it goes the exporter secret that OpenSSL keeps */
  h->conn = NULL;
  l->hello_by_ms = loop_now_ms(l->worker->loop) + LINK_HELLO_DEADLINE_MS;
  int r = loop_io_take_late(l->worker->loop, &l->io, l->fd, EPOLLIN, link_ready, &h->io);
  if (rc != 0 || r != 0 ||
      loop_timer_set(l->worker->loop, &l->tick, LINK_TICK_MS, link_tick) != 0) {
    link_down(l);
    return;
  }
  link_ready(&l->io, EPOLLIN);     /* HELLO came in the same flight as Finished */
}

static void link_unwanted(struct newcomer *n) {
  struct link *l = CONTAINER_OF(n, struct link, newcomer);
  if (l->engine.state == LINK_HANDSHAKE) handshake_abort(&l->handshake);
  link_down(l);
}

static struct link *link_new(struct worker *w, int fd, const struct link_handlers *handlers) {
  struct link *l = calloc(1, sizeof *l);
  if (l == NULL) return NULL;
  l->magic = LINK_MAGIC;
  l->handlers = handlers;
  l->worker = w;
  l->refs = 1;
  l->fd = fd;
  list_init(&l->node);
  list_init(&l->bound);
  list_init(&l->revokes);
  return l;
}

void link_accept(struct worker *w, int fd, const struct addr *peer, struct newcomer *newcomer,
                 const struct client_hello *hello, const struct link_handlers *handlers) {
  static const uint8_t alpn[] = "\x06" WIRE_ALPN;
  struct tls_server_policy policy = {.host = hello->sni,
                                     .alpn = alpn,
                                     .alpn_n = sizeof alpn - 1,
                                     .tls13_only = true,
                                     .wants_exporter = true,
                                     .whole_chain = true};
  struct link *l = link_new(w, -1, handlers);
  if (l == NULL) {
    newcomer_leave(newcomer);
    net_close(fd);
    return;
  }
  l->peer = *peer;
  list_push_tail(&w->links, &l->node);
  struct tls_server *server = certs_current(w->relay->certs);
  newcomer_pass(newcomer, &l->newcomer, link_unwanted);
  newcomer_set_bytes(&l->newcomer, HANDSHAKE_BYTES);
  METRIC_ADD(&w->metrics, link_handshakes_started_total, 1);
  handshake_start(&l->handshake, w, fd, NULL, hello, server, &policy, &w->metrics.link_handshakes_now, link_shaken);
  tls_server_unref(server);
}

/* To another process and back */

void link_write(const struct link *l, struct writer *w) {
  owner_export(l->owner, loop_now_ms(l->worker->loop), w);
  addr_write(w, &l->peer);
  write_text8(w, l->software);
  window_write(&l->bind_ids, w);
  write_u64(w, loop_now_ms(l->worker->loop) - l->renewed_ms);
}

/* From where its agent dialled matters to people only: a Unix socket's user does not go along. */
static int read_facts(struct link *l, struct reader *r) {
  uint64_t now_ms = loop_now_ms(l->worker->loop);
  int rc = owner_import(l->worker->relay->registry, now_ms, r, &l->owner);
  if (rc != 0) return rc;
  if (addr_read(r, &l->peer) != 0) return ERR_SYNTAX;
  read_text8(r, l->software, sizeof l->software);
  window_read(&l->bind_ids, r);
  l->renewed_ms = now_ms - size_min(read_u64(r), now_ms);
  return r->bad ? ERR_SYNTAX : 0;
}

int link_read(struct worker *w, int fd, const struct link_handlers *handlers, struct reader *r, struct link **out) {
  struct link *l = link_new(w, fd, handlers);
  if (l == NULL) return ERR_NOMEM;
  int rc = read_facts(l, r);
  if (rc == 0) *out = l;
  else link_discard(l);
  return rc;
}

void link_discard(struct link *l) {
  engine_stop(&l->engine);
  engine_free(&l->engine);
  registry_owner_unref(l->worker->relay->registry, l->owner);
  l->magic = 0;
  free(l);
}

/* When it would tick if it had done so all along: else upgrades that follow each other faster would keep every tick
   away. By its id, so that links do not all tick at once. */
static uint64_t resumed_tick_ms(const struct link *l) {
  uint64_t phase_ms = (uint64_t)l->engine.id[0] << 8 | l->engine.id[1];
  return LINK_TICK_MS - (loop_now_ms(l->worker->loop) + phase_ms) % LINK_TICK_MS;
}

int link_resume(struct link *l) {
  struct worker *w = l->worker;
  int rc = loop_io_add(w->loop, &l->io, l->fd, EPOLLIN, link_ready);
  if (rc != 0) return rc;
  rc = loop_timer_set(w->loop, &l->tick, resumed_tick_ms(l), link_tick);
  if (rc == 0) rc = link_register(l);
  if (rc != 0) {
    loop_timer_stop(&l->tick);
    loop_io_del(&l->io);
    return rc;
  }
  share_count(&w->relay->shares, &l->owner->account, 1);
  METRIC_ADD(&w->metrics, links_now, 1);
  list_push_tail(&w->links, &l->node);
  link_work_later(l);
  return 0;
}

void link_let_go(struct link *l) {
  ASSERT(l->engine.state == LINK_DOWN && l->fd >= 0);
  loop_timer_stop(&l->tick);
  loop_io_del(&l->io);
  list_remove(&l->node);
  link_leave_places(l);
  l->fd = -1;
  registry_owner_unref(l->worker->relay->registry, l->owner);
  l->owner = NULL;
  link_unref(l);
}

/* Many */

void links_go_on(struct worker *w) {
  LIST_FOREACH(&w->links, it) {
    struct link *l = CONTAINER_OF(it, struct link, node);
    if (!l->held) continue;
    l->held = false;
    if (!l->rest) link_work_later(l);
  }
}

void link_end_owners(struct worker *w) {
  LIST_FOREACH(&w->links, it) {
    struct link *l = CONTAINER_OF(it, struct link, node);
    if (l->owner == NULL || !owner_has_ended(l->owner)) continue;
    bool expired = l->owner->expires_s != 0 && l->owner->expires_s <= loop_wall_s(w->loop);
    link_end(l, expired ? REFUSE_TOKEN_EXPIRED : REFUSE_TOKEN_REVOKED);
  }
}

void link_end_all(struct worker *w, enum refusal why) {
  LIST_FOREACH(&w->links, it) link_end(CONTAINER_OF(it, struct link, node), why);
}
