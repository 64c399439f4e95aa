/* Control links. The hard thing is that nearly every call may end the link: link_down leaves the struct in place until
   the end of the turn and the last job, and whoever called out looks at `state` again. */
#include "relay/link.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/secret.h"
#include "base/text.h"
#include "loop/net.h"
#include "relay/bind.h"
#include "relay/warm.h"

enum {
  LINK_MAGIC = 0x6c696e6b,
  LINK_TICK_MS = 1000,
  LINK_FRAMES_MAX_BYTES = FRAME_HEADER_BYTES + FRAME_BODY_MAX_BYTES + RECORD_PLAIN_MAX
};

struct link *link_find(struct worker *w, const uint8_t id[LINK_ID_BYTES]) { return map_get(w->links_by_id, id); }

static void link_ready(struct loop_io *io, uint32_t events);

/* Ending */

static void link_free(struct loop_deferred *d) {
  struct link *l = CONTAINER_OF(d, struct link, deferred);
  sealed_free(l->sealed);
  link_keys_free(l->keys);
  buf_free(&l->in);
  buf_free(&l->frames);
  buf_free(&l->out);
  wipe(l->exporter, sizeof l->exporter);
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

/* Its warm connections and tunnels go with it; established streams stay. */
static void link_down(struct link *l) {
  struct relay *r = l->worker->relay;
  if (l->state == LINK_DOWN) return;
  bool was_up = l->state == LINK_UP;
  l->state = LINK_DOWN;
  loop_timer_stop(&l->tick);
  loop_io_del(&l->io);
  newcomer_leave(&l->newcomer);
  list_remove(&l->node);
  if (was_up) {
    (void)map_remove(l->worker->links_by_id, l->id);
    registry_link_remove(r->registry, l->owner, l->id);
    share_give(&r->shares, &l->owner->account, 1);
    METRIC_SUB(&l->worker->metrics, links_now, 1);
    bind_close_all(l);
    warm_close(l);
  }
  if (l->fd >= 0) pump_linger_close(l->worker->pool, l->fd);
  l->fd = -1;
  registry_owner_unref(r->registry, l->owner);
  l->owner = NULL;
  link_unref(l);
}

/* Sending */

static int link_flush(struct link *l) {
  while (l->out.len > 0) {
    ssize_t n = net_send(l->fd, buf_data(&l->out), l->out.len);
    if (n == NET_AGAIN) break;
    if (n < 0) return ERR_CLOSED;
    buf_consume(&l->out, (size_t)n);
  }
  uint32_t in = l->rest ? 0 : EPOLLIN, out = l->out.len > 0 ? EPOLLOUT : 0;
  loop_io_set(&l->io, in | out);
  return 0;
}

static int link_seal_owed(struct link *l) {
  uint8_t owed[SEALED_OWED_MAX];
  size_t n;
  while ((n = sealed_write_owed(l->sealed, owed)) > 0) {
    if (buf_append(&l->out, owed, n) != 0) return ERR_LIMIT;
  }
  return 0;
}

static int link_seal(struct link *l, const uint8_t *p, size_t n) {
  while (n > 0) {
    size_t part = size_min(n, sealed_fragment_max(l->sealed));
    if (link_seal_owed(l) != 0) return ERR_LIMIT;
    uint8_t *record = buf_reserve(&l->out, part + RECORD_OVERHEAD_BYTES);
    if (record == NULL) return ERR_LIMIT;
    memcpy(record + RECORD_HEADER_BYTES, p, part);
    if (sealed_write(l->sealed, record, part) != 0) return ERR_CRYPTO;
    buf_added(&l->out, part + RECORD_OVERHEAD_BYTES);
    p += part;
    n -= part;
  }
  return 0;
}

void link_send(struct link *l, const struct writer *w) {
  if (l->state == LINK_DOWN || l->state == LINK_HANDSHAKE) return;
  l->spoke_ms = loop_now_ms(l->worker->loop);
  if (w->bad || link_seal(l, w->base, w->len) != 0 || (!l->in_turn && link_flush(l) != 0)) link_down(l);
}

static void link_end_saying(struct link *l, enum refusal why, const char *text) {
  uint8_t frame[FRAME_HEADER_BYTES + 512];
  struct writer w = writer_of(frame, sizeof frame);
  struct frame_goodbye f = {.reason = (uint16_t)why};
  (void)snprintf(f.text, sizeof f.text, "%s", text);
  if (l->state == LINK_DOWN) return;
  if (l->state == LINK_HANDSHAKE) {
    handshake_abort(&l->handshake);
    l->fd = -1;
    link_down(l);
    return;
  }
  if (l->state == LINK_HELLO) METRIC_ADD(&l->worker->metrics, links_refused_total, 1);
  /* What strangers do is no news. */
  bool proven = l->owner != NULL || why == REFUSE_TOKEN_REVOKED || why == REFUSE_TOKEN_EXPIRED;
  log_event(proven ? LOG_INFO : LOG_DEBUG, "link_ended", "owner", l->owner != NULL ? l->owner->name : "", "reason",
            refusal_name(why), NULL);
  frame_goodbye_encode(&w, &f);
  l->in_turn = true;
  link_send(l, &w);
  if (l->state == LINK_DOWN) return;
  sealed_close(l->sealed);
  if (link_seal_owed(l) == 0) (void)link_flush(l);
  link_down(l);
}

void link_end(struct link *l, enum refusal why) { link_end_saying(l, why, ""); }

/* Frames */

/* Who is it, and may he? The cheap questions first; the owner's record is made only after the proof. */
static enum refusal hello_check(struct link *l, const struct frame_hello *f) {
  struct relay *r = l->worker->relay;
  struct chain c;
  int64_t now_s = loop_wall_s(l->worker->loop);
  if (f->version != WIRE_VERSION) return REFUSE_VERSION;
  int rc = chain_verify_by(f->chain, f->chain_n, r->operators, r->operators_n, &c);
  if (rc == ERR_SYNTAX) return REFUSE_MALFORMED;
  if (rc == ERR_NOT_NOW) return REFUSE_TOKEN_UNKNOWN;
  if (rc != 0) return REFUSE_TOKEN_PROOF;
  if (frame_hello_verify(f, l->exporter, chain_last(&c)->public_key) != 0) return REFUSE_TOKEN_PROOF;
  rc = registry_owner(r->registry, c.at, c.n, now_s, &l->owner);
  if (rc == ERR_AUTH) return REFUSE_TOKEN_REVOKED;
  if (rc == ERR_TIMEOUT) return REFUSE_TOKEN_EXPIRED;
  return rc == 0 ? REFUSE_NONE : REFUSE_INTERNAL;
}

static int link_make_keys(struct link *l, const uint8_t peer_share[X25519_BYTES], uint8_t share[X25519_BYTES]) {
  uint8_t private_key[X25519_BYTES], shared[X25519_BYTES];
  int rc = x25519_keypair(private_key, share);
  if (rc == 0) rc = x25519_shared(private_key, peer_share, shared);
  if (rc == 0) rc = link_id_derive(l->exporter, l->id);
  if (rc == 0) {
    l->keys = link_keys_new(l->exporter, shared);
    rc = l->keys != NULL ? 0 : ERR_NOMEM;
  }
  wipe(private_key, sizeof private_key);
  wipe(shared, sizeof shared);
  wipe(l->exporter, sizeof l->exporter);
  return rc;
}

static int link_register(struct link *l) {
  struct registry *g = l->worker->relay->registry;
  int rc = registry_link_put(g, l->owner, l->id, l->worker);
  if (rc == 0 && map_put(l->worker->links_by_id, l->id, l) != 0) {
    registry_link_remove(g, l->owner, l->id);
    rc = ERR_NOMEM;
  }
  return rc;
}

/* From now on it goes before newcomers, and its owner pays for it. */
static int link_enter(struct link *l) {
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
  l->state = LINK_UP;
  newcomer_leave(&l->newcomer);
  METRIC_ADD(&l->worker->metrics, links_now, 1);
  METRIC_ADD(&l->worker->metrics, links_total, 1);
  return 0;
}

static void on_hello(struct link *l, struct reader body) {
  struct relay *r = l->worker->relay;
  struct frame_hello f;
  struct frame_welcome welcome = {
      .version = WIRE_VERSION, .instance = r->instance, .heartbeat_ms = HEARTBEAT_MS, .warm = WARM_QUIET, .flags = WELCOME_WRAPPED};
  uint8_t frame[FRAME_HEADER_BYTES + 512];
  struct writer w = writer_of(frame, sizeof frame);
  enum refusal why = frame_hello_decode(body, &f) == 0 ? hello_check(l, &f) : REFUSE_MALFORMED;
  int rc = 0;
  if (why == REFUSE_NONE) {
    rc = link_make_keys(l, f.share, welcome.share);
    if (rc == 0) rc = link_enter(l);
    /* Passing, also for ERR_LIMIT: lost links are among those that are counted. */
    if (rc != 0) why = rc == ERR_NOMEM ? REFUSE_SHORTAGE : REFUSE_INTERNAL;
  }
  if (why != REFUSE_NONE) {
    link_end_saying(l, why,
                    rc == ERR_LIMIT
                        ? "the token has too many control links (run fewer agents with it, or try again in a minute)"
                        : "");
    return;
  }
  memcpy(l->software, f.software, sizeof l->software);
  strcpy(welcome.relay, r->options->domain);
  l->warm.asked = welcome.warm;
  l->warm.asked_ms = l->renewed_ms = loop_now_ms(l->worker->loop);
  char from[ADDR_TEXT_CAP], token_id[2 * TOKEN_ID_BYTES + 1];
  addr_format(&l->peer, from, sizeof from);
  hex_encode(l->owner->id, TOKEN_ID_BYTES, token_id);
  log_event(LOG_INFO, "link_up", "owner", l->owner->name, "token_id", token_id, "from", from, "software", l->software, NULL);
  frame_welcome_encode(&w, &welcome);
  link_send(l, &w);
}

static void on_bind(struct link *l, struct reader body) {
  struct frame_bind f;
  if (frame_bind_decode(body, &f) != 0) link_end(l, REFUSE_MALFORMED);
  else bind_request(l, &f);
}

static void on_unbind(struct link *l, struct reader body) {
  uint32_t id;
  if (frame_unbind_decode(body, &id) != 0) link_end(l, REFUSE_MALFORMED);
  else bind_close(l, id);
}

static void on_ping(struct link *l, struct reader body) {
  uint64_t cookie;
  uint8_t frame[16];
  struct writer w = writer_of(frame, sizeof frame);
  if (frame_ping_decode(body, &cookie) != 0) {
    link_end(l, REFUSE_MALFORMED);
    return;
  }
  frame_ping_encode(&w, FRAME_PONG, cookie);
  link_send(l, &w);
}

static void link_frame(struct link *l, const struct frame *f) {
  if (l->state == LINK_HELLO) {
    if (f->type == FRAME_HELLO) on_hello(l, f->body);
    else link_end(l, REFUSE_MALFORMED);
    return;
  }
  switch (f->type) {
    case FRAME_BIND: on_bind(l, f->body); break;
    case FRAME_UNBIND: on_unbind(l, f->body); break;
    case FRAME_PING: on_ping(l, f->body); break;
    case FRAME_GOODBYE: link_down(l); break;
    case FRAME_HELLO: link_end(l, REFUSE_MALFORMED); break;
    default: break;                /* PONG, and what a later version may say */
  }
}

/* Receiving */

static void link_frames(struct link *l) {
  while (l->state != LINK_DOWN && l->share > 0) {
    struct frame f;
    size_t max = l->state == LINK_HELLO ? FRAME_BEFORE_AUTH_MAX_BYTES : FRAME_BODY_MAX_BYTES;
    int rc = frame_next(buf_data(&l->frames), l->frames.len, max, &f);
    if (rc < 0) link_end(l, REFUSE_MALFORMED);
    if (rc <= 0) return;
    l->share--;
    l->heard_ms = loop_now_ms(l->worker->loop);
    link_frame(l, &f);
    buf_consume(&l->frames, f.total);
  }
}

/* A protocol violation: says so and ends. */
static void link_violated(struct link *l) {
  if (link_seal_owed(l) == 0) (void)link_flush(l);
  link_down(l);
}

/* One record. False when there is none or the link is down. */
static bool link_record(struct link *l) {
  size_t consumed = 0, n = 0;
  uint8_t *plain = NULL;
  switch (sealed_read(l->sealed, buf_data(&l->in), l->in.len, &consumed, &plain, &n)) {
    case SEALED_MORE: return false;
    case SEALED_NOTHING:
      if (!idle_records_flood(&l->idle_records, loop_now_ms(l->worker->loop))) break;
      sealed_fail(l->sealed, ALERT_UNEXPECTED_MESSAGE);
      link_violated(l);
      return false;
    case SEALED_DATA:
      l->idle_records.data++;
      if (buf_append(&l->frames, plain, n) != 0) {
        link_down(l);
        return false;
      }
      break;
    case SEALED_FAILED:
      link_violated(l);
      return false;
    case SEALED_EOF:
    case SEALED_PEER_ALERT:
      link_down(l);
      return false;
  }
  buf_consume(&l->in, consumed);
  link_frames(l);
  return l->state != LINK_DOWN;
}

static void link_receive(struct link *l) {
  size_t room = RECORD_HEADER_BYTES + RECORD_CIPHER_MAX - l->in.len;
  uint8_t *to = buf_reserve(&l->in, room);
  if (to == NULL) {
    link_down(l);
    return;
  }
  ssize_t n = net_recv(l->fd, to, room);
  if (n == NET_AGAIN) return;
  if (n <= 0) {
    link_down(l);
    return;
  }
  buf_added(&l->in, (size_t)n);
}

static void link_rest(struct loop *loop, struct loop_msg *m);

/* A turn's share of what has come. A record holds hundreds of small frames, and each may cost far more than its bytes. */
static void link_work(struct link *l) {
  l->share = LINK_FRAMES_PER_TURN_MAX;
  link_frames(l);
  while (l->state != LINK_DOWN && l->share > 0 && link_record(l)) {
  }
  if (l->state == LINK_DOWN || l->share > 0) return;
  l->rest = true;
  l->rest_msg.fn = link_rest;
  (void)link_ref(l);
  loop_post(l->worker->loop, &l->rest_msg);
}

static void link_turn(struct link *l, bool readable) {
  (void)link_ref(l);
  l->in_turn = true;
  if (readable) link_receive(l);
  link_work(l);
  l->in_turn = false;
  if (l->state != LINK_DOWN && (link_seal_owed(l) != 0 || link_flush(l) != 0)) link_down(l);
  link_unref(l);
}

static void link_ready(struct loop_io *io, uint32_t events) {
  struct link *l = CONTAINER_OF(io, struct link, io);
  CHECK_MAGIC(l, LINK_MAGIC);
  if (!l->rest) link_turn(l, (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0);
  else if (link_flush(l) != 0) link_down(l);
}

static void link_rest(struct loop *loop, struct loop_msg *m) {
  struct link *l = CONTAINER_OF(m, struct link, rest_msg);
  CHECK_MAGIC(l, LINK_MAGIC);
  l->rest = false;
  if (loop != NULL && l->state != LINK_DOWN) link_turn(l, false);
  link_unref(l);
}

/* Time */

static void link_tick(struct loop_timer *t) {
  struct link *l = CONTAINER_OF(t, struct link, tick);
  uint64_t now_ms = loop_now_ms(l->worker->loop);
  bool lost = l->state == LINK_HELLO ? now_ms >= l->hello_by_ms : now_ms - l->heard_ms > LINK_SILENCE_MAX_MS;
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
  if (l->state != LINK_UP) return;
  (void)link_ref(l);
  if (now_ms - l->spoke_ms > HEARTBEAT_MS) {
    uint8_t frame[16];
    struct writer w = writer_of(frame, sizeof frame);
    frame_ping_encode(&w, FRAME_PING, now_ms);
    link_send(l, &w);
  }
  if (l->state == LINK_UP && now_ms - l->renewed_ms > (uint64_t)TICKET_RENEW_S * 1000) {
    if (bind_renew(l)) l->renewed_ms = now_ms;
  }
  if (l->state == LINK_UP) bind_tell_refused(l, now_ms);
  if (l->state == LINK_UP) warm_tick(l);
  link_unref(l);
}

/* Beginning */

static int link_take_over(struct link *l) {
  struct tls_takeover t;
  if (tls_conn_take_over(l->handshake.conn, &t) != 0) return ERR_NOT_NOW;
  struct sealed_params p = {.suite = tls_suite_find(t.suite),
                            .read_secret = t.client_secret,
                            .write_secret = t.server_secret,
                            .read_sequence = t.client_sequence,
                            .write_sequence = t.server_sequence,
                            .fragment_max = t.fragment_max};
  memcpy(l->exporter, t.exporter, sizeof l->exporter);
  l->sealed = sealed_new(&p);
  wipe(&t, sizeof t);
  return l->sealed != NULL ? 0 : ERR_NOMEM;
}

static void link_shaken(struct handshake *h, bool ok) {
  struct link *l = CONTAINER_OF(h, struct link, handshake);
  CHECK_MAGIC(l, LINK_MAGIC);
  if (!ok) {
    METRIC_ADD(&l->worker->metrics, link_handshakes_failed_total, 1);
    link_down(l);
    return;
  }
  l->fd = h->fd;
  int rc = link_take_over(l);
  tls_conn_free(h->conn);          /* with it goes the exporter secret that OpenSSL keeps */
  h->conn = NULL;
  l->state = LINK_HELLO;
  l->heard_ms = l->spoke_ms = loop_now_ms(l->worker->loop);
  l->hello_by_ms = l->heard_ms + LINK_HELLO_DEADLINE_MS;
  if (rc != 0 || loop_io_add_late(l->worker->loop, &l->io, l->fd, EPOLLIN, link_ready) != 0 ||
      loop_timer_set(l->worker->loop, &l->tick, LINK_TICK_MS, link_tick) != 0) {
    link_down(l);
    return;
  }
  link_ready(&l->io, EPOLLIN);     /* HELLO came in the same flight as Finished */
}

static void link_unwanted(struct newcomer *n) {
  struct link *l = CONTAINER_OF(n, struct link, newcomer);
  if (l->state == LINK_HANDSHAKE) handshake_abort(&l->handshake);
  link_down(l);
}

void link_accept(struct worker *w, int fd, const struct addr *peer, struct newcomer *newcomer,
                 const struct client_hello *hello) {
  static const uint8_t alpn[] = "\x06" WIRE_ALPN;
  struct tls_server_policy policy = {.host = hello->sni,
                                     .alpn = alpn,
                                     .alpn_n = sizeof alpn - 1,
                                     .tls13_only = true,
                                     .wants_exporter = true,
                                     .whole_chain = true};
  struct link *l = calloc(1, sizeof *l);
  if (l == NULL) {
    newcomer_leave(newcomer);
    net_close(fd);
    return;
  }
  l->magic = LINK_MAGIC;
  l->worker = w;
  l->refs = 1;
  l->fd = -1;
  l->peer = *peer;
  buf_init(&l->in, RECORD_CIPHER_MAX + RECORD_HEADER_BYTES);
  buf_init(&l->frames, LINK_FRAMES_MAX_BYTES);
  buf_init(&l->out, LINK_OUT_MAX_BYTES);
  list_init(&l->bound);
  warm_init(l);
  list_push_tail(&w->links, &l->node);
  struct tls_server *server = certs_current(w->relay->certs);
  newcomer_pass(newcomer, &l->newcomer, link_unwanted);
  newcomer_set_bytes(&l->newcomer, HANDSHAKE_BYTES);
  METRIC_ADD(&w->metrics, link_handshakes_started_total, 1);
  handshake_start(&l->handshake, w, fd, hello, server, &policy, &w->metrics.link_handshakes_now, link_shaken);
  tls_server_unref(server);
}

/* Many */

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
