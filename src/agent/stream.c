/* A visitor's stream before and around its pump. Whatever fails before the app has answered is a reset: to a TLS visitor, too, since
   browsers show an alert as a broken certificate or protocol. */
#include "agent/stream.h"

#include <stdlib.h>
#include <string.h>

#include "agent/dial.h"
#include "loop/net.h"
#include "wire/proxy.h"

enum { STREAM_MAGIC = 0x7374726d };

struct stream {
  unsigned magic;
  struct adit_tunnel *tunnel;
  struct list node;
  int wire_fd;                     /* a number only, once the pump has it */
  struct sealed *sealed;
  uint8_t *proxy;                  /* PROXY header until the pump has it */
  size_t proxy_n;
  struct dial *dial;
  struct pump *pump;
  uint64_t began_ms;
  struct loop_io io;               /* of wire_fd, while it waits for the app: a visitor may leave meanwhile */
  struct loop_timer timer;         /* until the app's name must be known; or until the app is tried again */
  struct loop_deferred defer;
};

bool stream_kind_allowed(const struct adit_tunnel *t, uint8_t kind) {
  bool raw = (t->request.flags & TUNNEL_TCP) != 0;
  if (kind == STREAM_TLS13 || kind == STREAM_TLS12) return true;
  if (kind == STREAM_RAW_SEALED) return raw;
  return kind == STREAM_RAW_PLAIN && raw && (t->request.flags & TUNNEL_PLAIN) != 0;
}

static void stream_release(struct loop_deferred *f) {
  free(CONTAINER_OF(f, struct stream, defer));
}

/* Both descriptors are closed or the pool's. */
static void stream_free(struct stream *s) {
  struct adit_tunnel *t = s->tunnel;
  s->magic = 0;
  loop_io_del(&s->io);
  loop_timer_stop(&s->timer);
  dial_stop(s->dial);
  sealed_free(s->sealed);
  free(s->proxy);
  list_remove(&s->node);
  atomic_fetch_sub_explicit(&t->stats.now, 1, memory_order_relaxed);
  loop_defer(t->client->loop, &s->defer, stream_release);
  tunnel_stream_ended(t);          /* the tunnel may be gone after this */
}

static void stream_refuse(struct stream *s) {
  loop_io_del(&s->io);
  descriptors_remove(&s->tunnel->client->descriptors, s->wire_fd);
  net_reset(s->wire_fd);
  s->wire_fd = -1;
  stream_free(s);
}

static void stream_pump_ended(struct pump *p, void *user, enum close_reason why, uint64_t to_peer, uint64_t to_wire) {
  (void)p, (void)why, (void)to_peer, (void)to_wire;
  struct stream *s = user;
  CHECK_MAGIC(s, STREAM_MAGIC);
  s->pump = NULL;
  stream_free(s);
}

static void stream_reach_app(struct stream *s);

static void stream_retry_due(struct loop_timer *timer) {
  stream_reach_app(CONTAINER_OF(timer, struct stream, timer));
}

static void stream_visitor_left(struct loop_io *io, uint32_t events) {
  (void)events;
  struct stream *s = CONTAINER_OF(io, struct stream, io);
  CHECK_MAGIC(s, STREAM_MAGIC);
  stream_refuse(s);
}

/* A visitor may be faster than the app, whose address is often told before it listens: then it is tried again. False when
   it was reached before, or has had its time to start. */
static bool stream_waits_for_app(struct stream *s) {
  struct adit_tunnel *t = s->tunnel;
  struct loop *l = t->client->loop;
  if (t->app_reached || loop_now_ms(l) - s->began_ms >= APP_START_MS) return false;
  if (s->io.loop == NULL && loop_io_add(l, &s->io, s->wire_fd, EPOLLET, stream_visitor_left) != 0) return false;
  if (loop_timer_set(l, &s->timer, APP_RETRY_MS, stream_retry_due) != 0) return false;
  tunnel_app_awaited(t);
  return true;
}

/* NULL: descriptors have run out, which is not the app's fault. */
static const char *stream_app_trouble(const struct err *e) {
  switch (e->code) {
    case ERR_LIMIT: return NULL;
    case ERR_CLOSED: return "it refused the connection (start it, or check the port)";
    case ERR_TIMEOUT: return "it does not answer (start it, or check the port)";
    default: return e->text;
  }
}

static void stream_connected(void *user, int fd, const struct addr *to, const struct err *e) {
  (void)to;
  struct stream *s = user;
  CHECK_MAGIC(s, STREAM_MAGIC);
  struct adit_tunnel *t = s->tunnel;
  s->dial = NULL;
  if (fd < 0) {
    if (e->code == ERR_CLOSED && stream_waits_for_app(s)) return;
    tunnel_app_failed(t, stream_app_trouble(e));
    stream_refuse(s);
    return;
  }
  t->app_reached = true;
  loop_io_del(&s->io);
  struct pump_params p = {.wire_fd = s->wire_fd,
                          .peer_fd = fd,
                          .peer_reset = e->code != 0,
                          .sealed = s->sealed,
                          .peer_first = s->proxy,
                          .peer_first_n = s->proxy_n,
                          .on_end = stream_pump_ended,
                          .user = s,
                          .to_peer_counter = &t->stats.to_app,
                          .to_wire_counter = &t->stats.from_app};
  if (pump_start(t->client->pool, &p, &s->pump, NULL) != 0) {
    descriptors_remove(&t->client->descriptors, fd);
    net_reset(fd);
    stream_refuse(s);
    return;
  }
  s->sealed = NULL;
  free(s->proxy);
  s->proxy = NULL;
}

static void stream_dial(struct stream *s) {
  struct adit_tunnel *t = s->tunnel;
  loop_timer_stop(&s->timer);
  struct adit_client *c = t->client;
  s->dial =
      dial_start(c->loop, &c->descriptors, t->app_addrs, t->app_addrs_n, APP_CONNECT_DEADLINE_MS, stream_connected, s);
  if (s->dial == NULL) stream_refuse(s);
  else dial_hear_resets(s->dial);
}

static void stream_name_deadline(struct loop_timer *timer) {
  struct stream *s = CONTAINER_OF(timer, struct stream, timer);
  tunnel_app_failed(s->tunnel, "its name cannot be looked up (check the name, and that DNS works here)");
  stream_refuse(s);
}

static void stream_reach_app(struct stream *s) {
  struct adit_tunnel *t = s->tunnel;
  if (t->app_addrs_n > 0) stream_dial(s);
  else if (loop_timer_set(t->client->loop, &s->timer, APP_CONNECT_DEADLINE_MS, stream_name_deadline) != 0) stream_refuse(s);
  else tunnel_app_lookup(t);
}

void stream_app_resolved(struct adit_tunnel *t) {
  LIST_FOREACH(&t->streams, it) {
    struct stream *s = CONTAINER_OF(it, struct stream, node);
    if (s->pump != NULL || s->dial != NULL) continue;
    if (t->app_addrs_n > 0) stream_dial(s);
    else stream_refuse(s);
  }
}

void stream_stop_all(struct adit_tunnel *t) {
  LIST_FOREACH(&t->streams, it) {
    struct stream *s = CONTAINER_OF(it, struct stream, node);
    if (s->pump != NULL) pump_stop(s->pump, CLOSE_LOCAL);
    else stream_refuse(s);
  }
}

/* The record layer and the PROXY header, from OPEN. */
static int stream_prepare(struct stream *s, const struct open_message *open) {
  if (open->kind != STREAM_RAW_PLAIN) {
    const struct tls_suite *suite = tls_suite_find(open->suite);
    if (suite == NULL || open->secret_n != hash_bytes(suite->hash)) return ERR_SYNTAX;
    s->sealed = sealed_new(&(struct sealed_params){.suite = suite,
                                                   .read_secret = open->client_secret,
                                                   .write_secret = open->server_secret,
                                                   .read_sequence = open->client_sequence,
                                                   .write_sequence = open->server_sequence,
                                                   .fragment_max = open->fragment_max});
    if (s->sealed == NULL) return ERR_NOMEM;
  }
  if (!s->tunnel->request.proxy_protocol) return 0;
  s->proxy = malloc(PROXY_HEADER_MAX_BYTES);
  if (s->proxy == NULL) return ERR_NOMEM;
  s->proxy_n = proxy_write_v2(&open->visitor, &open->local, open->alpn, open->alpn_n, s->proxy);
  return 0;
}

void stream_begin(struct adit_tunnel *t, int fd, const struct open_message *open) {
  struct adit_client *c = t->client;
  struct stream *s = calloc(1, sizeof *s);
  if (s == NULL) {
    descriptors_remove(&c->descriptors, fd);
    net_reset(fd);
    return;
  }
  *s = (struct stream){.magic = STREAM_MAGIC, .tunnel = t, .wire_fd = fd};
  s->began_ms = loop_now_ms(c->loop);
  list_push_tail(&t->streams, &s->node);
  atomic_fetch_add_explicit(&t->stats.now, 1, memory_order_relaxed);
  atomic_fetch_add_explicit(&t->stats.total, 1, memory_order_relaxed);
  if (stream_prepare(s, open) != 0) stream_refuse(s);
  else stream_reach_app(s);
}
