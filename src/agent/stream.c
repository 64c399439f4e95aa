/* A visitor's stream before and around its pump. Whatever fails before the app has answered is a reset: to a TLS
   visitor, too, since browsers show an alert as a broken certificate or protocol. */
#include "agent/stream.h"

#include <stdlib.h>
#include <string.h>

#include "agent/tunnel.h"
#include "loop/net.h"
#include "wire/proxy.h"

enum { STREAM_MAGIC = 0x7374726d };

struct stream {
  unsigned magic;
  struct streams *of;
  struct list node;
  struct wire wire;                /* a number only, once the pump has it */
  struct loop_io *wire_io;         /* while it begins: for which the loop has it */
  struct sealed *sealed;
  uint8_t *proxy;                  /* PROXY header until the pump has it */
  size_t proxy_n;
  struct app_call call;
  struct pump *pump;
  struct loop_deferred defer;
};

static bool stream_kind_allowed(const struct adit_tunnel *t, uint8_t kind) {
  bool raw = (t->request.flags & TUNNEL_TCP) != 0;
  if (kind == STREAM_TLS13 || kind == STREAM_TLS12) return true;
  if (kind == STREAM_RAW_SEALED) return raw;
  return kind == STREAM_RAW_PLAIN && raw && (t->request.flags & TUNNEL_PLAIN) != 0;
}

bool stream_is_wanted(const struct adit_tunnel *t, const struct open_message *open) {
  return stream_kind_allowed(t, open->kind) && !cidrs_contain(t->request.deny, t->request.deny_n, &open->visitor);
}

static void stream_release(struct loop_deferred *f) {
  free(CONTAINER_OF(f, struct stream, defer));
}

/* Both descriptors are closed or the pool's. */
static void stream_free(struct stream *s) {
  struct streams *of = s->of;
  s->magic = 0;
  app_call_end(&s->call);
  sealed_free(s->sealed);
  wrap_free(s->wire.outer);
  free(s->proxy);
  list_remove(&s->node);
  atomic_fetch_sub_explicit(&of->now, 1, memory_order_relaxed);
  loop_defer(of->client->loop, &s->defer, stream_release);
  of->ended(of);
}

static void stream_unwatch(struct stream *s) {
  if (s->wire_io != NULL) loop_io_del(s->wire_io);
  s->wire_io = NULL;
}

static void stream_refuse(struct stream *s) {
  app_call_end(&s->call);          /* it may wait for the descriptor */
  stream_unwatch(s);
  descriptors_remove(&s->of->client->descriptors, s->wire.fd);
  net_reset(s->wire.fd);
  s->wire.fd = -1;
  stream_free(s);
}

static void stream_pump_ended(struct pump *p, void *user, enum close_reason why, uint64_t to_peer, uint64_t to_wire) {
  (void)p, (void)why, (void)to_peer, (void)to_wire;
  struct stream *s = user;
  CHECK_MAGIC(s, STREAM_MAGIC);
  s->pump = NULL;
  stream_free(s);
}

static void stream_connected(struct app_call *call, int fd, bool was_reset) {
  struct stream *s = CONTAINER_OF(call, struct stream, call);
  CHECK_MAGIC(s, STREAM_MAGIC);
  struct adit_client *c = s->of->client;
  if (fd < 0) {
    stream_refuse(s);
    return;
  }
  struct pump_params p = {.wire = s->wire,
                          .wire_io = s->wire_io,
                          .peer_fd = fd,
                          .peer_reset = was_reset,
                          .sealed = s->sealed,
                          .peer_first = s->proxy,
                          .peer_first_n = s->proxy_n,
                          .on_end = stream_pump_ended,
                          .user = s,
                          .to_peer_tally = &s->of->to_app,
                          .to_wire_tally = &s->of->from_app};
  if (pump_start(c->pool, &p, &s->pump, NULL) != 0) {
    descriptors_remove(&c->descriptors, fd);
    net_reset(fd);
    stream_refuse(s);
    return;
  }
  s->sealed = NULL;
  s->wire.outer = NULL;
  free(s->proxy);
  s->proxy = NULL;
}

void streams_init(struct streams *s, struct adit_client *c, void (*ended)(struct streams *s)) {
  s->client = c;
  s->ended = ended;
  list_init(&s->all);
}

void streams_stop(struct streams *s) {
  LIST_FOREACH(&s->all, it) {
    struct stream *one = CONTAINER_OF(it, struct stream, node);
    if (one->pump != NULL) pump_stop(one->pump, CLOSE_LOCAL);
    else stream_refuse(one);
  }
}

/* The record layer and the PROXY header, from OPEN. */
static int stream_prepare(struct stream *s, const struct open_message *open, bool proxy_protocol) {
  if (open->kind != STREAM_RAW_PLAIN) {
    const struct tls_suite *suite = tls_suite_find(open->suite);
    if (suite == NULL || open->secret_n != tls_suite_secret_bytes(suite)) return ERR_SYNTAX;
    s->sealed = sealed_new(&(struct sealed_params){.suite = suite,
                                                   .read_secret = open->client_secret,
                                                   .write_secret = open->server_secret,
                                                   .read_sequence = open->client_sequence,
                                                   .write_sequence = open->server_sequence,
                                                   .fragment_max = open->fragment_max});
    if (s->sealed == NULL) return ERR_NOMEM;
  }
  if (!proxy_protocol) return 0;
  s->proxy = malloc(PROXY_HEADER_MAX_BYTES);
  if (s->proxy == NULL) return ERR_NOMEM;
  s->proxy_n = proxy_write_v2(&open->visitor, &open->local, open->alpn, open->alpn_n, s->proxy);
  return 0;
}

void stream_begin(struct adit_tunnel *t, struct wire wire, struct loop_io *io, const struct open_message *open) {
  struct streams *of = &t->streams;
  struct stream *s = calloc(1, sizeof *s);
  if (s == NULL) {
    loop_io_del(io);
    wrap_free(wire.outer);
    descriptors_remove(&of->client->descriptors, wire.fd);
    net_reset(wire.fd);
    return;
  }
  *s = (struct stream){.magic = STREAM_MAGIC, .of = of, .wire = wire, .wire_io = io};
  list_push_tail(&of->all, &s->node);
  atomic_fetch_add_explicit(&of->now, 1, memory_order_relaxed);
  atomic_fetch_add_explicit(&of->total, 1, memory_order_relaxed);
  if (stream_prepare(s, open, t->request.proxy_protocol) != 0) stream_refuse(s);
  else app_call(t, &s->call, wire.fd, wire.outer != NULL ? EPOLLRDHUP : 0, stream_connected); /* a proxy's reset */
  stream_unwatch(s);               /* until the app is reached; and s may be over, but is freed after the turn */
}
