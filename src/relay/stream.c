/* The handoff itself. At most once is a matter of order: everything that can fail is done before OPEN is written, the
   write is one call on an empty socket buffer, and after it every failure is a reset of the visitor. */
#include "relay/stream.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/secret.h"
#include "loop/net.h"
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

static int handoff_tls(struct handoff *h, struct tls_conn *conn) {
  struct tls_takeover t;
  int rc = tls_conn_take_over(conn, &t);
  if (rc != 0) return rc;
  h->open.suite = t.suite;
  h->open.secret_n = t.secret_n;
  memcpy(h->open.client_secret, t.client_secret, t.secret_n);
  memcpy(h->open.server_secret, t.server_secret, t.secret_n);
  h->open.client_sequence = t.client_sequence;
  h->open.server_sequence = t.server_sequence;
  h->open.fragment_max = (uint16_t)t.fragment_max;
  wipe(&t, sizeof t);
  return 0;
}

static int handoff_prepare(struct handoff *h, const struct stream_params *p) {
  h->open.tunnel_id = p->tunnel->bind_id;
  h->open.visitor = p->peer;
  h->open.local = p->local;
  if (p->conn == NULL) {
    bool plain = (p->tunnel->flags & TUNNEL_PLAIN) != 0;
    h->open.kind = plain ? STREAM_RAW_PLAIN : STREAM_RAW_SEALED;
    return plain ? 0 : handoff_fresh(h, p->worker);
  }
  size_t n;
  const uint8_t *alpn = tls_conn_alpn(p->conn, &n);
  if (n > sizeof h->open.alpn) return ERR_LIMIT;
  if (n > 0) memcpy(h->open.alpn, alpn, n);
  h->open.alpn_n = n;
  h->open.kind = tls_conn_version(p->conn) == TLS_VERSION_13 ? STREAM_TLS13 : STREAM_TLS12;
  return handoff_tls(h, p->conn);
}

/* Its agent has it, or it ends: until then a drain leaves the link alone, with which the agent would drop the data
   connection that OPEN is on. */
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
  int rc = accept_decode(bytes, s->keys, &status);
  stream_forget_keys(s);
  if (rc != 0) return CLOSE_PROTOCOL;
  return status == ACCEPT_OK ? CLOSE_CLEAN : CLOSE_NOT_ACCEPTED; /* a tunnel may end while OPEN is on its way */
}

/* Its agent should know: something on the way to us may be what breaks its data connections. */
static void stream_count_lost(const struct stream *s, enum close_reason why) {
  bool lost = why == CLOSE_WIRE_RESET || why == CLOSE_NOT_ACCEPTED || why == CLOSE_ACCEPT_TIMEOUT;
  if (lost && s->keys != NULL) visitor_count_lost(s->worker, &s->origin);
}

/* The visitor's place in its owner's share. */
static void stream_leave_owner(struct worker *w, struct owner *o) {
  share_give_visitor(&w->relay->shares, &o->account);
}

static void stream_ended(struct pump *pump, void *user, enum close_reason why, uint64_t to_peer, uint64_t to_wire) {
  struct stream *s = user;
  (void)pump;
  CHECK_MAGIC(s, STREAM_MAGIC);
  char label[LABEL_LOG_CHARS + 1];
  memcpy(label, s->origin.label, LABEL_LOG_CHARS);
  label[LABEL_LOG_CHARS] = '\0';
  (void)__atomic_add_fetch(&s->worker->metrics.streams_closed[why], 1, __ATOMIC_RELAXED);
  METRIC_SUB(&s->worker->metrics, streams_now, 1);
  list_remove(&s->node);
  stream_count_lost(s, why);
  stream_forget_keys(s);
  stream_leave_owner(s->worker, s->origin.owner);
  origin_leave(s->worker->relay->registry, &s->origin);
  /* After the counts, so that who has read the line finds them true. */
  log_event(LOG_DEBUG, "stream_closed", "label", label, "reason", close_reason_name(why), "to_visitor",
            LOG_U64(to_peer), "from_visitor", LOG_U64(to_wire), NULL);
  s->magic = 0;
  free(s);
}

static struct stream *stream_new(const struct stream_params *p) {
  struct stream *s = calloc(1, sizeof *s);
  if (s == NULL) return NULL;
  s->magic = STREAM_MAGIC;
  s->worker = p->worker;
  s->keys = p->wire.keys;
  (void)__atomic_add_fetch(&p->worker->visitors_n, 1, __ATOMIC_RELAXED);
  origin_enter(&s->origin, p->tunnel);
  list_push_tail(&p->worker->streams, &s->node);
  METRIC_ADD(&p->worker->metrics, streams_total, 1);
  METRIC_ADD(&p->worker->metrics, streams_now, 1);
  return s;
}

/* After the handoff was prepared: from here on a TLS visitor cannot be told anything any more, so failures are
   resets. */
static void stream_run(const struct stream_params *p, struct handoff *h, const uint8_t *open, size_t open_n) {
  struct pump_params params = {.wire = {.fd = p->wire.fd, .outer = p->wire.wrap},
                               .peer_fd = p->peer_fd,
                               .sealed = h->sealed,
                               .visitor_is_peer = true,
                               .wire_prefix_n = ACCEPT_BYTES,
                               .on_prefix = stream_accepted,
                               .on_end = stream_ended,
                               .rate = p->tunnel->owner->rate,
                               .to_peer_tally = &p->tunnel->owner->usage->to_visitors,
                               .to_wire_tally = &p->tunnel->owner->usage->from_visitors};
  tls_conn_free(p->conn);          /* the secrets are wiped here; raw: NULL */
  struct stream *s = stream_new(p);
  struct err e;
  if (s != NULL) {
    params.user = s;
    if (wrap_send(p->wire.wrap, p->wire.fd, open, open_n) == (ssize_t)open_n &&
        wrap_flush(p->wire.wrap, p->wire.fd) == 0 && pump_start(p->worker->pool, &params, &s->pump, &e) == 0) {
      if (h->open.kind == STREAM_TLS13 || h->open.kind == STREAM_TLS12)
        METRIC_ADD(&p->worker->metrics, handshakes_handed_off_total, 1);
      return;
    }
    stream_ended(NULL, s, CLOSE_WIRE_RESET, 0, 0);
  } else {
    secret_free(p->wire.keys, sizeof *p->wire.keys);
    stream_leave_owner(p->worker, p->tunnel->owner);
  }
  sealed_free(h->sealed);
  wrap_free(p->wire.wrap);
  net_reset(p->wire.fd);
  net_reset(p->peer_fd);
}

int stream_hand_off(const struct stream_params *p) {
  struct handoff h;
  uint8_t open[OPEN_MAX_BYTES];
  size_t open_n = 0;
  memset(&h, 0, sizeof h);
  int rc = handoff_prepare(&h, p);
  if (rc == 0) rc = open_encode(&h.open, p->wire.keys, open, &open_n);
  wipe(p->wire.keys->open, sizeof p->wire.keys->open);
  wipe(p->wire.keys->preface, sizeof p->wire.keys->preface);
  if (rc == 0) {
    stream_run(p, &h, open, open_n);
  } else {
    struct data_connection wire = p->wire;
    sealed_free(h.sealed);
    data_connection_close(&wire);
    if (p->conn != NULL && h.open.secret_n > 0) {  /* taken over already: the TLS object can say no more */
      tls_conn_free(p->conn);
      net_reset(p->peer_fd);
      stream_leave_owner(p->worker, p->tunnel->owner);
      rc = 0;
    }
  }
  wipe(&h, sizeof h);
  wipe(open, sizeof open);
  return rc;
}

void stream_end_owners(struct worker *w) {
  LIST_FOREACH(&w->streams, it) {
    struct stream *s = CONTAINER_OF(it, struct stream, node);
    if (owner_has_ended(s->origin.owner)) pump_abort(s->pump, CLOSE_REVOKED);
  }
}

void stream_close_all(struct worker *w) {
  LIST_FOREACH(&w->streams, it) pump_abort(CONTAINER_OF(it, struct stream, node)->pump, CLOSE_LOCAL);
}
