/* The control link. The hard thing: nothing to URL is one exchange after TLS, so our Finished, HELLO and all BINDs are
   put together before a byte of them is sent. And its secrets: the exporter and the X25519 key live from here to
   WELCOME only. */
#include "agent/link.h"

#include <stdlib.h>
#include <string.h>

#include "agent/tunnel.h"
#include "agent/warm.h"
#include "base/secret.h"
#include "loop/net.h"

struct link_secrets {
  uint8_t exporter[TLS_EXPORTER_BYTES];
  uint8_t private_key[X25519_BYTES];
  uint8_t shared[X25519_BYTES];
  struct tls_takeover takeover;
};

enum { LINK_IN_MAX = 2 * (RECORD_HEADER_BYTES + RECORD_CIPHER_MAX), LINK_READS_PER_TURN = 8 };

static void link_release(struct loop_deferred *f) {
  struct link *l = CONTAINER_OF(f, struct link, defer);
  buf_free(&l->in);
  buf_free(&l->frames);
  buf_free(&l->pending);
  buf_free(&l->out);
  free(l);
}

/* Everything but the memory that this turn may still look at. */
static void link_end(struct link *l) {
  l->dead = true;
  loop_timer_stop(&l->tick);
  loop_timer_stop(&l->data_check);
  loop_timer_stop(&l->data_proof);
  loop_timer_stop(&l->redial);
  warm_stop_all(l);
  loop_io_del(&l->io);
  reached_close(l->client, &l->at);
  sealed_free(l->sealed);
  l->sealed = NULL;
  secret_free(l->secrets, sizeof *l->secrets);
  l->secrets = NULL;
  link_keys_free(l->keys);
  l->keys = NULL;
  loop_defer(l->client->loop, &l->defer, link_release);
}

/* The link is lost: ends it and tells the client. */
static void link_lose(struct link *l, enum refusal reason, const struct err *e) {
  if (l->dead) return;
  bool was_welcomed = l->welcomed;
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
  return l != NULL && l->welcomed && !l->dead;
}

bool link_takes_binds(const struct link *l) {
  return l != NULL && !l->dead;
}

/* ---- writing ---- */

static int link_seal_one(struct link *l, const uint8_t *p, size_t n) {
  uint8_t *record = buf_reserve(&l->out, n + RECORD_OVERHEAD_BYTES);
  if (record == NULL) return ERR_LIMIT;
  memcpy(record + RECORD_HEADER_BYTES, p, n);
  int r = sealed_write(l->sealed, record, n);
  if (r == 0) buf_added(&l->out, n + RECORD_OVERHEAD_BYTES);
  return r;
}

static int link_seal_owed(struct link *l) {
  uint8_t owed[SEALED_OWED_MAX];
  while (sealed_owes(l->sealed)) {
    size_t n = sealed_write_owed(l->sealed, owed);
    if (n == 0) break;
    int r = buf_append(&l->out, owed, n);
    if (r != 0) return r;
  }
  return 0;
}

static int link_seal_pending(struct link *l) {
  int r = link_seal_owed(l);
  while (r == 0 && l->pending.len > 0) {
    size_t n = size_min(l->pending.len, sealed_fragment_max(l->sealed));
    r = link_seal_one(l, buf_data(&l->pending), n);
    if (r != 0) break;
    buf_consume(&l->pending, n);
    r = link_seal_owed(l);
  }
  return r;
}

/* 0, or NET_RESET. */
static int link_send(struct link *l) {
  while (l->out.len > 0) {
    ssize_t n = wrap_send(l->at.wrap, l->at.fd, buf_data(&l->out), l->out.len);
    if (n == NET_AGAIN) break;
    if (n < 0) return NET_RESET;
    buf_consume(&l->out, (size_t)n);
  }
  int flushed = wrap_flush(l->at.wrap, l->at.fd);
  loop_io_set(&l->io, l->out.len > 0 || flushed == NET_AGAIN ? EPOLLIN | EPOLLOUT : EPOLLIN);
  return flushed == NET_RESET ? NET_RESET : 0;
}

/* BINDs take half of the queue at most: hundreds of tunnels with long lists would fill it, and other frames must find
   room. */
static bool link_has_room_for_binds(const struct link *l) {
  return l->pending.len + l->out.len <= LINK_OUT_MAX_BYTES / 2;
}

static void link_bind_waiting(struct link *l) {
  l->binds_waiting = false;
  LIST_FOREACH(&l->client->tunnels, it) {
    struct adit_tunnel *t = CONTAINER_OF(it, struct adit_tunnel, node);
    if (tunnel_wants_bind(t)) link_bind(l, t);
  }
}

void link_flush(struct link *l) {
  while (!l->dead) {
    if (l->overflow || link_seal_pending(l) != 0)
      link_lose_text(l, ERR_LIMIT, "the relay does not read the control link");
    else if (link_send(l) != 0) link_lose_text(l, ERR_CLOSED, "the connection to the relay was reset");
    else if (l->binds_waiting && link_has_room_for_binds(l)) link_bind_waiting(l);
    else return;
  }
}

/* Appends one frame. One that does not fit is the end of the link, but not before the next flush: callers iterate. */
static void link_put(struct link *l, const struct writer *w) {
  if (l->dead) return;
  if (w->bad || buf_append(&l->pending, w->base, w->len) != 0) l->overflow = true;
}

void link_bind(struct link *l, struct adit_tunnel *t) {
  if (!link_has_room_for_binds(l)) {
    l->binds_waiting = true;
    return;
  }
  uint8_t bytes[FRAME_HEADER_BYTES + 4096];
  struct writer w = writer_of(bytes, sizeof bytes);
  tunnel_bind_encode(t, &w);
  link_put(l, &w);
}

void link_unbind(struct link *l, uint32_t id) {
  uint8_t bytes[FRAME_HEADER_BYTES + 8];
  struct writer w = writer_of(bytes, sizeof bytes);
  frame_unbind_encode(&w, id);
  link_put(l, &w);
}

static void link_ping(struct link *l, enum frame_type type, uint64_t cookie) {
  uint8_t bytes[FRAME_HEADER_BYTES + 16];
  struct writer w = writer_of(bytes, sizeof bytes);
  frame_ping_encode(&w, type, cookie);
  link_put(l, &w);
}

void link_stop(struct link *l, bool goodbye) {
  if (l == NULL || l->dead) return;
  CHECK_MAGIC(l, LINK_MAGIC);
  if (goodbye) {
    uint8_t bytes[FRAME_HEADER_BYTES + 300];
    struct writer w = writer_of(bytes, sizeof bytes);
    frame_goodbye_encode(&w, &(struct frame_goodbye){.reason = REFUSE_CLOSED});
    if (!w.bad && buf_append(&l->pending, w.base, w.len) == 0 && link_seal_pending(l) == 0) {
      sealed_close(l->sealed);
      (void)link_seal_owed(l);
      (void)link_send(l);
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
  if (!l->welcomed) {
    link_lose_text(l, ERR_TIMEOUT, "the relay did not answer HELLO");
    return;
  }
  if (now - l->heard_ms >= LINK_SILENCE_MAX_MS) {
    link_lose_text(l, ERR_TIMEOUT, "the relay has gone silent");
    return;
  }
  if (now - l->pinged_ms >= l->heartbeat_ms) {
    l->pinged_ms = now;
    link_ping(l, FRAME_PING, now);
    link_flush(l);
    if (l->dead) return;
  }
  uint64_t next = l->pinged_ms + l->heartbeat_ms;
  if (next > l->heard_ms + LINK_SILENCE_MAX_MS) next = l->heard_ms + LINK_SILENCE_MAX_MS;
  (void)loop_timer_set(l->client->loop, &l->tick, next > now ? next - now : 1, link_tick);
}

/* ---- reading ---- */

/* From the start. HTTP proxies end both directions when one ends, and pass a reset on as an end, and Unix sockets know no reset;
   inside TLS neither is taken for the other. */
static bool link_wraps_data(const struct link *l) {
  enum setup_data asked = l->client->setup.data;
  if (dial_address_is_unix(&l->choice->dial)) return true;
  return asked == SETUP_DATA_TLS || (asked == SETUP_DATA_AUTO && l->takes_wrapped && l->choice->proxy != NULL);
}

static void link_welcome(struct link *l, struct reader body) {
  struct frame_welcome f;
  if (l->welcomed || frame_welcome_decode(body, &f) != 0 || f.version != WIRE_VERSION) {
    link_lose_text(l, ERR_SYNTAX, "the relay does not speak this version of the protocol (update adit)");
    return;
  }
  struct link_secrets *s = l->secrets;
  if (x25519_shared(s->private_key, f.share, s->shared) != 0 || link_id_derive(s->exporter, l->id) != 0 ||
      (l->keys = link_keys_new(s->exporter, s->shared)) == NULL) {
    link_lose_text(l, ERR_CRYPTO, "no keys could be agreed with the relay");
    return;
  }
  secret_free(s, sizeof *s);
  l->secrets = NULL;
  l->welcomed = true;
  l->takes_wrapped = (f.flags & WELCOME_WRAPPED) != 0;
  l->data_wrapped = link_wraps_data(l);
  if (l->data_wrapped && !l->takes_wrapped && dial_address_is_unix(&l->choice->dial)) {
    link_lose_text(l, ERR_SYNTAX, "this relay takes no data connections inside TLS, as those through a Unix socket are "
                                  "(update the relay)");
    return;
  }
  l->heartbeat_ms = f.heartbeat_ms < 100 ? 100 : f.heartbeat_ms > HEARTBEAT_MS ? HEARTBEAT_MS : f.heartbeat_ms;
  l->pinged_ms = l->heard_ms;
  (void)loop_timer_set(l->client->loop, &l->tick, l->heartbeat_ms, link_tick);
  client_link_welcomed(l->client, f.relay[0] != '\0' ? f.relay : l->choice->name);
  if (l->dead) return;
  warm_dial(l, f.warm);
  warm_watch(l);
}

static void link_goodbye(struct link *l, struct reader body) {
  struct frame_goodbye f;
  struct err e = {0};
  if (frame_goodbye_decode(body, &f) != 0) {
    link_lose_text(l, ERR_SYNTAX, "the relay sent a malformed frame");
    return;
  }
  enum refusal reason = (enum refusal)f.reason;
  e.code = refusal_is_final(reason) ? ERR_AUTH : ERR_CLOSED;
  refusal_explain(reason, f.text, e.text, sizeof e.text);
  link_lose(l, reason, &e);
}

static int link_bound(struct link *l, struct reader body) {
  struct frame_bound f;
  if (frame_bound_decode(body, &f) != 0) return ERR_SYNTAX;
  struct adit_tunnel *t = tunnel_find(l->client, f.id);
  if (t != NULL) tunnel_bound(t, &f);
  return 0;
}

static int link_unbound(struct link *l, struct reader body) {
  struct frame_unbound f;
  if (frame_unbound_decode(body, &f) != 0) return ERR_SYNTAX;
  struct adit_tunnel *t = tunnel_find(l->client, f.id);
  if (t != NULL) tunnel_unbound(t, (enum refusal)f.reason, f.text);
  return 0;
}

static int link_notice(struct link *l, struct reader body) {
  struct frame_notice f;
  if (frame_notice_decode(body, &f) != 0) return ERR_SYNTAX;
  struct adit_tunnel *t = tunnel_find(l->client, f.id);
  if (t != NULL) tunnel_noticed(t, f.reason, f.count);
  if (f.reason == NOTICE_LOST) warm_lost(l, f.count);
  return 0;
}

static int link_ticket(struct link *l, struct reader body) {
  struct frame_ticket f;
  if (frame_ticket_decode(body, &f) != 0) return ERR_SYNTAX;
  struct adit_tunnel *t = tunnel_find(l->client, f.id);
  if (t != NULL) tunnel_ticket(t, f.ticket, f.ticket_n);
  return 0;
}

static int link_want(struct link *l, struct reader body) {
  uint16_t n;
  if (frame_want_decode(body, &n) != 0) return ERR_SYNTAX;
  warm_wanted(l, n);
  return 0;
}

static int link_arrived(struct link *l, struct reader body) {
  uint64_t number;
  if (frame_arrived_decode(body, &number) != 0) return ERR_SYNTAX;
  warm_proven(l);
  return 0;
}

static int link_pinged(struct link *l, struct reader body) {
  uint64_t cookie;
  if (frame_ping_decode(body, &cookie) != 0) return ERR_SYNTAX;
  link_ping(l, FRAME_PONG, cookie);
  return 0;
}

/* May end the link. */
static void link_frame(struct link *l, const struct frame *f) {
  int r = 0;
  if (f->type == FRAME_WELCOME) {
    link_welcome(l, f->body);
    return;
  }
  if (f->type == FRAME_GOODBYE) {
    link_goodbye(l, f->body);
    return;
  }
  if (!l->welcomed) r = ERR_SYNTAX;    /* nothing else comes before WELCOME */
  else if (f->type == FRAME_BOUND) r = link_bound(l, f->body);
  else if (f->type == FRAME_UNBOUND) r = link_unbound(l, f->body);
  else if (f->type == FRAME_TICKET) r = link_ticket(l, f->body);
  else if (f->type == FRAME_NOTICE) r = link_notice(l, f->body);
  else if (f->type == FRAME_WANT) r = link_want(l, f->body);
  else if (f->type == FRAME_ARRIVED) r = link_arrived(l, f->body);
  else if (f->type == FRAME_PING) r = link_pinged(l, f->body);
  if (r != 0) link_lose_text(l, r, "the relay sent a malformed frame");
}

static void link_frames(struct link *l) {
  while (!l->dead) {
    struct frame f;
    int r = frame_next(l->frames.len > 0 ? buf_data(&l->frames) : (const uint8_t *)"", l->frames.len,
                       FRAME_BODY_MAX_BYTES, &f);
    if (r == 0) return;
    if (r < 0) {
      link_lose_text(l, r, "the relay sent a malformed frame");
      return;
    }
    l->heard_ms = loop_now_ms(l->client->loop);
    link_frame(l, &f);
    if (!l->dead) buf_consume(&l->frames, f.total);
  }
}

static void link_violated(struct link *l) {
  (void)link_seal_owed(l);
  (void)link_send(l);
  link_lose_text(l, ERR_SYNTAX, "the relay violated the record layer");
}

/* All full records in l->in. May end the link. */
static void link_records(struct link *l) {
  while (!l->dead && l->in.len > 0) {
    size_t consumed = 0, n = 0;
    uint8_t *plain = NULL;
    switch (sealed_read(l->sealed, buf_data(&l->in), l->in.len, &consumed, &plain, &n)) {
    case SEALED_MORE:
      return;
    case SEALED_NOTHING:
      if (!idle_records_flood(&l->idle_records, loop_now_ms(l->client->loop))) break;
      sealed_fail(l->sealed, ALERT_UNEXPECTED_MESSAGE);
      link_violated(l);
      return;
    case SEALED_DATA:
      l->idle_records.data++;
      if (buf_append(&l->frames, plain, n) != 0) {
        link_lose_text(l, ERR_NOMEM, "out of memory");
        return;
      }
      break;
    case SEALED_EOF:
      link_lose_text(l, ERR_CLOSED, "the relay closed the control link");
      return;
    case SEALED_PEER_ALERT:
      link_lose_text(l, ERR_CLOSED, "the relay ended the control link with an alert");
      return;
    case SEALED_FAILED:
      link_violated(l);
      return;
    }
    buf_consume(&l->in, consumed);
    link_frames(l);
  }
}

static void link_ready(struct loop_io *io, uint32_t events) {
  struct link *l = CONTAINER_OF(io, struct link, io);
  CHECK_MAGIC(l, LINK_MAGIC);
  bool readable = (events & ~(uint32_t)EPOLLOUT) != 0;
  for (int i = 0; readable && (i < LINK_READS_PER_TURN || wrap_has_input(l->at.wrap)); i++) {
    uint8_t *room = buf_reserve(&l->in, 4096);
    if (room == NULL) {
      link_lose_text(l, ERR_LIMIT, "out of memory");
      return;
    }
    ssize_t n = wrap_recv(l->at.wrap, l->at.fd, room, 4096);
    if (n == NET_AGAIN) break;
    if (n <= 0) {
      link_lose_text(l, ERR_CLOSED, "the connection to the relay was lost");
      return;
    }
    buf_added(&l->in, (size_t)n);
    link_records(l);
    if (l->dead) return;
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
  if (x25519_keypair(l->secrets->private_key, f.share) != 0) return err_set(e, ERR_CRYPTO, "no key could be made");
  if (frame_hello_sign(&f, l->secrets->exporter, token->seed) != 0) return err_set(e, ERR_CRYPTO, "the token's key does not sign");
  struct writer w = writer_of(bytes, sizeof bytes);
  frame_hello_encode(&w, &f);
  if (w.bad || buf_append(&l->pending, w.base, w.len) != 0) return err_set(e, ERR_NOMEM, "out of memory");
  LIST_FOREACH(&l->client->tunnels, it) {
    struct adit_tunnel *t = CONTAINER_OF(it, struct adit_tunnel, node);
    if (tunnel_wants_bind(t)) link_bind(l, t);
  }
  return l->overflow ? err_set(e, ERR_LIMIT, "too many tunnels for one link") : 0;
}

/* The connection leaves OpenSSL. Our Finished is still in its output: it goes in front of what we seal. */
static int link_take_over(struct link *l, struct tls_conn *tls, struct err *e) {
  size_t n;
  const uint8_t *finished = tls_conn_output(tls, &n);
  if (buf_append(&l->out, finished, n) != 0) return err_set(e, ERR_NOMEM, "out of memory");
  tls_conn_output_sent(tls, n);
  struct tls_takeover *t = &l->secrets->takeover;
  if (tls_conn_take_over(tls, t) != 0) return err_set(e, ERR_CRYPTO, "the TLS connection could not be taken over");
  l->sealed = sealed_new(&(struct sealed_params){
    .suite = tls_suite_find(t->suite), .read_secret = t->server_secret, .write_secret = t->client_secret,
    .read_sequence = t->server_sequence, .write_sequence = t->client_sequence, .fragment_max = t->fragment_max});
  memcpy(l->secrets->exporter, t->exporter, sizeof t->exporter);
  wipe(t, sizeof *t);
  return l->sealed == NULL ? err_set(e, ERR_NOMEM, "out of memory") : 0;
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
  buf_init(&l->in, LINK_IN_MAX);
  buf_init(&l->frames, FRAME_HEADER_BYTES + FRAME_BODY_MAX_BYTES + RECORD_PLAIN_MAX);
  buf_init(&l->pending, LINK_OUT_MAX_BYTES);
  buf_init(&l->out, LINK_OUT_MAX_BYTES);
  l->since_ms = l->heard_ms = loop_now_ms(c->loop);
  l->secrets = secret_alloc(sizeof *l->secrets);
  if (l->secrets == NULL) {
    err_set(e, ERR_NOMEM, "out of memory");
    goto fail;
  }
  if (link_take_over(l, tls, e) != 0 || link_hello(l, e) != 0) goto fail;
  tls_conn_free(tls);
  tls = NULL;
  if (loop_io_add(c->loop, &l->io, l->at.fd, EPOLLIN, link_ready) != 0 ||
      loop_timer_set(c->loop, &l->tick, AGENT_CONNECT_DEADLINE_MS, link_tick) != 0) {
    err_set(e, ERR_NOMEM, "out of memory");
    goto fail;
  }
  if (link_seal_pending(l) == 0 && link_send(l) == 0) return l;
  err_set(e, ERR_CLOSED, "the connection to the relay was reset");
fail:
  tls_conn_free(tls);
  link_end(l);
  return NULL;
}
