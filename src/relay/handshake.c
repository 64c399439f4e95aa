/* Driving a TLS handshake: read at most what tls_conn_want allows, feed, write what comes out. After the peer's
   Finished nothing more has been read, so the stream's first byte is still in the kernel. */
#include "relay/handshake.h"

#include <string.h>

#include "loop/net.h"
#include "relay/signer.h"

enum { HANDSHAKE_CHUNK_BYTES = 4096 };

/* io stays: it goes to the owner, or with the connection. */
static void handshake_leave(struct handshake *h) {
  loop_timer_stop(&h->deadline);
  if (h->now == NULL) return;
  (void)__atomic_fetch_sub(h->now, 1, __ATOMIC_RELAXED);
  h->now = NULL;
}

/* Writes what can be written at once: for alerts, after which the connection ends anyway. */
static void flush_once(int fd, struct tls_conn *conn) {
  size_t n;
  const uint8_t *out = tls_conn_output(conn, &n);
  if (n == 0) return;
  ssize_t sent = net_send(fd, out, n);
  if (sent > 0) tls_conn_output_sent(conn, (size_t)sent);
}

static void handshake_fail(struct handshake *h) {
  handshake_leave(h);
  loop_io_del(&h->io);
  if (h->conn != NULL) {
    h->refusal = tls_conn_refusal(h->conn);
    flush_once(h->fd, h->conn);
  }
  tls_conn_free(h->conn);
  h->conn = NULL;
  pump_linger_close(h->worker->pool, h->fd);
  h->fd = -1;
  h->done(h, false);
}

void handshake_refuse(struct worker *w, int fd, struct tls_conn *conn, uint8_t alert) {
  tls_conn_alert(conn, alert);
  flush_once(fd, conn);
  tls_conn_free(conn);
  pump_linger_close(w->pool, fd);
}

void handshake_abort(struct handshake *h) {
  handshake_leave(h);
  loop_io_del(&h->io);
  tls_conn_free(h->conn);
  h->conn = NULL;
  net_close(h->fd);
  h->fd = -1;
}

static void handshake_deadline(struct loop_timer *t) {
  struct handshake *h = CONTAINER_OF(t, struct handshake, deadline);
  h->late = true;
  handshake_fail(h);
}

/* 1: all output sent; 0: would block; negative: gone. */
static int handshake_flush(struct handshake *h) {
  for (;;) {
    size_t n;
    const uint8_t *out = tls_conn_output(h->conn, &n);
    if (n == 0) return 1;
    ssize_t sent = net_send(h->fd, out, n);
    if (sent == NET_AGAIN) return 0;
    if (sent < 0) return (int)sent;
    tls_conn_output_sent(h->conn, (size_t)sent);
  }
}

/* After each feed. False when nothing more may be fed now: the handshake is over, one way or the other, or waits. */
static bool handshake_advance(struct handshake *h, enum tls_status status) {
  size_t answer;
  h->waits = status == TLS_WAITS;
  if (h->waits) return false;
  (void)tls_conn_output(h->conn, &answer);
  if (status == TLS_FAILED) {
    handshake_fail(h);
    return false;
  }
  int flushed = handshake_flush(h);
  if (flushed < 0) {
    handshake_fail(h);
    return false;
  }
  if (flushed == 0) {              /* only a peer that does not read makes us wait here */
    loop_io_set(&h->io, EPOLLOUT);
    return false;
  }
  if (status == TLS_DONE) {
    if (answer == 0) net_acknowledge(h->fd);     /* TLS 1.3: the request follows, and waits for that */
    handshake_leave(h);
    h->done(h, true);
    return false;
  }
  loop_io_set(&h->io, EPOLLIN);
  return true;
}

/* Its peer stirs though our flight is still to come: what it says can wait, and if it has gone so is the handshake.
   Most never do, so nothing in the loop was changed for them. */
static void handshake_stirred(struct handshake *h, uint32_t events) {
  if (events & (EPOLLERR | EPOLLHUP | EPOLLRDHUP)) handshake_fail(h);
  else loop_io_set(&h->io, EPOLLRDHUP);
}

static void handshake_signed(struct tls_waiter *w) {
  struct handshake *h = CONTAINER_OF(w, struct handshake, waiter);
  struct err e;
  (void)handshake_advance(h, tls_conn_feed(h->conn, NULL, 0, &e));
}

static void handshake_ready(struct loop_io *io, uint32_t events) {
  struct handshake *h = CONTAINER_OF(io, struct handshake, io);
  uint8_t chunk[HANDSHAKE_CHUNK_BYTES];
  struct err e;
  if (h->waits) {
    handshake_stirred(h, events);
    return;
  }
  if (events & EPOLLOUT) {
    if (!handshake_advance(h, tls_conn_feed(h->conn, NULL, 0, &e))) return;
  }
  for (int reads = 0; reads < HANDSHAKE_READS_PER_TURN_MAX; reads++) {
    size_t want = size_min(tls_conn_want(h->conn), sizeof chunk);
    ssize_t n = net_recv(h->fd, chunk, want);
    if (n == NET_AGAIN) break;
    if (n <= 0) {
      handshake_fail(h);
      return;
    }
    if (!handshake_advance(h, tls_conn_feed(h->conn, chunk, (size_t)n, &e))) return;
  }
  net_acknowledge(h->fd);          /* of a flight that comes in parts, so that the next part does */
}

void handshake_start(struct handshake *h, struct worker *w, int fd, struct loop_io *from,
                     const struct client_hello *hello, struct tls_server *server,
                     const struct tls_server_policy *policy, uint64_t *now,
                     void (*done)(struct handshake *h, bool ok)) {
  struct tls_server_policy ours = *policy;
  struct err e;
  memset(h, 0, sizeof *h);
  h->waiter.ready = handshake_signed;
  ours.fibres = signer_fibres(w->signer);
  ours.waiter = &h->waiter;
  h->worker = w;
  h->fd = fd;
  h->now = now;
  h->done = done;
  (void)__atomic_fetch_add(now, 1, __ATOMIC_RELAXED);
  int r = loop_io_take_late(w->loop, &h->io, fd, EPOLLIN, handshake_ready, from);
  h->conn = server != NULL ? tls_conn_server(server, &ours, &e) : NULL;
  if (h->conn == NULL || r != 0 ||
      loop_timer_set(w->loop, &h->deadline, HANDSHAKE_DEADLINE_MS, handshake_deadline) != 0) {
    handshake_fail(h);
    return;
  }
  (void)handshake_advance(h, tls_conn_feed(h->conn, buf_data(&hello->raw), hello->raw.len, &e));
}
