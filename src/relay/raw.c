/* Raw ports. The listener belongs to the port and not to a link: an agent that takes its port back while the old
   listener is still open has it turned to the new tunnel. */
#include "relay/raw.h"

#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "loop/net.h"
#include "relay/visitor.h"

enum { RAW_MAGIC = 0x72617770, RAW_BACKLOG = 1024 };

struct raw_port {
  unsigned magic;
  struct worker *worker;
  struct loop_deferred deferred;
  uint16_t port;
  struct tunnel *tunnel;
  struct owner *payer;             /* of its share: the first tunnel's owner, one reference */
  struct listener listeners[RAW_FAMILIES];
};

static struct worker *raw_worker(struct relay *r, uint16_t port) { return &r->workers[port % r->workers_n]; }

static void raw_free(struct loop_deferred *d) { free(CONTAINER_OF(d, struct raw_port, deferred)); }

static void raw_give_share(struct raw_port *p) {
  struct relay *r = p->worker->relay;
  share_give(&r->shares, &p->payer->account, RAW_FAMILIES);
  registry_owner_unref(r->registry, p->payer);
}

/* Its listeners are gone. */
static void raw_leave(struct raw_port *p) {
  raw_give_share(p);
  (void)map_remove(p->worker->raw_ports, &p->port);
  tunnel_unref(p->worker->relay->registry, p->tunnel);
  p->magic = 0;
  loop_defer(p->worker->loop, &p->deferred, raw_free);
}

static void raw_close(struct raw_port *p) {
  for (int i = 0; i < RAW_FAMILIES; i++) listener_remove(&p->listeners[i]);
  raw_leave(p);
}

static void raw_accepted(struct raw_port *p, int fd, const struct addr *peer) {
  struct addr normal = addr_normalised(peer), local;
  struct tunnel *t = p->tunnel;
  CHECK_MAGIC(p, RAW_MAGIC);
  if (net_local(fd, &local) != 0) local = normal;
  local = addr_normalised(&local);
  if (!tunnel_admits(t, &normal)) {
    net_reset(fd);
    return;
  }
  visitor_accept_raw(p->worker, fd, &normal, &local, tunnel_ref(t));
}

static void raw_accepted_first(struct listener *l, int fd, const struct addr *peer) {
  raw_accepted(CONTAINER_OF(l, struct raw_port, listeners[0]), fd, peer);
}

static void raw_accepted_second(struct listener *l, int fd, const struct addr *peer) {
  raw_accepted(CONTAINER_OF(l, struct raw_port, listeners[1]), fd, peer);
}

static int raw_listen_on(struct raw_port *p, int i, int fd) {
  int rc = listener_add(&p->listeners[i], p->worker, fd, i == 0 ? raw_accepted_first : raw_accepted_second);
  if (rc != 0) p->listeners[i].worker = NULL;
  return rc;
}

static int raw_listen(struct raw_port *p, int i, struct addr at) {
  struct err e;
  addr_set_port(&at, p->port);
  int fd = net_listen_streams(&at, RAW_BACKLOG, false, &e);
  if (fd < 0) return fd;
  int rc = raw_listen_on(p, i, fd);
  if (rc != 0) net_close(fd);
  return rc;
}

/* Both families unless the operator named an address; a host without one of them serves the other. Any other failure
   of one is the port's: half of the visitors would find nobody, or another program that has it. */
static int raw_open_listeners(struct raw_port *p) {
  const struct addr *chosen = &p->worker->relay->options->tcp_listen;
  struct addr v4 = {.u.v4 = {.sin_family = AF_INET}}, v6 = {.u.v6 = {.sin6_family = AF_INET6}};
  if (chosen->u.any.sa_family != AF_UNSPEC) return raw_listen(p, 0, *chosen);
  int rc4 = raw_listen(p, 0, v4);
  if (rc4 != 0 && rc4 != ERR_UNSUPPORTED) return rc4;
  int rc6 = raw_listen(p, 1, v6);
  return rc4 == 0 && rc6 == ERR_UNSUPPORTED ? 0 : rc6;
}

static struct raw_port *raw_new(struct worker *w, uint16_t port, struct tunnel *t) {
  struct raw_port *p = calloc(1, sizeof *p);
  if (p == NULL) return NULL;
  p->magic = RAW_MAGIC;
  p->worker = w;
  p->port = port;
  p->tunnel = t;
  return p;
}

static int raw_open(struct worker *w, uint16_t port, struct tunnel *t) {
  struct raw_port *p = raw_new(w, port, t);
  if (p == NULL) return ERR_NOMEM;
  if (!share_take(&w->relay->shares, &t->owner->account, RAW_FAMILIES)) {
    free(p);
    return ERR_LIMIT;
  }
  p->payer = owner_ref(t->owner);
  int rc = raw_open_listeners(p);
  if (rc == 0) rc = map_put(w->raw_ports, &port, p);
  if (rc == 0) return 0;
  for (int i = 0; i < RAW_FAMILIES; i++) listener_remove(&p->listeners[i]);
  raw_give_share(p);
  free(p);
  return rc;
}

static void attach_answer(struct loop *l, struct loop_msg *m) {
  struct raw_request *q = CONTAINER_OF(m, struct raw_request, msg);
  if (l != NULL) q->done(q);
}

static void attach_here(struct loop *l, struct loop_msg *m) {
  struct raw_request *q = CONTAINER_OF(m, struct raw_request, msg);
  if (l == NULL) return;
  struct relay *r = q->to->relay;
  struct raw_port *p = map_get(q->to->raw_ports, &q->port);
  if (relay_draining(r)) {         /* its raw ports are closed, or are about to be: a successor may want this one */
    q->result = ERR_CLOSED;
    tunnel_unref(r->registry, q->tunnel);
  } else if (p != NULL && p->tunnel->serial > q->tunnel->serial) {
    /* The requests of two tunnels of one label have overtaken each other. */
    q->result = ERR_NOT_NOW;
    tunnel_unref(q->to->relay->registry, q->tunnel);
  } else if (p != NULL) {
    tunnel_unref(q->to->relay->registry, p->tunnel);
    p->tunnel = q->tunnel;
    q->result = 0;
  } else {
    q->result = raw_open(q->to, q->port, q->tunnel);
    if (q->result != 0) tunnel_unref(q->to->relay->registry, q->tunnel);
  }
  q->msg.fn = attach_answer;
  loop_post(q->from->loop, &q->msg);
}

void raw_attach(struct raw_request *q, struct worker *from, uint16_t port, struct tunnel *t,
                void (*done)(struct raw_request *q)) {
  q->from = from;
  q->to = raw_worker(from->relay, port);
  q->tunnel = tunnel_ref(t);
  q->port = port;
  q->done = done;
  q->msg.fn = attach_here;
  loop_post(q->to->loop, &q->msg);
}

struct detach {
  struct loop_msg msg;
  struct worker *to;
  struct tunnel *tunnel;
  uint16_t port;
};

static void detach_here(struct loop *l, struct loop_msg *m) {
  struct detach *d = CONTAINER_OF(m, struct detach, msg);
  if (l != NULL) {
    struct raw_port *p = map_get(d->to->raw_ports, &d->port);
    if (p != NULL && p->tunnel == d->tunnel) raw_close(p);
    tunnel_unref(d->to->relay->registry, d->tunnel);
  }
  free(d);
}

void raw_detach(struct relay *r, uint16_t port, struct tunnel *t) {
  struct detach *d = calloc(1, sizeof *d);
  if (d == NULL) return;           /* the listener stays, leading to a tunnel whose link is gone: visitors are reset */
  d->msg.fn = detach_here;
  d->to = raw_worker(r, port);
  d->tunnel = tunnel_ref(t);
  d->port = port;
  loop_post(d->to->loop, &d->msg);
}

void raw_close_all(struct worker *w) {
  size_t at = 0;
  const void *key;
  void *value;
  while (map_next(w->raw_ports, &at, &key, &value)) {
    raw_close(value);              /* changes the map: begin again */
    at = 0;
  }
}

/* To another process and back: version, port, which of the families have a listener, and the label that it leads to. */

enum { EXPORT_MAGIC = 0x61647231 /* "adr1" */, EXPORT_VERSION = 1 };

static struct raw_port *raw_any(struct worker *w) {
  size_t at = 0;
  const void *key;
  void *value;
  return map_next(w->raw_ports, &at, &key, &value) ? value : NULL;
}

int raw_export(struct worker *w, struct buf *state, int fds[RAW_FAMILIES], size_t *n) {
  struct raw_port *p = raw_any(w);
  if (p == NULL) return ERR_CLOSED;
  if (RAW_EXPORT_MAX_BYTES > state->max - state->len) return ERR_LIMIT;
  uint8_t *at = buf_reserve(state, RAW_EXPORT_MAX_BYTES);
  if (at == NULL) return ERR_NOMEM;
  struct writer to = writer_of(at, RAW_EXPORT_MAX_BYTES);
  write_u32(&to, EXPORT_MAGIC);
  write_u8(&to, EXPORT_VERSION);
  write_u16(&to, p->port);
  write_bytes(&to, p->tunnel->label, LABEL_CHARS);
  *n = 0;
  for (int i = 0; i < RAW_FAMILIES; i++) {
    int fd = listener_let_go(&p->listeners[i]);
    write_u8(&to, fd >= 0);
    if (fd >= 0) fds[(*n)++] = fd;
  }
  ASSERT(!to.bad);
  buf_added(state, to.len);
  raw_leave(p);
  return 0;
}

struct moved_port {
  uint16_t port;
  char label[LABEL_CHARS + 1];
  bool listens[RAW_FAMILIES];
};

static int moved_port_read(const uint8_t *state, size_t n, struct moved_port *m) {
  struct reader r = reader_of(state, n);
  *m = (struct moved_port){.port = 0};
  bool known = read_u32(&r) == EXPORT_MAGIC;
  known = read_u8(&r) == EXPORT_VERSION && known;
  m->port = read_u16(&r);
  read_copy(&r, m->label, LABEL_CHARS);
  for (int i = 0; i < RAW_FAMILIES; i++) m->listens[i] = read_flag(&r);
  return known && reader_done(&r) && m->port != 0 && label_is_valid(m->label) ? 0 : ERR_SYNTAX;
}

struct worker *raw_import_at(struct relay *r, const uint8_t *state, size_t n) {
  struct moved_port m;
  return moved_port_read(state, n, &m) == 0 ? raw_worker(r, m.port) : NULL;
}

/* On failure none listens any more, and the descriptors are as they were. */
static int listen_all(struct raw_port *p, const struct moved_port *m, const int *fds, size_t fds_n) {
  size_t used = 0;
  int rc = 0;
  for (int i = 0; rc == 0 && i < RAW_FAMILIES; i++) {
    if (!m->listens[i]) continue;
    rc = used < fds_n ? raw_listen_on(p, i, fds[used++]) : ERR_SYNTAX;
  }
  if (rc == 0 && used < fds_n) rc = ERR_SYNTAX;
  if (rc == 0) rc = map_put(p->worker->raw_ports, &p->port, p);
  for (int i = 0; rc != 0 && i < RAW_FAMILIES; i++) (void)listener_let_go(&p->listeners[i]);
  return rc;
}

int raw_import(struct worker *w, const uint8_t *state, size_t n, const int *fds, size_t fds_n) {
  struct moved_port m;
  if (moved_port_read(state, n, &m) != 0) return ERR_SYNTAX;
  if (map_get(w->raw_ports, &m.port) != NULL) return ERR_CONFLICT;
  struct registry *g = w->relay->registry;
  struct tunnel *t = registry_find(g, m.label);
  struct raw_port *p = NULL;
  int rc = t != NULL && __atomic_load_n(&t->tcp_port, __ATOMIC_RELAXED) == m.port ? 0 : ERR_CLOSED;
  if (rc == 0) rc = (p = raw_new(w, m.port, t)) != NULL ? listen_all(p, &m, fds, fds_n) : ERR_NOMEM;
  if (rc != 0) {
    free(p);
    tunnel_unref(g, t);
    return rc;
  }
  share_count(&w->relay->shares, &t->owner->account, RAW_FAMILIES);
  p->payer = owner_ref(t->owner);
  return 0;
}
