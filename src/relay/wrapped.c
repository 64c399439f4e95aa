/* A stranger gets a handshake and nothing more: behind it no more than a preface is read, and the pool (relay/warm.h)
   checks its MAC before anything else. */
#include "relay/wrapped.h"

#include <stdlib.h>

#include "loop/net.h"
#include "relay/certs.h"
#include "relay/handshake.h"
#include "relay/warm.h"
#include "wire/frame.h"

enum { WRAPPED_MAGIC = 0x77726170 };

struct wrapped {
  unsigned magic;
  struct worker *worker;
  struct list node;
  struct newcomer newcomer;
  struct handshake handshake;
  struct loop_io io;
  struct loop_timer deadline;
  struct loop_deferred deferred;
  struct wire wire;                /* ours after the handshake; none before */
  size_t got;
  uint8_t preface[PREFACE_BYTES];
};

static void wrapped_free(struct loop_deferred *d) { free(CONTAINER_OF(d, struct wrapped, deferred)); }

/* The end of the struct; descriptor and TLS are gone or passed on. */
static void wrapped_leave(struct wrapped *c) {
  newcomer_leave(&c->newcomer);
  loop_timer_stop(&c->deadline);
  loop_io_del(&c->io);
  list_remove(&c->node);
  c->magic = 0;
  loop_defer(c->worker->loop, &c->deferred, wrapped_free);
}

static void wrapped_drop(struct wrapped *c) {
  if (c->wire.fd < 0) handshake_abort(&c->handshake);
  wrapped_leave(c);                /* before its number can be another thread's new descriptor */
  wrap_free(c->wire.outer);
  net_close(c->wire.fd);
}

static void wrapped_refuse(struct wrapped *c) {
  METRIC_ADD(&c->worker->metrics, data_connections_refused_total, 1);
  wrapped_drop(c);
}

static void wrapped_unwanted(struct newcomer *n) { wrapped_drop(CONTAINER_OF(n, struct wrapped, newcomer)); }

static void wrapped_late(struct loop_timer *t) { wrapped_refuse(CONTAINER_OF(t, struct wrapped, deadline)); }

/* The preface is all that it may have said. */
static void wrapped_arrived(struct wrapped *c) {
  struct preface p;
  if (preface_decode(c->preface, &p) != 0 || wrap_has_input(c->wire.outer) || wrap_unread(c->wire.outer) > 0) {
    wrapped_refuse(c);
    return;
  }
  wrap_read_little(c->wire.outer, 0);
  wrapped_leave(c);                /* before it is in the loop once more */
  warm_arrived(c->worker, c->wire, &p);
}

static void wrapped_ready(struct loop_io *io, uint32_t events) {
  struct wrapped *c = CONTAINER_OF(io, struct wrapped, io);
  (void)events;
  CHECK_MAGIC(c, WRAPPED_MAGIC);
  while (c->got < PREFACE_BYTES) {
    ssize_t n = wire_recv(&c->wire, c->preface + c->got, PREFACE_BYTES - c->got);
    if (n == NET_AGAIN) return;
    if (n <= 0) {
      wrapped_refuse(c);
      return;
    }
    c->got += (size_t)n;
  }
  wrapped_arrived(c);
}

static void wrapped_shaken(struct handshake *h, bool ok) {
  struct wrapped *c = CONTAINER_OF(h, struct wrapped, handshake);
  CHECK_MAGIC(c, WRAPPED_MAGIC);
  struct loop *l = c->worker->loop;
  if (!ok) {
    METRIC_ADD(&c->worker->metrics, data_handshakes_failed_total, 1);
    wrapped_leave(c);
    return;
  }
  struct err e;
  c->wire.fd = h->fd;
  c->wire.outer = wrap_take_over(h->conn, false, NULL, &e);
  h->conn = NULL;
  int r = loop_io_take_late(l, &c->io, c->wire.fd, EPOLLIN, wrapped_ready, &h->io);
  if (c->wire.outer == NULL || r != 0 ||
      loop_timer_set(l, &c->deadline, PREFACE_DEADLINE_MS, wrapped_late) != 0) {
    wrapped_refuse(c);
    return;
  }
  wrap_read_little(c->wire.outer, WRAPPED_PREFACE_MAX_BYTES);
  wrapped_ready(&c->io, EPOLLIN);  /* it came in the same flight as Finished */
}

void wrapped_accept(struct worker *w, int fd, struct newcomer *newcomer, const struct client_hello *hello) {
  static const uint8_t alpn[] = "\x0b" WIRE_DATA_ALPN;
  struct tls_server_policy policy = {
      .host = hello->sni, .alpn = alpn, .alpn_n = sizeof alpn - 1, .tls13_only = true, .whole_chain = true};
  struct wrapped *c = calloc(1, sizeof *c);
  if (c == NULL) {
    newcomer_leave(newcomer);
    net_close(fd);
    return;
  }
  c->magic = WRAPPED_MAGIC;
  c->worker = w;
  c->wire = WIRE_NONE;
  list_push_tail(&w->wrapped, &c->node);
  newcomer_pass(newcomer, &c->newcomer, wrapped_unwanted);
  newcomer_set_bytes(&c->newcomer, HANDSHAKE_BYTES);
  METRIC_ADD(&w->metrics, data_handshakes_started_total, 1);
  struct tls_server *server = certs_current(w->relay->certs);
  handshake_start(&c->handshake, w, fd, NULL, hello, server, &policy, &w->metrics.data_handshakes_now, wrapped_shaken);
  tls_server_unref(server);
}

void wrapped_close_all(struct worker *w) {
  LIST_FOREACH(&w->wrapped, it) wrapped_drop(CONTAINER_OF(it, struct wrapped, node));
}
