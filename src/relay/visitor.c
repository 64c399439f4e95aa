/* A visitor's way to its stream. The handoff happens only when a data connection is at hand: until then the TLS object
   is kept, so that a visitor who waited in vain can be told so (docs/protocol.md 6). And until then nothing of the
   visitor's has left this process, so that one whose tunnel lost its link may seek the tunnel that has the label now:
   the agent is mostly back at once. */
#include "relay/visitor.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/secret.h"
#include "base/shortage.h"
#include "base/text.h"
#include "loop/net.h"
#include "relay/handshake.h"
#include "relay/stream.h"
#include "relay/taken.h"
#include "relay/warm.h"

enum { VISITOR_MAGIC = 0x76697369 };
enum visitor_state { VISITOR_HANDSHAKE, VISITOR_QUEUED /* raw */, VISITOR_WAITING, VISITOR_GONE };

struct visitor {
  unsigned magic;
  enum visitor_state state;
  struct worker *worker;
  struct list node;
  struct newcomer newcomer;
  struct loop_timer patience;
  uint64_t patient_until_ms;
  struct loop_timer seek;          /* the next look for the label's present tunnel */
  uint64_t seek_until_ms;          /* 0: the first tunnel has not failed yet */
  struct loop_io io;               /* while it waits or queues: has it gone? */
  struct loop_deferred deferred;
  struct tunnel *tunnel;           /* entered, until the stream has taken that over */
  bool has_stream;
  struct addr peer, local;
  int fd;                          /* ours while it waits or queues; the handshake's before */
  struct tls_conn *conn;           /* while waiting; NULL on a raw port */
  struct open_message *taken;      /* of one that came from another process: its TLS, in secret memory */
  bool asking;                     /* the ask is out: this memory stays until it is answered */
  struct ask ask;
  struct handshake handshake;
};

static void visitor_free(struct loop_deferred *d) { free(CONTAINER_OF(d, struct visitor, deferred)); }

/* Limits */

void visitor_count_refused(struct worker *w, struct tunnel *t, enum notice why) {
  (void)__atomic_add_fetch(&t->refused[why], 1, __ATOMIC_RELAXED);
  (void)__atomic_add_fetch(&w->metrics.visitors_refused[why], 1, __ATOMIC_RELAXED);
}

void visitor_count_lost(struct worker *w, const struct origin *o) {
  struct tunnel *t = origin_tunnel(w->relay->registry, o);
  (void)__atomic_add_fetch(&w->metrics.visitors_refused[NOTICE_LOST], 1, __ATOMIC_RELAXED);
  if (t != NULL) (void)__atomic_add_fetch(&t->refused[NOTICE_LOST], 1, __ATOMIC_RELAXED);
  tunnel_unref(w->relay->registry, t);
}

bool visitor_enter_tunnel(struct worker *w, struct tunnel *t) {
  enum notice why = share_take_visitor(&w->relay->shares, &t->owner->account, loop_now_ms(w->loop) * 1000);
  if (why == NOTICE_NONE) return true;
  if (why == NOTICE_SHARE) (void)shortage_note(EMFILE);
  visitor_count_refused(w, t, why);
  tunnel_unref(w->relay->registry, t);
  return false;
}

void visitor_leave_tunnel(struct relay *r, struct tunnel *t) {
  share_give_visitor(&r->shares, &t->owner->account);
  tunnel_unref(r->registry, t);
}

/* Waiting for a data connection */

static void waiting_leave(struct tunnel *t) {
  (void)__atomic_sub_fetch(&t->waiting, 1, __ATOMIC_RELAXED);
  (void)__atomic_sub_fetch(&t->owner->root->waiting, 1, __ATOMIC_RELAXED);
}

/* False when there are too many already. To be left in either case. */
static bool waiting_enter(struct worker *w, struct tunnel *t) {
  uint32_t in_tunnel = __atomic_add_fetch(&t->waiting, 1, __ATOMIC_RELAXED);
  uint32_t in_owner = __atomic_add_fetch(&t->owner->root->waiting, 1, __ATOMIC_RELAXED);
  bool few = in_tunnel <= VISITORS_WAITING_PER_TUNNEL_MAX && in_owner <= VISITORS_WAITING_PER_OWNER_MAX;
  if (!few) visitor_count_refused(w, t, NOTICE_WAITING);
  return few && !owner_has_ended(t->owner);
}

/* The end of the struct; its descriptor and TLS object are gone or passed on. */
static void visitor_leave(struct visitor *v) {
  if (v->state == VISITOR_WAITING) {
    waiting_leave(v->tunnel);
    METRIC_SUB(&v->worker->metrics, visitors_waiting_now, 1);
  }
  v->state = VISITOR_GONE;
  newcomer_leave(&v->newcomer);
  loop_timer_stop(&v->patience);
  loop_timer_stop(&v->seek);
  list_remove(&v->node);
  (void)__atomic_sub_fetch(&v->worker->visitors_n, 1, __ATOMIC_RELEASE);
  if (v->asking) {
    __atomic_store_n(&v->ask.cancelled, true, __ATOMIC_RELEASE);
    return;                        /* freed by the answer, which also still needs the tunnel */
  }
  if (v->has_stream) tunnel_unref(v->worker->relay->registry, v->tunnel);
  else visitor_leave_tunnel(v->worker->relay, v->tunnel);
  v->magic = 0;
  loop_defer(v->worker->loop, &v->deferred, visitor_free);
}

static void visitor_forget_tls(struct visitor *v) {
  tls_conn_free(v->conn);
  v->conn = NULL;
  secret_free(v->taken, sizeof *v->taken);
  v->taken = NULL;
}

/* Waited in vain, or may not stay. */
static void visitor_refuse(struct visitor *v) {
  loop_io_del(&v->io);
  if (v->conn != NULL) {
    handshake_refuse(v->worker, v->fd, v->conn, ALERT_INTERNAL_ERROR);
    v->conn = NULL;
  } else if (v->taken != NULL) {
    taken_refuse(v->worker, v->fd, v->taken, ALERT_INTERNAL_ERROR);
  } else {
    net_reset(v->fd);
  }
  visitor_forget_tls(v);
  v->fd = -1;
  visitor_leave(v);
}

static void visitor_impatient(struct loop_timer *t) {
  struct visitor *v = CONTAINER_OF(t, struct visitor, patience);
  CHECK_MAGIC(v, VISITOR_MAGIC);
  METRIC_ADD(&v->worker->metrics, visitors_wait_timeout_total, 1);
  visitor_refuse(v);
}

/* What it says is left in the kernel for the stream. Level-triggered, epoll would tell of it again and again; with
   EPOLLET alone it tells only of resets and errors, once. A visitor who has half-closed after his request stays. */
static void visitor_stirred(struct loop_io *io, uint32_t events) {
  struct visitor *v = CONTAINER_OF(io, struct visitor, io);
  CHECK_MAGIC(v, VISITOR_MAGIC);
  if ((events & (EPOLLERR | EPOLLHUP)) == 0) {
    loop_io_set(&v->io, EPOLLET);
    return;
  }
  loop_io_del(&v->io);
  visitor_forget_tls(v);
  net_reset(v->fd);
  v->fd = -1;
  visitor_leave(v);
}

static void visitor_answered(struct ask *a);

static uint16_t raw_port_of(const struct tunnel *t) { return __atomic_load_n(&t->tcp_port, __ATOMIC_RELAXED); }

static bool serves_alpn(const struct tunnel *t, const uint8_t *alpn, size_t n) {
  char name[ALPN_LIST_MAX_BYTES + 1] = "";
  if (n >= sizeof name) return false;
  if (n > 0) memcpy(name, alpn, n);
  return n == 0 || alpn_contains(t->alpn, t->alpn_n, name);
}

static const uint8_t *visitor_alpn(const struct visitor *v, size_t *n) {
  if (v->conn != NULL) return tls_conn_alpn(v->conn, n);
  *n = v->taken != NULL ? v->taken->alpn_n : 0;
  return v->taken != NULL ? v->taken->alpn : NULL;
}

/* The same label, now served over another link, and still fit for what was agreed in the handshake. */
static bool visitor_may_move(const struct visitor *v, const struct tunnel *t) {
  size_t n;
  const uint8_t *alpn = visitor_alpn(v, &n);
  if (t == v->tunnel || t->owner != v->tunnel->owner) return false;
  if (v->conn == NULL && v->taken == NULL && raw_port_of(t) != raw_port_of(v->tunnel)) return false;
  return serves_alpn(t, alpn, n);
}

/* By timer, so that no answer runs within the end of a link. */
static void visitor_seek(struct loop_timer *timer) {
  struct visitor *v = CONTAINER_OF(timer, struct visitor, seek);
  struct relay *r = v->worker->relay;
  CHECK_MAGIC(v, VISITOR_MAGIC);
  struct tunnel *t = visitor_tunnel(r, v->tunnel->host, &v->peer);
  if (t != NULL && visitor_may_move(v, t)) {
    struct tunnel *old = v->tunnel;
    bool may_wait = waiting_enter(v->worker, t);
    v->tunnel = t;
    waiting_leave(old);
    tunnel_unref(r->registry, old);
    if (!may_wait) {
      visitor_refuse(v);
      return;
    }
    v->asking = true;
    warm_ask(&v->ask, v->worker, t, visitor_answered);
    return;
  }
  tunnel_unref(r->registry, t);
  if (loop_now_ms(v->worker->loop) >= v->seek_until_ms ||
      loop_timer_set(v->worker->loop, &v->seek, VISITOR_SEEK_STEP_MS, visitor_seek) != 0) {
    visitor_refuse(v);
  }
}

static void visitor_begin_seek(struct visitor *v) {
  if (v->seek_until_ms == 0) v->seek_until_ms = loop_now_ms(v->worker->loop) + VISITOR_SEEK_MS;
  if (relay_draining(v->worker->relay) || loop_timer_set(v->worker->loop, &v->seek, 0, visitor_seek) != 0)
    visitor_refuse(v);
}

static void visitor_answered(struct ask *a) {
  struct visitor *v = CONTAINER_OF(a, struct visitor, ask);
  CHECK_MAGIC(v, VISITOR_MAGIC);
  v->asking = false;
  if (v->state == VISITOR_GONE) {  /* left meanwhile: the data connection is spent */
    loop_io_del(&a->io);
    data_connection_close(&a->data);
    visitor_leave_tunnel(v->worker->relay, v->tunnel);
    v->magic = 0;
    loop_defer(v->worker->loop, &v->deferred, visitor_free);
    return;
  }
  if (a->data.wire.fd < 0) {
    visitor_begin_seek(v);
    return;
  }
  struct stream_params p = {.worker = v->worker,
                            .tunnel = v->tunnel,
                            .data = a->data,
                            .wire_io = &a->io,
                            .peer_fd = v->fd,
                            .peer_io = &v->io,
                            .conn = v->conn,
                            .taken = v->taken,
                            .peer = v->peer,
                            .local = v->local};
  if (stream_hand_off(&p) != 0) {
    visitor_refuse(v);
    return;
  }
  v->conn = NULL;
  visitor_forget_tls(v);
  v->fd = -1;
  v->has_stream = true;
  visitor_leave(v);
}

static void visitor_wait(struct visitor *v, uint64_t patience_ms) {
  METRIC_ADD(&v->worker->metrics, visitors_waiting_now, 1);
  v->state = VISITOR_WAITING;
  if (!waiting_enter(v->worker, v->tunnel) ||
      loop_timer_set(v->worker->loop, &v->patience, patience_ms, visitor_impatient) != 0) {
    visitor_refuse(v);
    return;
  }
  v->asking = true;
  warm_ask(&v->ask, v->worker, v->tunnel, visitor_answered); /* may answer before it returns */
}

static void visitor_ask(struct visitor *v) {
  newcomer_proven(&v->newcomer);
  v->patient_until_ms = loop_now_ms(v->worker->loop) + VISITOR_WAIT_MS;
  visitor_wait(v, VISITOR_WAIT_MS);
}

static void count_failure(struct visitor *v) {
  if (v->handshake.late) METRIC_ADD(&v->worker->metrics, handshakes_timeout_total, 1);
  else if (v->handshake.refusal == TLS_REFUSED_ALPN) METRIC_ADD(&v->worker->metrics, handshakes_no_alpn_total, 1);
  else if (v->handshake.refusal == TLS_REFUSED_NO_EMS) METRIC_ADD(&v->worker->metrics, handshakes_no_ems_total, 1);
  else METRIC_ADD(&v->worker->metrics, handshakes_failed_total, 1);
}

static void visitor_shaken(struct handshake *h, bool ok) {
  struct visitor *v = CONTAINER_OF(h, struct visitor, handshake);
  CHECK_MAGIC(v, VISITOR_MAGIC);
  if (!ok) {
    count_failure(v);
    visitor_leave(v);
    return;
  }
  v->fd = h->fd;
  v->conn = h->conn;
  /* Without it (out of memory) a visitor who has left is waited for in vain. */
  (void)!loop_io_take_late(v->worker->loop, &v->io, v->fd, EPOLLIN, visitor_stirred, &h->io);
  visitor_ask(v);
}

struct tunnel *visitor_tunnel(struct relay *r, const char *name, const struct addr *peer) {
  const char *dot = strchr(name, '.');
  char label[LABEL_CHARS + 1];
  if (dot == NULL || dot - name != LABEL_CHARS || strcmp(dot + 1, r->options->domain) != 0) return NULL;
  memcpy(label, name, LABEL_CHARS);
  label[LABEL_CHARS] = '\0';
  struct tunnel *t = label_is_valid(label) ? registry_find(r->registry, label) : NULL;
  if (t != NULL && !tunnel_admits(t, peer)) {
    tunnel_unref(r->registry, t);
    t = NULL;
  }
  return t;
}

static struct visitor *visitor_new(struct worker *w, const struct addr *peer, const struct addr *local,
                                   struct tunnel *t) {
  struct visitor *v = calloc(1, sizeof *v);
  if (v == NULL) return NULL;
  v->magic = VISITOR_MAGIC;
  v->worker = w;
  v->peer = *peer;
  v->local = *local;
  v->tunnel = t;
  v->fd = -1;
  list_push_tail(&w->visitors, &v->node);
  (void)__atomic_add_fetch(&w->visitors_n, 1, __ATOMIC_RELAXED);
  return v;
}

/* The wildcard's certificate would let a browser take one tunnel's h2 connection for another's: it is a substitute only
   where that was allowed. NULL: none can be made, or the owner's tunnels have had enough of them for now. */
static struct tls_server *visitor_server(struct worker *w, const struct tunnel *t) {
  struct relay *r = w->relay;
  struct err e;
  if ((t->flags & TUNNEL_H2) == 0 || !certs_makes_exact(r->certs)) return certs_current(r->certs);
  int64_t now_s = loop_wall_s(w->loop);
  struct tls_server *server = certs_exact_made(r->certs, t->host, now_s);
  if (server != NULL) return server;
  if (registry_owner_certifies(r->registry, t->owner->root, loop_now_ms(w->loop))) {
    if (certs_exact(r->certs, t->host, now_s, &server, &e) == 0) return server;
    log_event(LOG_ERROR, "certificate_not_made", "error", e.text, NULL);
  }
  return r->options->h2_shared_name ? certs_current(r->certs) : NULL;
}

static void visitor_end(struct visitor *v) {
  if (v->state == VISITOR_HANDSHAKE) {
    handshake_abort(&v->handshake);
    visitor_leave(v);
  } else {
    visitor_refuse(v);
  }
}

static void visitor_unwanted(struct newcomer *n) {
  struct visitor *v = CONTAINER_OF(n, struct visitor, newcomer);
  visitor_count_refused(v->worker, v->tunnel, NOTICE_LOAD);
  visitor_end(v);
}

void visitor_accept(struct worker *w, int fd, struct loop_io *io, const struct addr *peer, const struct addr *local,
                    struct newcomer *newcomer, const struct client_hello *hello, struct tunnel *t) {
  struct visitor *v = visitor_new(w, peer, local, t);
  if (v == NULL) {
    loop_io_del(io);
    newcomer_leave(newcomer);
    net_close(fd);
    visitor_leave_tunnel(w->relay, t);
    return;
  }
  struct tls_server *server = visitor_server(w, t);
  struct tls_server_policy policy = {.host = hello->sni, .alpn = t->alpn, .alpn_n = t->alpn_n};
  newcomer_pass(newcomer, &v->newcomer, visitor_unwanted);
  newcomer_set_bytes(&v->newcomer, HANDSHAKE_BYTES);
  warm_hint(w, t);
  METRIC_ADD(&w->metrics, handshakes_started_total, 1);
  handshake_start(&v->handshake, w, fd, io, hello, server, &policy, &w->metrics.handshakes_now, visitor_shaken);
  tls_server_unref(server);
}

static void visitor_served_raw(struct newcomer *n) { visitor_ask(CONTAINER_OF(n, struct visitor, newcomer)); }

void visitor_accept_raw(struct worker *w, int fd, const struct addr *peer, const struct addr *local, struct tunnel *t) {
  struct source_key source = addr_source(peer);
  METRIC_ADD(&w->metrics, raw_visitors_total, 1);
  if (!visitor_enter_tunnel(w, t)) {
    net_reset(fd);
    return;
  }
  struct visitor *v = visitor_new(w, peer, local, t);
  if (v == NULL) {
    net_close(fd);
    visitor_leave_tunnel(w->relay, t);
    return;
  }
  v->fd = fd;
  v->state = VISITOR_QUEUED;
  if (net_accepted_setup(fd, peer) != 0 ||
      newcomer_enter(w->newcomers, &v->newcomer, NEWCOMER_PAID, &source, sizeof *v, visitor_unwanted) != 0 ||
      newcomer_queue(&v->newcomer, t->owner->root, false, visitor_served_raw) != 0) {
    visitor_refuse(v);
    return;
  }
  (void)!loop_io_add(w->loop, &v->io, fd, EPOLLIN, visitor_stirred);
}

void visitor_end_owners(struct worker *w) {
  LIST_FOREACH(&w->visitors, it) {
    struct visitor *v = CONTAINER_OF(it, struct visitor, node);
    if (owner_has_ended(v->tunnel->owner)) visitor_end(v);
  }
}

void visitor_close_all(struct worker *w) {
  LIST_FOREACH(&w->visitors, it) visitor_end(CONTAINER_OF(it, struct visitor, node));
}

/* To another process and back: who he is, where he came in, and his TLS. Only one who waits and has no answer under way
   can go: others soon have a stream, or wait. */

enum {
  EXPORT_MAGIC = 0x61647631,       /* "adv1" */
  EXPORT_VERSION = 1
};

static void export_visitor(const struct visitor *v, const struct open_message *tls, struct writer *w) {
  uint64_t now_ms = loop_now_ms(v->worker->loop);
  write_u32(w, EXPORT_MAGIC);
  write_u8(w, EXPORT_VERSION);
  addr_write(w, &v->peer);
  addr_write(w, &v->local);
  write_bytes(w, v->tunnel->label, LABEL_CHARS);
  write_bytes(w, v->tunnel->owner->id, TOKEN_ID_BYTES);
  write_u16(w, raw_port_of(v->tunnel));
  write_u32(w, (uint32_t)(v->patient_until_ms > now_ms ? v->patient_until_ms - now_ms : 0));
  write_u8(w, tls != NULL);
  if (tls != NULL) taken_write(tls, w);
}

/* ERR_NOT_NOW: OpenSSL does not give it. */
static int take_tls(struct visitor *v) {
  if (v->conn == NULL) return 0;
  v->taken = secret_alloc(sizeof *v->taken);
  if (v->taken == NULL) return ERR_NOMEM;
  if (taken_from(v->conn, v->taken) == 0) {
    tls_conn_free(v->conn);
    v->conn = NULL;
    return 0;
  }
  secret_free(v->taken, sizeof *v->taken);
  v->taken = NULL;
  return ERR_NOT_NOW;
}

static struct visitor *visitor_idle(struct worker *w) {
  LIST_FOREACH(&w->visitors, it) {
    struct visitor *v = CONTAINER_OF(it, struct visitor, node);
    if (v->state == VISITOR_WAITING && !v->asking) return v;
  }
  return NULL;
}

int visitor_export(struct worker *w, struct buf *state, int *fd) {
  struct visitor *v;
  if (VISITOR_EXPORT_MAX_BYTES > state->max - state->len) return ERR_LIMIT;
  uint8_t *at = buf_reserve(state, VISITOR_EXPORT_MAX_BYTES);
  if (at == NULL) return ERR_NOMEM;
  while ((v = visitor_idle(w)) != NULL) {
    int rc = take_tls(v);
    if (rc == ERR_NOMEM) return rc;
    if (rc == 0) break;
    visitor_refuse(v);
  }
  if (v == NULL) return ERR_CLOSED;
  struct writer to = writer_of(at, VISITOR_EXPORT_MAX_BYTES);
  export_visitor(v, v->taken, &to);
  ASSERT(!to.bad);
  buf_added(state, to.len);
  *fd = v->fd;
  loop_io_del(&v->io);
  visitor_forget_tls(v);
  v->fd = -1;
  visitor_leave(v);
  return 0;
}

struct moved_visitor {
  struct addr peer, local;
  char label[LABEL_CHARS + 1];
  uint8_t owner[TOKEN_ID_BYTES];
  uint16_t raw_port;
  uint32_t patience_ms;
  bool has_tls;
};

static int import_facts(struct moved_visitor *m, struct open_message *tls, struct reader *r) {
  bool known = read_u32(r) == EXPORT_MAGIC;
  known = read_u8(r) == EXPORT_VERSION && known;
  if (!known || addr_read(r, &m->peer) != 0 || addr_read(r, &m->local) != 0) return ERR_SYNTAX;
  read_copy(r, m->label, LABEL_CHARS);
  read_copy(r, m->owner, sizeof m->owner);
  m->raw_port = read_u16(r);
  m->patience_ms = read_u32(r);
  m->has_tls = read_flag(r);
  if (r->bad || !label_is_valid(m->label) || m->patience_ms > VISITOR_WAIT_MS) return ERR_SYNTAX;
  if (m->has_tls && taken_read(r, tls) != 0) return ERR_SYNTAX;
  return reader_done(r) ? 0 : ERR_SYNTAX;
}

/* Where he had been let in, in the other process: it is not asked again whether he may. */
static struct tunnel *import_tunnel(struct registry *g, const struct moved_visitor *m, const struct open_message *tls) {
  struct tunnel *t = registry_find(g, m->label);
  bool fits = t != NULL && memcmp(t->owner->id, m->owner, sizeof m->owner) == 0;
  if (fits) fits = m->has_tls ? serves_alpn(t, tls->alpn, tls->alpn_n) : raw_port_of(t) == m->raw_port;
  if (fits && (m->has_tls || m->raw_port != 0)) return t;
  tunnel_unref(g, t);
  return NULL;
}

static int import_visitor(struct worker *w, struct open_message *tls, struct reader *r, int fd) {
  struct moved_visitor m = {.raw_port = 0};
  int rc = import_facts(&m, tls, r);
  if (rc != 0) return rc;
  struct tunnel *t = import_tunnel(w->relay->registry, &m, tls);
  if (t == NULL) return ERR_CLOSED;
  struct visitor *v = visitor_new(w, &m.peer, &m.local, t);
  if (v != NULL && loop_io_add(w->loop, &v->io, fd, EPOLLET, visitor_stirred) != 0) {
    list_remove(&v->node);
    (void)__atomic_sub_fetch(&w->visitors_n, 1, __ATOMIC_RELEASE);
    free(v);
    v = NULL;
  }
  if (v == NULL) {
    tunnel_unref(w->relay->registry, t);
    return ERR_NOMEM;
  }
  share_count_visitor(&w->relay->shares, &t->owner->account);
  v->fd = fd;
  v->taken = m.has_tls ? tls : NULL;
  v->patient_until_ms = loop_now_ms(w->loop) + m.patience_ms;
  if (!m.has_tls) secret_free(tls, sizeof *tls);
  visitor_wait(v, m.patience_ms);
  return 0;
}

int visitor_import(struct worker *w, const uint8_t *state, size_t n, int fd) {
  struct reader r = reader_of(state, n);
  struct open_message *tls = secret_alloc(sizeof *tls);
  if (tls == NULL) return ERR_NOMEM;
  int rc = import_visitor(w, tls, &r, fd);
  if (rc != 0) secret_free(tls, sizeof *tls);
  return rc;
}
