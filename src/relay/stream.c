/* The handoff itself. At most once is a matter of order: everything that can fail is done before OPEN is written, the
   write is one call on an empty socket buffer, and after it every failure is a reset of the visitor. */
#include "relay/stream.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/secret.h"
#include "base/text.h"
#include "loop/net.h"
#include "relay/owner_move.h"
#include "relay/taken.h"
#include "relay/visitor.h"

enum { STREAM_MAGIC = 0x73747265, FRESH_SUITE = 0x1301 };

struct stream {
  unsigned magic;
  struct worker *worker;
  struct list node;
  struct origin origin;
  struct pump *pump;
  struct number_keys *keys;        /* until ACCEPT has been verified */
};

/* What OPEN says and what the pump is given, for one visitor. Wiped as a whole. */
struct handoff {
  struct open_message open;
  struct sealed *sealed;           /* where this process is a peer of the record layer */
};

static int handoff_fresh(struct handoff *h, struct worker *w) {
  const struct tls_suite *suite = tls_suite_find(FRESH_SUITE);
  h->open.suite = suite->id;
  h->open.secret_n = hash_bytes(suite->hash);
  loop_random(w->loop, h->open.client_secret, h->open.secret_n);
  loop_random(w->loop, h->open.server_secret, h->open.secret_n);
  struct sealed_params p = {
      .suite = suite, .read_secret = h->open.server_secret, .write_secret = h->open.client_secret};
  h->sealed = sealed_new(&p);
  return h->sealed != NULL ? 0 : ERR_NOMEM;
}

static int handoff_prepare(struct handoff *h, const struct stream_params *p) {
  bool plain = (p->tunnel->flags & TUNNEL_PLAIN) != 0;
  int rc = 0;
  if (p->taken != NULL) {
    h->open = *p->taken;
  } else if (p->conn != NULL) {
    rc = taken_from(p->conn, &h->open);
  } else {
    h->open.kind = plain ? STREAM_RAW_PLAIN : STREAM_RAW_SEALED;
    if (!plain) rc = handoff_fresh(h, p->worker);
  }
  h->open.tunnel_id = p->tunnel->bind_id;
  h->open.visitor = p->peer;
  h->open.local = p->local;
  return rc;
}

/* ACCEPT has come, or the stream ends. Until then it counts in visitors_n, so that a relay that drains keeps the link:
   an agent that loses its link drops data connections that it has not read an OPEN on. */
static void stream_forget_keys(struct stream *s) {
  if (s->keys == NULL) return;
  secret_free(s->keys, sizeof *s->keys);
  s->keys = NULL;
  (void)__atomic_sub_fetch(&s->worker->visitors_n, 1, __ATOMIC_RELEASE);
}

static enum close_reason stream_accepted(struct pump *pump, void *user, const uint8_t *bytes) {
  struct stream *s = user;
  enum accept_status status;
  (void)pump;
  CHECK_MAGIC(s, STREAM_MAGIC);
  if (s->keys == NULL) return CLOSE_PROTOCOL;    /* one that was moved as if it had been accepted */
  int rc = accept_decode(bytes, s->keys, &status);
  stream_forget_keys(s);
  if (rc != 0) return CLOSE_PROTOCOL;
  return status == ACCEPT_OK ? CLOSE_CLEAN : CLOSE_NOT_ACCEPTED; /* a tunnel may end while OPEN is on its way */
}

/* No ACCEPT came. The agent is told, since it cannot see this: a middlebox between it and us, for example, may break
   its data connections. */
static void stream_count_lost(const struct stream *s, enum close_reason why) {
  bool lost = why == CLOSE_WIRE_RESET || why == CLOSE_NOT_ACCEPTED || why == CLOSE_ACCEPT_TIMEOUT;
  if (lost && s->keys != NULL) visitor_count_lost(s->worker, &s->origin);
}

/* The visitor's place in its owner's share. */
static void stream_leave_owner(struct worker *w, struct owner *o) {
  share_give_visitor(&w->relay->shares, &o->account);
}

/* It is none of this worker's any more. */
static void stream_leave(struct stream *s) {
  METRIC_SUB(&s->worker->metrics, streams_now, 1);
  list_remove(&s->node);
  stream_forget_keys(s);
  stream_leave_owner(s->worker, s->origin.owner);
  origin_leave(s->worker->relay->registry, &s->origin);
  s->magic = 0;
  free(s);
}

static void stream_ended(struct pump *pump, void *user, enum close_reason why, uint64_t to_peer, uint64_t to_wire) {
  struct stream *s = user;
  (void)pump;
  CHECK_MAGIC(s, STREAM_MAGIC);
  char label[LABEL_LOG_CHARS + 1];
  memcpy(label, s->origin.label, LABEL_LOG_CHARS);
  label[LABEL_LOG_CHARS] = '\0';
  (void)__atomic_add_fetch(&s->worker->metrics.streams_closed[why], 1, __ATOMIC_RELAXED);
  stream_count_lost(s, why);
  stream_leave(s);
  /* After the counts, so that who has read the line finds them true. */
  log_event(LOG_DEBUG, "stream_closed", "label", label, "reason", close_reason_name(why), "to_visitor",
            LOG_U64(to_peer), "from_visitor", LOG_U64(to_wire), NULL);
}

static struct stream *stream_alloc(struct worker *w) {
  struct stream *s = calloc(1, sizeof *s);
  if (s == NULL) return NULL;
  s->magic = STREAM_MAGIC;
  s->worker = w;
  list_init(&s->node);
  return s;
}

/* Its origin is counted already. */
static void stream_enter(struct stream *s, struct number_keys *keys) {
  s->keys = keys;
  if (keys != NULL) (void)__atomic_add_fetch(&s->worker->visitors_n, 1, __ATOMIC_RELAXED);
  list_push_tail(&s->worker->streams, &s->node);
  METRIC_ADD(&s->worker->metrics, streams_now, 1);
}

static struct stream *stream_new(const struct stream_params *p) {
  struct stream *s = stream_alloc(p->worker);
  if (s == NULL) return NULL;
  origin_enter(&s->origin, p->tunnel);
  stream_enter(s, p->data.keys);
  METRIC_ADD(&p->worker->metrics, streams_total, 1);
  return s;
}

/* What its pump has to do with us. */
static struct pump_params stream_pump_params(struct stream *s, int peer_fd) {
  struct owner *o = s->origin.owner;
  return (struct pump_params){.peer_fd = peer_fd,
                              .on_prefix = stream_accepted,
                              .on_end = stream_ended,
                              .user = s,
                              .rate = o->rate,
                              .to_peer_tally = &o->usage->to_visitors,
                              .to_wire_tally = &o->usage->from_visitors};
}

/* After the handoff was prepared: from here on a TLS visitor cannot be told anything any more, so failures are
   resets. */
static void stream_run(const struct stream_params *p, struct handoff *h, const uint8_t *open, size_t open_n) {
  tls_conn_free(p->conn);          /* the secrets are wiped here; raw: NULL */
  struct stream *s = stream_new(p);
  struct err e;
  if (s != NULL) {
    struct pump_params params = stream_pump_params(s, p->peer_fd);
    params.wire = p->data.wire;
    params.wire_io = p->wire_io;
    params.peer_io = p->peer_io;
    params.sealed = h->sealed;
    params.visitor_is_peer = true;
    params.wire_prefix_n = ACCEPT_BYTES;
    if (wire_send(&p->data.wire, open, open_n) == (ssize_t)open_n && wire_flush(&p->data.wire) == 0 &&
        pump_start(p->worker->pool, &params, &s->pump, &e) == 0) {
      if (h->open.kind == STREAM_TLS13 || h->open.kind == STREAM_TLS12)
        METRIC_ADD(&p->worker->metrics, handshakes_handed_off_total, 1);
      return;
    }
    stream_ended(NULL, s, CLOSE_WIRE_RESET, 0, 0);
  } else {
    secret_free(p->data.keys, sizeof *p->data.keys);
    stream_leave_owner(p->worker, p->tunnel->owner);
  }
  sealed_free(h->sealed);
  wrap_free(p->data.wire.outer);
  loop_io_del(p->wire_io);
  net_reset(p->data.wire.fd);
  loop_io_del(p->peer_io);
  net_reset(p->peer_fd);
}

int stream_hand_off(const struct stream_params *p) {
  struct handoff h;
  uint8_t open[OPEN_MAX_BYTES];
  size_t open_n = 0;
  memset(&h, 0, sizeof h);
  int rc = handoff_prepare(&h, p);
  if (rc == 0) rc = open_encode(&h.open, p->data.keys, open, &open_n);
  wipe(p->data.keys->open, sizeof p->data.keys->open);
  wipe(p->data.keys->preface, sizeof p->data.keys->preface);
  if (rc == 0) {
    stream_run(p, &h, open, open_n);
  } else {
    struct data_connection data = p->data;
    sealed_free(h.sealed);
    loop_io_del(p->wire_io);
    data_connection_close(&data);
    if (p->conn != NULL && h.open.secret_n > 0) {  /* taken over already: the TLS object can say no more */
      tls_conn_free(p->conn);
      loop_io_del(p->peer_io);
      net_reset(p->peer_fd);
      stream_leave_owner(p->worker, p->tunnel->owner);
      rc = 0;
    }
  }
  wipe(&h, sizeof h);
  wipe(open, sizeof open);
  return rc;
}

/* To another process and back. Behind a version, in a part of their own, the stream's own facts: owner, label, serial,
   and the key of ACCEPT, if that is awaited; then the pump. */

enum {
  EXPORT_MAGIC = 0x61647331,       /* "ads1" */
  EXPORT_VERSION = 1,
  EXPORT_OWN_BYTES = 16 + OWNER_EXPORT_MAX_BYTES + LABEL_CHARS + 8 + sizeof(struct number_keys)
};

static void export_own(const struct stream *s, struct writer *w) {
  write_u32(w, EXPORT_MAGIC);
  write_u8(w, EXPORT_VERSION);
  size_t mark = write_open_vec(w, 2);
  owner_export(s->origin.owner, loop_now_ms(s->worker->loop), w);
  write_bytes(w, s->origin.label, LABEL_CHARS);
  write_u64(w, s->origin.serial);
  write_u8(w, s->keys != NULL);
  if (s->keys != NULL) write_bytes(w, s->keys->accept, sizeof s->keys->accept);
  write_close_vec(w, mark, 2);
}

int stream_export(struct stream *s, struct buf *state, int *wire_fd, int *peer_fd) {
  CHECK_MAGIC(s, STREAM_MAGIC);
  size_t before = state->len;
  uint8_t *at = EXPORT_OWN_BYTES <= state->max - before ? buf_reserve(state, EXPORT_OWN_BYTES) : NULL;
  if (at == NULL) return EXPORT_OWN_BYTES <= state->max - before ? ERR_NOMEM : ERR_LIMIT;
  struct writer w = writer_of(at, EXPORT_OWN_BYTES);
  export_own(s, &w);
  ASSERT(!w.bad);
  buf_added(state, w.len);
  int rc = pump_export(s->pump, state, wire_fd, peer_fd);
  if (rc == 0) stream_leave(s);
  else buf_cut(state, before);
  return rc;
}

static int import_keys(struct reader *r, struct number_keys **keys) {
  const uint8_t *accept = read_flag(r) ? read_bytes(r, sizeof (*keys)->accept) : NULL;
  if (accept == NULL) return r->bad ? ERR_SYNTAX : 0;
  *keys = secret_alloc(sizeof **keys);
  if (*keys == NULL) return ERR_NOMEM;
  memcpy((*keys)->accept, accept, sizeof (*keys)->accept);
  return 0;
}

static int import_own(struct stream *s, struct reader *r, struct number_keys **keys) {
  bool known = read_u32(r) == EXPORT_MAGIC;
  known = read_u8(r) == EXPORT_VERSION && known;
  struct reader own = read_vec16(r);
  if (r->bad || !known) return ERR_SYNTAX;
  int rc = owner_import(s->worker->relay->registry, loop_now_ms(s->worker->loop), &own, &s->origin.owner);
  if (rc != 0) return rc;
  read_copy(&own, s->origin.label, LABEL_CHARS);
  s->origin.serial = read_u64(&own);
  rc = import_keys(&own, keys);
  return rc == 0 && (!reader_done(&own) || !label_is_valid(s->origin.label)) ? ERR_SYNTAX : rc;
}

int stream_import(struct worker *w, const uint8_t *state, size_t n, int wire_fd, int peer_fd) {
  struct reader r = reader_of(state, n);
  struct number_keys *keys = NULL;
  struct stream *s = stream_alloc(w);
  if (s == NULL) return ERR_NOMEM;
  int rc = import_own(s, &r, &keys);
  if (rc == 0) {
    struct pump_params params = stream_pump_params(s, peer_fd);
    params.wire.fd = wire_fd;
    rc = pump_import(w->pool, &params, r.at, r.left, &s->pump);
  }
  if (rc != 0) {
    secret_free(keys, sizeof *keys);
    registry_owner_unref(w->relay->registry, s->origin.owner);
    free(s);
    return rc;
  }
  share_count_visitor(&w->relay->shares, &s->origin.owner->account);
  origin_resume(w->relay->registry, &s->origin);
  stream_enter(s, keys);
  return 0;
}

struct stream *stream_any(struct worker *w) {
  return list_empty(&w->streams) ? NULL : CONTAINER_OF(w->streams.next, struct stream, node);
}

/* Many */

void stream_end_owners(struct worker *w) {
  LIST_FOREACH(&w->streams, it) {
    struct stream *s = CONTAINER_OF(it, struct stream, node);
    if (owner_has_ended(s->origin.owner)) pump_abort(s->pump, CLOSE_REVOKED);
  }
}

void stream_close_all(struct worker *w) {
  LIST_FOREACH(&w->streams, it) pump_abort(CONTAINER_OF(it, struct stream, node)->pump, CLOSE_LOCAL);
}
