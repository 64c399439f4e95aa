/* From accept to knowing who it is. Nothing is read past what the present step needs, so that whoever takes the
   connection over finds the rest in the kernel. */
#include "relay/door.h"

#include <stdlib.h>
#include <string.h>

#include "loop/net.h"
#include "relay/control.h"
#include "relay/registry.h"
#include "relay/visitor.h"
#include "relay/warm.h"
#include "relay/wrapped.h"
#include "tls/client_hello.h"
#include "wire/proxy.h"
#include "wire/redirect.h"

enum {
  DOOR_MAGIC = 0x646f6f72,
  TLS_FIRST_BYTE = 0x16,
  STRANGE_BYTES = 6,               /* "PROXY " */
  DOOR_CHUNK_BYTES = 2048,
  ANSWER_MAX_BYTES = REDIRECT_LINE_MAX_BYTES + 1024,
  SMALL_RECORD_BYTES = 64
};
enum door_state { DOOR_PROXY, DOOR_FIRST, DOOR_PREFACE, DOOR_HELLO, DOOR_STRANGE, DOOR_QUEUED, DOOR_REQUEST };

struct door;
/* What somebody who has said a ClientHello may be. */
struct kind {
  const char *alpn;                /* which of them offers this; NULL: whoever else */
  /* Whether what the name stands for is here, and for this one. *t: its tunnel, a new reference; NULL: the relay itself
     is meant. */
  bool (*is_welcome)(const struct door *d, struct tunnel **t);
  /* Its turn has come. Takes all that door_leave left, and its place in the loop. */
  void (*becomes)(struct door *d);
};

struct door {
  unsigned magic;
  enum door_state state;
  struct worker *worker;
  struct list node;
  struct loop_io io;
  struct loop_timer deadline;
  struct loop_deferred deferred;
  int fd;
  struct addr peer, local;
  struct newcomer newcomer;
  struct tunnel *tunnel;           /* while queued: entered; NULL: to the relay itself */
  const struct kind *kind;         /* once the ClientHello is there */
  bool is_visitor;                 /* counted in visitors_n */
  size_t got;
  union {
    uint8_t proxy[PROXY_HEADER_MAX_BYTES];
    uint8_t preface[PREFACE_BYTES];
  } u;
  struct client_hello hello;
  struct redirect *redirect;       /* NULL but at the port for plain HTTP */
};

/* By the end of the turn whoever took the connection over has been counted for itself. */
static void door_free(struct loop_deferred *d) {
  struct door *door = CONTAINER_OF(d, struct door, deferred);
  if (door->is_visitor) (void)__atomic_sub_fetch(&door->worker->visitors_n, 1, __ATOMIC_RELEASE);
  client_hello_free(&door->hello);
  if (door->redirect != NULL) redirect_free(door->redirect);
  free(door->redirect);
  free(door);
}

/* Lets go of all but the newcomer, the descriptor, its place in the loop and the tunnel, which are the caller's from
   then on. The struct can be read until the end of the turn. */
static void door_leave(struct door *d) {
  loop_timer_stop(&d->deadline);
  list_remove(&d->node);
  d->magic = 0;
  loop_defer(d->worker->loop, &d->deferred, door_free);
}

/* The connection goes with it, or lingers until its refusal is read. */
static void door_end(struct door *d, bool linger) {
  door_leave(d);
  loop_io_del(&d->io);
  newcomer_leave(&d->newcomer);
  if (d->tunnel != NULL) visitor_leave_tunnel(d->worker->relay, d->tunnel);
  if (linger) pump_linger_close(d->worker->pool, d->fd);
  else net_close(d->fd);
}

static void door_drop(struct door *d) { door_end(d, false); }

static void door_unwanted(struct newcomer *n) {
  struct door *d = CONTAINER_OF(n, struct door, newcomer);
  if (d->tunnel != NULL) visitor_count_refused(d->worker, d->tunnel, NOTICE_LOAD);
  door_drop(d);
}

/* The connection is gone, or its time is over. */
static void door_lose(struct door *d) {
  if (d->state == DOOR_HELLO) METRIC_ADD(&d->worker->metrics, client_hellos_failed_total, 1);
  door_drop(d);
}

static void door_alert(struct door *d, uint8_t alert) {
  uint8_t record[PLAIN_ALERT_BYTES];
  tls_plain_alert(alert, record);
  ssize_t sent = net_send(d->fd, record, sizeof record); /* best effort: it is a refusal */
  (void)sent;
  door_end(d, true);
}

static void door_deadline(struct loop_timer *t) {
  struct door *d = CONTAINER_OF(t, struct door, deadline);
  if (d->state == DOOR_QUEUED) METRIC_ADD(&d->worker->metrics, newcomers_dropped_load_total, 1);
  door_lose(d);
}

/* Where a visitor came to, for the PROXY header of its app: no PROXY header of its own has said so. */
static void door_find_local(struct door *d) {
  struct addr local;
  if (d->local.u.any.sa_family == AF_UNSPEC && net_local(d->fd, &local) == 0) d->local = addr_normalised(&local);
}

/* Kinds */

static bool is_for_us(const struct door *d) {
  return d->hello.has_sni && strcmp(d->hello.sni, d->worker->relay->options->domain) == 0;
}

static bool link_is_welcome(const struct door *d, struct tunnel **t) {
  (void)t;
  return is_for_us(d) && !relay_draining(d->worker->relay);
}

static void becomes_link(struct door *d) {
  loop_io_del(&d->io);
  control_accept(d->worker, d->fd, &d->peer, &d->newcomer, &d->hello);
}

static bool data_is_welcome(const struct door *d, struct tunnel **t) {
  (void)t;
  return is_for_us(d);
}

static void becomes_data(struct door *d) {
  loop_io_del(&d->io);
  wrapped_accept(d->worker, d->fd, &d->newcomer, &d->hello);
}

/* At a Unix socket there are no visitors: they would have no address, and know no reset. */
static bool visitor_is_welcome(const struct door *d, struct tunnel **t) {
  if (!d->hello.has_sni || is_for_us(d) || addr_is_unix(&d->peer)) return false;
  *t = visitor_tunnel(d->worker->relay, d->hello.sni, &d->peer);
  return *t != NULL;
}

static void becomes_visitor(struct door *d) {
  door_find_local(d);
  visitor_accept(d->worker, d->fd, &d->io, &d->peer, &d->local, &d->newcomer, &d->hello, d->tunnel);
}

static const struct kind kinds[] = {{WIRE_ALPN, link_is_welcome, becomes_link},
                                    {WIRE_DATA_ALPN, data_is_welcome, becomes_data},
                                    {NULL, visitor_is_welcome, becomes_visitor}};

static const struct kind *door_kind(const struct door *d) {
  const struct kind *k = kinds;
  while (k->alpn != NULL && !client_hello_offers_alpn(&d->hello, k->alpn)) k++;
  return k;
}

static void door_served(struct newcomer *n) {
  struct door *d = CONTAINER_OF(n, struct door, newcomer);
  CHECK_MAGIC(d, DOOR_MAGIC);
  door_leave(d);
  d->kind->becomes(d);
}

/* The one place where a ClientHello finds its tunnel. Whatever is not to be found gets the same answer, before any
   public-key work: unknown, closed, malformed, or not for this visitor's address. */
static void door_route(struct door *d) {
  struct tunnel *t = NULL;
  d->kind = door_kind(d);
  if (!d->kind->is_welcome(d, &t)) {
    METRIC_ADD(&d->worker->metrics, handshakes_unknown_name_total, 1);
    door_alert(d, ALERT_UNRECOGNIZED_NAME);
  } else if (t != NULL && !visitor_enter_tunnel(d->worker, t)) {
    door_alert(d, ALERT_INTERNAL_ERROR);
  } else {
    d->tunnel = t;
    d->state = DOOR_QUEUED;
    if (newcomer_queue(&d->newcomer, t != NULL ? t->owner->root : NULL, true, door_served) != 0)
      door_unwanted(&d->newcomer);
  }
}

/* Each reader returns true when it has something new to look at, false when the connection is gone or has nothing more
   now. */
static bool door_got(struct door *d, ssize_t got) {
  if (got > 0) return true;
  if (got != NET_AGAIN) door_lose(d);
  return false;
}

static bool door_recv(struct door *d, void *to, size_t n, ssize_t *got) {
  *got = net_recv(d->fd, to, n);
  return door_got(d, *got);
}

static enum door_state door_begin(const struct door *d) {
  return d->redirect != NULL ? DOOR_REQUEST : DOOR_FIRST;
}

static bool door_read_proxy(struct door *d) {
  struct proxy_header h;
  int want = proxy_read(d->u.proxy, d->got, &h);
  if (want < 0 || (size_t)want > sizeof d->u.proxy) {
    METRIC_ADD(&d->worker->metrics, proxy_headers_missing_total, 1);
    warning_proxy_missing(&d->worker->relay->warnings, &d->peer);
    door_drop(d);
    return false;
  }
  if (want > 0) {
    ssize_t n;
    if (!door_recv(d, d->u.proxy + d->got, (size_t)want - d->got, &n)) return false;
    d->got += (size_t)n;
    return true;
  }
  if (!h.local) {
    struct addr visitor = addr_normalised(&h.source);
    struct source_key key = addr_source(&visitor);
    if (newcomer_set_source(&d->newcomer, &key) != 0) {
      door_drop(d);
      return false;
    }
    d->peer = visitor;
    d->local = h.destination;
  }
  d->got = 0;
  d->state = door_begin(d);
  return true;
}

/* Takes of the n bytes what the ClientHello wants. *used is how many. */
static int door_feed_hello(struct door *d, const uint8_t *p, size_t n, size_t *used, uint8_t *alert) {
  int rc = 0;
  *used = 0;
  for (size_t want; rc == 0 && *used < n && (want = client_hello_want(&d->hello)) > 0; *used += want) {
    want = size_min(want, n - *used);
    rc = client_hello_feed(&d->hello, p + *used, want, alert);
  }
  return rc;
}

/* A whole preface in one step; and no ClientHello, record header and all, is as short. */
static bool door_read_first(struct door *d) {
  uint8_t first[PREFACE_BYTES];
  size_t used;
  ssize_t n;
  _Static_assert((int)PREFACE_BYTES < (int)CLIENT_HELLO_MIN_BYTES, "what follows a ClientHello is the handshake's");
  if (!door_recv(d, first, sizeof first, &n)) return false;
  if (first[0] == PREFACE_FIRST_BYTE && addr_is_unix(&d->peer)) {    /* it would know no reset, either */
    METRIC_ADD(&d->worker->metrics, data_connections_refused_total, 1);
    door_drop(d);
    return false;
  }
  if (first[0] == PREFACE_FIRST_BYTE) {
    memcpy(d->u.preface, first, (size_t)n);
    d->got = (size_t)n;
    d->state = DOOR_PREFACE;
    return true;
  }
  uint8_t alert;
  if (first[0] != TLS_FIRST_BYTE) {
    memcpy(d->u.proxy, first, (size_t)n);
    d->got = (size_t)n;
    d->state = DOOR_STRANGE;
    return true;
  }
  d->state = DOOR_HELLO;
  d->is_visitor = true;
  (void)__atomic_add_fetch(&d->worker->visitors_n, 1, __ATOMIC_RELAXED);
  (void)loop_timer_set(d->worker->loop, &d->deadline, HANDSHAKE_DEADLINE_MS, door_deadline); /* only moves it */
  METRIC_ADD(&d->worker->metrics, client_hellos_total, 1);
  if (door_feed_hello(d, first, (size_t)n, &used, &alert) != 0) {
    METRIC_ADD(&d->worker->metrics, client_hellos_failed_total, 1);
    door_alert(d, alert);
    return false;
  }
  return true;
}

/* An operator has it sent and forgot to have it expected. */
static void door_unexpected_proxy(struct door *d) {
  METRIC_ADD(&d->worker->metrics, proxy_headers_unexpected_total, 1);
  warning_proxy_unexpected(&d->worker->relay->warnings, &d->peer);
  door_drop(d);
}

/* Nobody whom we serve. */
static bool door_read_strange(struct door *d) {
  struct proxy_header h;
  bool like_proxy = proxy_read(d->u.proxy, d->got, &h) >= 0;
  if (like_proxy && d->got < STRANGE_BYTES) {
    ssize_t n;
    if (!door_recv(d, d->u.proxy + d->got, STRANGE_BYTES - d->got, &n)) return false;
    d->got += (size_t)n;
    return true;
  }
  if (like_proxy) {
    door_unexpected_proxy(d);
    return false;
  }
  METRIC_ADD(&d->worker->metrics, connections_unknown_total, 1);
  door_drop(d);
  return false;
}

static bool door_read_preface(struct door *d) {
  if (d->got < PREFACE_BYTES) {
    ssize_t n;
    if (!door_recv(d, d->u.preface + d->got, PREFACE_BYTES - d->got, &n)) return false;
    d->got += (size_t)n;
    return true;
  }
  struct preface p;
  door_leave(d);
  loop_io_del(&d->io);
  newcomer_leave(&d->newcomer);
  if (preface_decode(d->u.preface, &p) == 0) {
    warm_arrived(d->worker, (struct wire){.fd = d->fd}, &p);
  } else {
    METRIC_ADD(&d->worker->metrics, data_connections_refused_total, 1);
    net_close(d->fd);
  }
  return false;
}

/* Where the next step is a small one, as in a ClientHello of tiny records, it is looked first how many of them are
   there: the kernel is asked for each chunk and not for each record. */
static bool door_read_hello(struct door *d) {
  uint8_t chunk[DOOR_CHUNK_BYTES], alert;
  ssize_t n;
  size_t want = client_hello_want(&d->hello), used;
  bool peeks = want < SMALL_RECORD_BYTES;
  n = peeks ? net_recv_peek(d->fd, chunk, sizeof chunk) : net_recv(d->fd, chunk, size_min(want, sizeof chunk));
  if (!door_got(d, n)) return false;
  int rc = door_feed_hello(d, chunk, (size_t)n, &used, &alert);
  if (rc == 0 && peeks && net_recv(d->fd, chunk, used) != (ssize_t)used) {
    door_lose(d);
    return false;
  }
  if (rc != 0) {
    METRIC_ADD(&d->worker->metrics, client_hellos_failed_total, 1);
    door_alert(d, alert);
    return false;
  }
  newcomer_set_bytes(&d->newcomer, sizeof *d + d->hello.raw.cap + d->hello.body.cap);
  if (!d->hello.complete) return true;
  door_route(d);
  return false;
}

static void door_answer(struct door *d, int status) {
  const struct relay *r = d->worker->relay;
  struct buf answer;
  buf_init(&answer, ANSWER_MAX_BYTES);
  int rc = redirect_answer(d->redirect, status, r->options->domain, r->public_port, &answer);
  if (rc == REDIRECT_FOUND) METRIC_ADD(&d->worker->metrics, redirects_total, 1);
  else METRIC_ADD(&d->worker->metrics, redirects_refused_total, 1);
  ssize_t sent = rc > 0 ? net_send(d->fd, buf_data(&answer), answer.len) : 0; /* a new socket takes it all */
  buf_free(&answer);
  door_end(d, sent > 0);
}

static bool door_read_request(struct door *d) {
  uint8_t chunk[DOOR_CHUNK_BYTES];
  ssize_t n;
  if (!door_recv(d, chunk, sizeof chunk, &n)) return false;
  struct proxy_header h;
  if (d->got == 0 && n >= STRANGE_BYTES && proxy_read(chunk, (size_t)n, &h) >= 0) {
    door_unexpected_proxy(d);
    return false;
  }
  d->got += (size_t)n;
  int status = redirect_feed(d->redirect, chunk, (size_t)n);
  if (status != REDIRECT_MORE) {
    door_answer(d, status);
    return false;
  }
  newcomer_set_bytes(&d->newcomer, sizeof *d + redirect_bytes(d->redirect));
  return true;
}

/* Whoever leaves while he queues costs no signature; and nobody ends his sending before his Finished. What else comes
   lies in the kernel, and is not asked for again. */
static void door_stirred(struct door *d, uint32_t events) {
  if (events & (EPOLLERR | EPOLLHUP | EPOLLRDHUP)) door_drop(d);
  else loop_io_set(&d->io, EPOLLET | EPOLLRDHUP);
}

static bool (*const read_state[])(struct door *) = {[DOOR_PROXY] = door_read_proxy,
                                                    [DOOR_FIRST] = door_read_first,
                                                    [DOOR_PREFACE] = door_read_preface,
                                                    [DOOR_HELLO] = door_read_hello,
                                                    [DOOR_STRANGE] = door_read_strange,
                                                    [DOOR_REQUEST] = door_read_request};

static void door_read(struct door *d) {
  for (int reads = 0; reads < HANDSHAKE_READS_PER_TURN_MAX && read_state[d->state](d); reads++) {
  }
}

static void door_ready(struct loop_io *io, uint32_t events) {
  struct door *d = CONTAINER_OF(io, struct door, io);
  CHECK_MAGIC(d, DOOR_MAGIC);
  if (d->state == DOOR_QUEUED) door_stirred(d, events);
  else door_read(d);
}

/* A data connection has mostly said all that it has to: it holds no place here, and takes none of those who do. False:
   who knocks has gone. */
static bool door_greet(struct door *d, bool *heard) {
  *heard = true;
  while (*heard && (d->state == DOOR_FIRST || d->state == DOOR_PREFACE)) *heard = read_state[d->state](d);
  return d->magic == DOOR_MAGIC;
}

static struct redirect *door_new_redirect(void) {
  struct redirect *r = malloc(sizeof *r);
  if (r != NULL) redirect_init(r);
  return r;
}

static struct door *door_new(struct worker *w, int fd, const struct addr *peer, bool redirects) {
  const struct relay_options *o = w->relay->options;
  struct door *d = calloc(1, sizeof *d);
  if (d == NULL) return NULL;
  d->magic = DOOR_MAGIC;
  d->worker = w;
  d->fd = fd;
  d->peer = addr_normalised(peer);
  list_init(&d->node);
  client_hello_init(&d->hello);
  if (redirects && (d->redirect = door_new_redirect()) == NULL) {
    free(d);
    return NULL;
  }
  d->state = cidrs_contain(o->accept_proxy, o->accept_proxy_n, &d->peer) ? DOOR_PROXY : door_begin(d);
  return d;
}

/* A place among the newcomers, and what waits for what it says. */
static int door_enter(struct door *d) {
  struct worker *w = d->worker;
  struct source_key source = addr_source(&d->peer);
  int r = newcomer_enter(w->newcomers, &d->newcomer, NEWCOMER_STRANGERS, &source, sizeof *d, door_unwanted);
  if (r == 0 && !loop_timer_is_set(&d->deadline))
    r = loop_timer_set(w->loop, &d->deadline, PREFACE_DEADLINE_MS, door_deadline);
  if (r == 0) list_push_tail(&w->doors, &d->node);
  return r;
}

static void door_open_as(struct worker *w, int fd, const struct addr *peer, bool redirects) {
  struct door *d = net_accepted_setup(fd, peer) == 0 ? door_new(w, fd, peer, redirects) : NULL;
  bool heard;
  if (d == NULL) {
    net_close(fd);
    return;
  }
  if (!door_greet(d, &heard)) return;
  if (door_enter(d) != 0) {
    door_drop(d);
    return;
  }
  if (heard) door_read(d);         /* the first flight is mostly there */
  if (d->magic == DOOR_MAGIC && loop_io_add_late(w->loop, &d->io, fd, EPOLLIN, door_ready) != 0) door_drop(d);
}

void door_open(struct worker *w, int fd, const struct addr *peer) { door_open_as(w, fd, peer, false); }

void door_open_redirect(struct worker *w, int fd, const struct addr *peer) { door_open_as(w, fd, peer, true); }

void door_close_all(struct worker *w) {
  LIST_FOREACH(&w->doors, it) door_drop(CONTAINER_OF(it, struct door, node));
}
