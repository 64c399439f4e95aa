/* A visitor's stream before and around its pump. Whatever fails before the app has answered is a reset: to a TLS
   visitor, too, since browsers show an alert as a broken certificate or protocol. */
#include "agent/stream.h"

#include <stdlib.h>
#include <string.h>

#include "agent/tunnel.h"
#include "loop/net.h"
#include "wire/proxy.h"

enum {
  STREAM_MAGIC = 0x7374726d,
  EXPORT_MAGIC = 0x61647431,       /* "adt1" */
  EXPORT_VERSION = 1,
  EXPORT_FIXED_BYTES = 64 + SEALED_EXPORT_MAX_BYTES + PROXY_HEADER_MAX_BYTES     /* all but pump and wraps */
};

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

static void stream_call(struct adit_tunnel *t, struct stream *s, uint64_t began_ms) {
  uint32_t leaves_by = s->wire.outer != NULL ? EPOLLRDHUP : 0;   /* a proxy's reset */
  app_call(t, &s->call, s->wire.fd, leaves_by, began_ms, stream_connected);
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
  else stream_call(t, s, loop_now_ms(of->client->loop));
  stream_unwatch(s);               /* until the app is reached; and s may be over, but is freed after the turn */
}

/* To another program and back: behind a version the pump; or, of one that has none yet, for how long it has been
   waiting for its app, its record layer, its PROXY header, and what lies around its data connection. */

bool streams_are_calling(const struct streams *s) {
  LIST_FOREACH((struct list *)(uintptr_t)&s->all, it)
    if (app_call_is_amid(&CONTAINER_OF(it, struct stream, node)->call)) return true;
  return false;
}

/* It is none of this program's any more; its descriptors are the caller's. */
static void stream_leave(struct stream *s) {
  s->magic = 0;
  app_call_end(&s->call);
  free(s->proxy);
  list_remove(&s->node);
  atomic_fetch_sub_explicit(&s->of->now, 1, memory_order_relaxed);
  loop_defer(s->of->client->loop, &s->defer, stream_release);
}

static void export_head(const struct stream *s, struct writer *w) {
  write_u32(w, EXPORT_MAGIC);
  write_u8(w, EXPORT_VERSION);
  write_u8(w, s->pump != NULL);
}

/* Once its keys are bytes, the stream has none. */
static void export_call(struct stream *s, struct writer *w) {
  write_u64(w, loop_now_ms(s->of->client->loop) - s->call.began_ms);
  write_u8(w, s->sealed != NULL);
  if (s->sealed != NULL) sealed_export(s->sealed, w);
  write_vec16(w, s->proxy, s->proxy_n);
  wrap_export(s->wire.outer, w);
  s->sealed = NULL;
  s->wire.outer = NULL;
}

int stream_pack(struct streams *of, struct buf *state, int fds[2], size_t *fds_n) {
  if (list_empty(&of->all)) return ERR_CLOSED;
  struct stream *s = CONTAINER_OF(of->all.next, struct stream, node);
  size_t before = state->len, n = EXPORT_FIXED_BYTES + wrap_export_bytes(s->wire.outer);
  if (n > state->max - before) return ERR_LIMIT;
  uint8_t *at = buf_reserve(state, n);
  if (at == NULL) return ERR_NOMEM;
  struct writer w = writer_of(at, n);
  export_head(s, &w);
  if (s->pump == NULL) export_call(s, &w);
  ASSERT(!w.bad);
  buf_added(state, w.len);
  fds[0] = s->wire.fd;
  int rc = s->pump != NULL ? pump_export(s->pump, state, &fds[0], &fds[1]) : 0;
  *fds_n = s->pump != NULL ? 2 : 1;
  if (rc == 0) stream_leave(s);
  else buf_cut(state, before);
  return rc;
}

static int import_call(struct stream *s, struct reader *r) {
  uint64_t now_ms = loop_now_ms(s->of->client->loop), age_ms = read_u64(r);
  s->call.began_ms = age_ms < now_ms ? now_ms - age_ms : 0;
  int rc = read_flag(r) ? sealed_import(r, &s->sealed) : 0;
  struct reader proxy = read_vec16(r);
  if (rc != 0 || r->bad || proxy.left > PROXY_HEADER_MAX_BYTES) return rc != 0 ? rc : ERR_SYNTAX;
  s->proxy_n = proxy.left;
  if (proxy.left > 0 && (s->proxy = malloc(proxy.left)) == NULL) return ERR_NOMEM;
  read_copy(&proxy, s->proxy, s->proxy_n);
  rc = wrap_import(r, &s->wire.outer);
  return rc == 0 && !reader_done(r) ? ERR_SYNTAX : rc;
}

static int import_pump(struct stream *s, struct reader *r, int peer_fd) {
  struct pump_params p = {.wire = s->wire,
                          .peer_fd = peer_fd,
                          .on_end = stream_pump_ended,
                          .user = s,
                          .to_peer_tally = &s->of->to_app,
                          .to_wire_tally = &s->of->from_app};
  return pump_import(s->of->client->pool, &p, r->at, r->left, &s->pump);
}

int stream_unpack(struct adit_tunnel *t, const uint8_t *state, size_t n, const int *fds, size_t fds_n) {
  struct reader r = reader_of(state, n);
  bool known = read_u32(&r) == EXPORT_MAGIC;
  known = read_u8(&r) == EXPORT_VERSION && known;
  bool has_pump = read_flag(&r);
  if (!known || r.bad || fds_n != (has_pump ? 2 : 1)) return ERR_SYNTAX;
  struct stream *s = calloc(1, sizeof *s);
  if (s == NULL) return ERR_NOMEM;
  *s = (struct stream){.magic = STREAM_MAGIC, .of = &t->streams, .wire.fd = fds[0]};
  int rc = has_pump ? import_pump(s, &r, fds[1]) : import_call(s, &r);
  if (rc != 0) {
    sealed_free(s->sealed);
    wrap_free(s->wire.outer);
    free(s->proxy);
    free(s);
    return rc;
  }
  list_push_tail(&t->streams.all, &s->node);
  atomic_fetch_add_explicit(&t->streams.now, 1, memory_order_relaxed);
  return 0;
}

void streams_call(struct adit_tunnel *t) {
  LIST_FOREACH(&t->streams.all, it) {
    struct stream *s = CONTAINER_OF(it, struct stream, node);
    if (s->pump == NULL && s->call.state == APP_CALL_ENDED) stream_call(t, s, s->call.began_ms);
  }
}
