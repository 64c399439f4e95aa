/* A handshake's I/O. Bytes are read exactly, record by record, so that what the other end sends after its Finished is
   still in the kernel when our own record layer takes over. */
#include "agent/greeting.h"

#include <stdlib.h>

#include "loop/net.h"

enum { GREETING_MAGIC = 0x67726565 };

struct greeting {
  unsigned magic;
  struct adit_client *client;
  greeting_fn *fn;
  void *user;
  struct wire wire;                /* the caller's */
  struct tls_conn *tls;
  bool answered;                   /* some byte of the other end's has come */
  struct loop_io io;
  struct loop_deferred defer;
};

static void greeting_release(struct loop_deferred *f) {
  free(CONTAINER_OF(f, struct greeting, defer));
}

void greeting_stop(struct greeting *g) {
  if (g == NULL) return;
  CHECK_MAGIC(g, GREETING_MAGIC);
  g->magic = 0;
  loop_io_del(&g->io);
  tls_conn_free(g->tls);
  loop_defer(g->client->loop, &g->defer, greeting_release);
}

static void greeting_end(struct greeting *g, const struct err *e) {
  greeting_fn *fn = g->fn;
  void *user = g->user;
  struct tls_conn *tls = e == NULL ? g->tls : NULL;
  struct err why = {0};
  if (e != NULL) why = *e;
  else g->tls = NULL;
  greeting_stop(g);
  fn(user, tls, &why);
}

static int greeting_closed(const struct greeting *g, struct err *e) {
  if (g->answered)
    return err_set(e, ERR_CLOSED, "the connection was closed during the handshake (is that address a relay?)");
  return err_set(e, ERR_CLOSED,
                 "the connection was closed before TLS was answered (is that address a relay? if a load balancer "
                 "stands before it, its PROXY header and the relay's --accept-proxy must go together)");
}

/* Sends what there is; negative when the connection failed. */
static int greeting_flush(struct greeting *g) {
  size_t n;
  const uint8_t *p = tls_conn_output(g->tls, &n);
  while (n > 0) {
    ssize_t sent = wire_send(&g->wire, p, n);
    if (sent == NET_AGAIN) break;
    if (sent < 0) return ERR_CLOSED;
    tls_conn_output_sent(g->tls, (size_t)sent);
    p = tls_conn_output(g->tls, &n);
  }
  int flushed = wire_flush(&g->wire);
  loop_io_set(&g->io, n > 0 || flushed == NET_AGAIN ? EPOLLIN | EPOLLOUT : EPOLLIN);
  return flushed == NET_RESET ? ERR_CLOSED : 0;
}

/* One step of the handshake; false when g has reported. */
static bool greeting_step(struct greeting *g, const uint8_t *p, size_t n) {
  struct err e = {0};
  switch (tls_conn_feed(g->tls, p, n, &e)) {
    case TLS_DONE:
      greeting_end(g, NULL);
      return false;
    case TLS_FAILED:
      (void)greeting_flush(g);     /* the alert */
      greeting_end(g, &e);
      return false;
    case TLS_GOING_ON:
    case TLS_WAITS:                /* no client does */
      break;
  }
  if (greeting_flush(g) == 0) return true;
  (void)greeting_closed(g, &e);
  greeting_end(g, &e);
  return false;
}

static void greeting_ready(struct loop_io *io, uint32_t events) {
  struct greeting *g = CONTAINER_OF(io, struct greeting, io);
  CHECK_MAGIC(g, GREETING_MAGIC);
  uint8_t bytes[4096];
  struct err e = {0};
  ssize_t n = (events & EPOLLOUT) != 0 && greeting_flush(g) != 0 ? NET_RESET : 1;
  while (n > 0) {
    n = wire_recv(&g->wire, bytes, size_min(sizeof bytes, tls_conn_want(g->tls)));
    if (n == NET_AGAIN) return;
    if (n <= 0) break;
    g->answered = true;
    if (!greeting_step(g, bytes, (size_t)n)) return;
  }
  (void)greeting_closed(g, &e);
  greeting_end(g, &e);
}

struct greeting *greeting_start(struct adit_client *c, struct wire wire, struct tls_conn *tls, greeting_fn *fn,
                                void *user, struct err *e) {
  struct greeting *g = calloc(1, sizeof *g);
  if (g == NULL) {
    tls_conn_free(tls);
    err_set(e, ERR_NOMEM, "out of memory");
    return NULL;
  }
  *g = (struct greeting){.magic = GREETING_MAGIC, .client = c, .fn = fn, .user = user, .wire = wire, .tls = tls};
  int r = loop_io_add(c->loop, &g->io, wire.fd, EPOLLIN, greeting_ready) == 0 ? 0
                                                                              : err_set(e, ERR_NOMEM, "out of memory");
  if (r == 0 && tls_conn_feed(tls, NULL, 0, e) == TLS_FAILED) r = e->code;
  if (r == 0 && greeting_flush(g) != 0) r = greeting_closed(g, e);
  if (r == 0) return g;
  greeting_stop(g);
  return NULL;
}
