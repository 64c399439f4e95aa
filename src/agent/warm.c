/* Warm data connections. The hard thing: OPEN is read exactly, header first, then the body, because the visitor's bytes
   follow it at once and belong to the record layer. Whatever else comes, or an end, kills the connection, and its keys
   with it. And where only TLS gets through, that must be learnt from connections that say nothing by design: the relay
   tells over the link when the first has arrived. */
#include "agent/warm.h"

#include <stdlib.h>
#include <string.h>

#include "agent/dial.h"
#include "agent/greeting.h"
#include "agent/reach.h"
#include "agent/stream.h"
#include "agent/tunnel.h"
#include "base/secret.h"
#include "loop/net.h"
#include "wire/data.h"

enum {
  WARM_MAGIC = 0x7761726d,
  EXPORT_MAGIC = 0x61647731,       /* "adw1" */
  EXPORT_VERSION = 1,
  EXPORT_FIXED_BYTES = 64 + 2 * sizeof(struct number_keys) + PREFACE_BYTES + OPEN_MAX_BYTES   /* all but wraps */
};
static const uint64_t AHEAD_MAX_MS = 3600 * 1000;        /* nothing is waited for so long */

struct warm_secrets {
  struct number_keys keys;
  uint8_t in[OPEN_MAX_BYTES];
  struct open_message open;
};

struct warm {
  unsigned magic;
  struct link *link;
  struct list node;
  struct reach *reach;
  struct greeting *greeting;       /* inside TLS */
  struct loop_timer deadline;      /* of the greeting */
  struct reached at;
  bool stands;                     /* the preface may be sent */
  struct warm_secrets *secrets;
  uint8_t preface[PREFACE_BYTES];
  size_t preface_sent, have;
  uint64_t since_ms;               /* connected */
  struct loop_io io;
  struct loop_deferred defer;
};

static void warm_go_wrapped(struct link *l, const char *why);

static void warm_release(struct loop_deferred *f) {
  free(CONTAINER_OF(f, struct warm, defer));
}

static void warm_free(struct warm *w) {
  CHECK_MAGIC(w, WARM_MAGIC);
  w->magic = 0;
  reach_stop(w->reach);
  greeting_stop(w->greeting);
  loop_timer_stop(&w->deadline);
  loop_io_del(&w->io);
  reached_close(w->link->client, &w->at);
  secret_free(w->secrets, sizeof *w->secrets);
  list_remove(&w->node);
  w->link->warm_n--;
  spares_trim(&w->link->client->spares, &w->link->client->descriptors, w->link->warm_n + WARM_QUIET);
  loop_defer(w->link->client->loop, &w->defer, warm_release);
}

static void warm_stop_all(struct link *l) {
  LIST_FOREACH(&l->warm, it) warm_free(CONTAINER_OF(it, struct warm, node));
}

/* There are no descriptors, or no memory, for so many of those that were asked for: the relay counts on them no longer,
   and asks again when it needs them. */
static void warm_short(struct link *l, size_t n) {
  struct adit_client *c = l->client;
  err_set(&l->data_err, ERR_LIMIT, "out of descriptors or memory");
  spares_trim(&c->spares, &c->descriptors, l->warm_n);
  if (l->engine.state == LINK_UP) link_short(l, n);
}

void warm_stop(struct link *l) {
  loop_timer_stop(&l->data_check);
  loop_timer_stop(&l->data_proof);
  loop_timer_stop(&l->redial);
  warm_stop_all(l);
  spares_trim(&l->client->spares, &l->client->descriptors, 0);
}

static void warm_redial_due(struct loop_timer *t) {
  struct link *l = CONTAINER_OF(t, struct link, redial);
  size_t n = l->redials;
  l->redials = 0;
  warm_dial(l, n);
}

/* The relay knows when a connection that it had ends, and asks for another; of one that never reached it only we
   know. */
static void warm_redial_later(struct link *l) {
  uint32_t random;
  l->redials++;
  if (loop_timer_is_set(&l->redial)) return;
  loop_random(l->client->loop, &random, sizeof random);
  (void)loop_timer_set(l->client->loop, &l->redial, backoff_redial_ms(&l->redial_ceiling_ms, random), warm_redial_due);
}

/* So far only the preface was sent: it fits. */
static bool warm_accept(struct warm *w, enum accept_status status) {
  uint8_t accept[ACCEPT_BYTES];
  return accept_encode(status, &w->secrets->keys, accept) == 0 &&
         wire_send(&w->at.wire, accept, sizeof accept) == (ssize_t)sizeof accept &&
         wire_flush(&w->at.wire) == 0;
}

/* A complete OPEN is in w->secrets->in: the connection becomes a stream, or is refused. */
static void warm_opened(struct warm *w) {
  struct adit_client *c = w->link->client;
  struct warm_secrets *s = w->secrets;
  w->link->data_stood++;
  if (open_decode(s->in, w->have, &s->keys, &s->open) != 0) {
    warm_free(w);
    return;
  }
  struct adit_tunnel *t = tunnel_find(c, s->open.tunnel_id);
  bool serves = t != NULL && !tunnel_is_closing(t) && stream_is_wanted(t, &s->open);
  if (!warm_accept(w, serves ? ACCEPT_OK : ACCEPT_NO_TUNNEL)) {
    warm_free(w);
    return;
  }
  wipe(&s->keys, sizeof s->keys);
  struct wire wire = wire_take(&w->at.wire);
  if (serves) {
    stream_begin(t, wire, &w->io, &s->open);
  } else {
    loop_io_del(&w->io);
    wrap_free(wire.outer);
    pump_linger_close(c->pool, wire.fd);
  }
  warm_free(w);
}

/* Sends what is left of the preface; false when the connection is gone. */
static bool warm_flush(struct warm *w) {
  while (w->preface_sent < sizeof w->preface) {
    ssize_t n = wire_send(&w->at.wire, w->preface + w->preface_sent, sizeof w->preface - w->preface_sent);
    if (n == NET_AGAIN) break;
    if (n < 0) return false;
    w->preface_sent += (size_t)n;
  }
  int flushed = wire_flush(&w->at.wire);
  loop_io_set(&w->io, w->preface_sent < sizeof w->preface || flushed == NET_AGAIN ? EPOLLIN | EPOLLOUT : EPOLLIN);
  return flushed != NET_RESET;
}

/* It ended before OPEN. The relay ends those that it does not need, but none that has only just come; and what on
   the way passes a preface on and breaks the connection then, does so at once. */
static void warm_ended(struct warm *w) {
  struct link *l = w->link;
  bool early = loop_now_ms(l->client->loop) - w->since_ms < (l->data_arrived ? DATA_BROKEN_MS : DATA_PROOF_MS);
  err_set(&l->data_err, ERR_CLOSED, "closed before use");
  warm_free(w);
  if (early && l->data_stood == 0 && ++l->data_ended_early >= DATA_ENDED_EARLY_MAX)
    warm_go_wrapped(l, "they are closed at once");
}

static void warm_ready(struct loop_io *io, uint32_t events) {
  struct warm *w = CONTAINER_OF(io, struct warm, io);
  CHECK_MAGIC(w, WARM_MAGIC);
  if ((events & EPOLLOUT) != 0 && !warm_flush(w)) {
    warm_ended(w);
    return;
  }
  uint8_t *in = w->secrets->in;
  for (;;) {
    size_t total = OPEN_HEADER_BYTES;
    if (w->have >= OPEN_HEADER_BYTES && (open_length(in, &total) != 0 || total > OPEN_MAX_BYTES)) {
      warm_free(w);
      return;
    }
    if (w->have > OPEN_HEADER_BYTES && w->have == total) {
      warm_opened(w);
      return;
    }
    ssize_t n = wire_recv(&w->at.wire, in + w->have, total - w->have);
    if (n == NET_AGAIN) return;
    if (n <= 0) {
      warm_ended(w);
      return;
    }
    w->have += (size_t)n;
  }
}

static void warm_failed(struct warm *w, const struct err *e) {
  struct link *l = w->link;
  bool is_short = e->code == ERR_LIMIT || e->code == ERR_NOMEM;
  l->data_err = *e;
  warm_free(w);
  if (is_short) warm_short(l, 1);
  else warm_redial_later(l);
}

static void warm_proof_due(struct loop_timer *t) {
  struct link *l = CONTAINER_OF(t, struct link, data_proof);
  if (!l->data_arrived && l->data_stood == 0) warm_go_wrapped(l, "the relay sees none of them");
}

/* The connection is there: what proves it is sent. */
static void warm_stand(struct warm *w) {
  struct link *l = w->link;
  struct loop *loop = l->client->loop;
  uint64_t number;
  l->redial_ceiling_ms = 0;
  w->since_ms = loop_now_ms(loop);
  w->secrets = secret_alloc(sizeof *w->secrets);
  if (w->secrets == NULL || link_keys_next(l->engine.keys, &number, &w->secrets->keys) != 0 ||
      preface_encode(l->engine.id, number, &w->secrets->keys, w->preface) != 0 ||
      loop_io_add(loop, &w->io, w->at.wire.fd, EPOLLIN, warm_ready) != 0) {
    warm_free(w);
    warm_redial_later(l);
    return;
  }
  wipe(w->secrets->keys.preface, sizeof w->secrets->keys.preface);
  w->stands = true;
  if (!l->data_arrived && !loop_timer_is_set(&l->data_proof))
    (void)loop_timer_set(loop, &l->data_proof, DATA_PROOF_MS, warm_proof_due);
  if (!warm_flush(w)) warm_ended(w);
}

static void warm_greeted(void *user, struct tls_conn *tls, const struct err *e) {
  struct warm *w = user;
  CHECK_MAGIC(w, WARM_MAGIC);
  struct err why = *e;
  w->greeting = NULL;
  loop_timer_stop(&w->deadline);
  if (tls != NULL) {
    w->at.wire.outer = wrap_take_over(tls, true, w->at.wire.outer, &why);
    if (w->at.wire.outer != NULL) {
      warm_stand(w);
      return;
    }
  }
  warm_failed(w, &why);
}

static void warm_greeting_late(struct loop_timer *t) {
  struct warm *w = CONTAINER_OF(t, struct warm, deadline);
  warm_failed(w, &(struct err){ERR_TIMEOUT, "no answer"});
}

/* The relay proves itself once more, so that nothing on the way can pose as it; what passes is sealed besides. */
static void warm_greet(struct warm *w) {
  struct adit_client *c = w->link->client;
  const struct relay_choice *choice = w->link->choice;
  struct err e = {0};
  struct tls_conn *tls = tls_conn_client(c->tls, choice->name, &choice->pin, WIRE_DATA_ALPN, &e);
  if (tls != NULL) w->greeting = greeting_start(c, w->at.wire, tls, warm_greeted, w, &e);
  if (w->greeting == NULL) warm_failed(w, &e);
  else (void)loop_timer_set(c->loop, &w->deadline, AGENT_CONNECT_DEADLINE_MS, warm_greeting_late);
}

static void warm_connected(void *user, const struct reached *at, const struct err *e) {
  struct warm *w = user;
  CHECK_MAGIC(w, WARM_MAGIC);
  w->reach = NULL;
  w->at = *at;
  if (at->wire.fd < 0) warm_failed(w, e);
  else if (w->link->data_wrapped) warm_greet(w);
  else warm_stand(w);
}

/* False: out of memory. */
static bool warm_reach(struct warm *w) {
  struct link *l = w->link;
  struct reached at = {.wire = WIRE_NONE, .to = l->at.to};
  bool was_reset = false;
  if (l->choice->proxy == NULL) at.wire.fd = dial_at_once(&l->client->descriptors, &at.to, 1, &was_reset);
  if (was_reset) reached_close(l->client, &at);
  if (at.wire.fd < 0) {
    w->reach = reach_start(l->client, l->choice, &at.to, 1, warm_connected, w);
    return w->reach != NULL;
  }
  warm_connected(w, &at, &(struct err){0});
  return true;
}

/* With a descriptor besides, for its app. False: there is none, or no memory. */
static bool warm_begin(struct link *l) {
  struct adit_client *c = l->client;
  struct warm *w = spares_keep(&c->spares, &c->descriptors, l->warm_n + 1) == 0 ? calloc(1, sizeof *w) : NULL;
  if (w == NULL) return false;
  *w = (struct warm){.magic = WARM_MAGIC, .link = l, .at.wire = WIRE_NONE};
  list_push_tail(&l->warm, &w->node);
  l->warm_n++;
  if (warm_reach(w)) return true;
  warm_free(w);
  return false;
}

/* When one finds no descriptor, of which it tells for itself, so would the others. */
void warm_dial(struct link *l, size_t n) {
  unsigned shortages = l->client->shortages;
  for (; n > 0 && l->warm_n < WARM_MAX && l->engine.state == LINK_UP; n--) {
    if (!warm_begin(l)) break;
    if (l->client->shortages == shortages) continue;
    n--;
    break;
  }
  if (n > 0 && l->warm_n < WARM_MAX && l->engine.state == LINK_UP) warm_short(l, n);
}

/* Whether some data connection stands; a relay has had time to refuse those that it does not like. */
static bool warm_any_stands(const struct link *l) {
  LIST_FOREACH((struct list *)(uintptr_t)&l->warm, it)
    if (CONTAINER_OF(it, struct warm, node)->stands) return true;
  return false;
}

static const char *warm_remedy(const struct link *l) {
  if (l->data_wrapped && !l->takes_wrapped)
    return "this relay takes none inside TLS: have it updated, or let them go plain";
  if (l->data_wrapped) return "have what is between here and the relay let more than one connection to it pass";
  if (l->client->setup.data == SETUP_DATA_PLAIN)
    return "a firewall or proxy between here and the relay lets only TLS out: have them go inside TLS, or allow plain "
           "TCP to that address";
  return "a firewall or proxy between here and the relay lets only TLS out: allow plain TCP to that address, or update "
         "the relay; or the router in front of the relay goes by TLS names: have it pass to the relay what has none";
}

static void warm_warn(struct link *l, const char *why) {
  char relay[300];
  if (l->data_warned) return;
  l->data_warned = true;
  dial_address_format(&l->choice->dial, relay, sizeof relay);
  events_tell(&l->client->events, ADIT_EVENT_WARNING, NULL, ADIT_EUNREACHABLE, "data_connections",
              "data connections to %.100s do not get through, though the control link does: %.100s (%s)", relay, why,
              warm_remedy(l));
}

static void warm_check_due(struct loop_timer *t) {
  struct link *l = CONTAINER_OF(t, struct link, data_check);
  if (l->data_err.code == ERR_LIMIT) return;     /* descriptors have run out, as was told: nothing of the network */
  if (l->data_stood > 0 || warm_any_stands(l) || (l->warm_n == 0 && l->redials == 0 && l->data_err.code == 0)) return;
  warm_warn(l, l->data_err.code != 0 ? l->data_err.text : "no answer");
}

/* A relay that has our connections closes those that it does not need, so few are ever left unused for long. One that
   asks for more while many are has not seen them: something on the way accepts them and keeps what they say to
   itself. */
static bool warm_are_swallowed(const struct link *l) {
  size_t unused = 0;
  uint64_t now_ms = loop_now_ms(l->client->loop);
  LIST_FOREACH((struct list *)(uintptr_t)&l->warm, it) {
    const struct warm *w = CONTAINER_OF(it, struct warm, node);
    if (w->stands && now_ms - w->since_ms >= DATA_CHECK_MS) unused++;
  }
  return l->data_stood == 0 && unused >= DATA_UNUSED_MAX;
}

void warm_wanted(struct link *l, size_t n) {
  if (warm_are_swallowed(l)) warm_warn(l, "they are accepted but the relay does not see them");
  /* The relay asks anew for what it misses, so these stand for those that failed: their number must not grow with every
     question. */
  l->redials -= size_min(l->redials, n);
  if (l->redials == 0) loop_timer_stop(&l->redial);
  warm_dial(l, n);
}

/* Plain ones do not get through. Where they may, they go inside TLS from here on. */
static void warm_go_wrapped(struct link *l, const char *why) {
  char relay[300];
  if (l->data_wrapped || !l->takes_wrapped || l->client->setup.data != SETUP_DATA_AUTO ||
      l->engine.state == LINK_DOWN)
    return;
  l->data_wrapped = true;
  size_t n = size_max(l->warm_n + l->redials, WARM_QUIET);
  warm_stop_all(l);
  l->redials = 0;
  l->data_err = (struct err){0};
  loop_timer_stop(&l->redial);
  if (!l->choice->wrap_told) {
    l->choice->wrap_told = true;
    dial_address_format(&l->choice->dial, relay, sizeof relay);
    events_tell(&l->client->events, ADIT_EVENT_WARNING, NULL, 0, "data_in_tls",
                "data connections to %.200s go inside TLS from now on, since plain ones do not get through: %s "
                "(that costs more CPU; asking for data inside TLS from the start saves the try)", relay, why);
  }
  warm_dial(l, n);
}

void warm_proven(struct link *l) {
  l->data_arrived = true;
  loop_timer_stop(&l->data_proof);
}

/* Some networks look longer before they judge: until the relay speaks, or we answer. */
void warm_lost(struct link *l, uint32_t visitors) {
  l->data_lost += visitors;
  if (l->data_lost >= l->data_stood) warm_go_wrapped(l, "visitors get lost on them");
}

void warm_watch(struct link *l) {
  (void)loop_timer_set(l->client->loop, &l->data_check, DATA_CHECK_MS, warm_check_due);
}

/* To another program and back. Times go as what has passed or is left. */

bool warm_are_coming(const struct link *l) {
  LIST_FOREACH((struct list *)(uintptr_t)&l->warm, it)
    if (!CONTAINER_OF(it, struct warm, node)->stands) return true;
  return false;
}

static struct warm *warm_standing(struct link *l) {
  LIST_FOREACH(&l->warm, it) {
    struct warm *w = CONTAINER_OF(it, struct warm, node);
    if (w->stands) return w;
  }
  return NULL;
}

/* Once what lies around it is bytes, it has none. */
static void export_warm(struct warm *w, struct writer *to) {
  const struct warm_secrets *s = w->secrets;
  write_u32(to, EXPORT_MAGIC);
  write_u8(to, EXPORT_VERSION);
  write_bytes(to, s->keys.open, sizeof s->keys.open);
  write_bytes(to, s->keys.accept, sizeof s->keys.accept);
  write_vec8(to, w->preface + w->preface_sent, sizeof w->preface - w->preface_sent);
  write_vec16(to, s->in, w->have);
  write_u64(to, loop_now_ms(w->link->client->loop) - w->since_ms);
  wrap_export(w->at.wire.outer, to);
  w->at.wire.outer = NULL;
}

int warm_pack(struct link *l, struct buf *state, int *fd) {
  struct warm *w = warm_standing(l);
  if (w == NULL) return ERR_CLOSED;
  size_t n = EXPORT_FIXED_BYTES + wrap_export_bytes(w->at.wire.outer);
  if (n > state->max - state->len) return ERR_LIMIT;
  uint8_t *at = buf_reserve(state, n);
  if (at == NULL) return ERR_NOMEM;
  struct writer to = writer_of(at, n);
  export_warm(w, &to);
  ASSERT(!to.bad);
  buf_added(state, to.len);
  loop_io_del(&w->io);
  *fd = wire_take(&w->at.wire).fd;
  warm_free(w);
  return 0;
}

static int import_warm(struct warm *w, struct reader *r) {
  struct warm_secrets *s = w->secrets;
  uint64_t now_ms = loop_now_ms(w->link->client->loop);
  bool known = read_u32(r) == EXPORT_MAGIC;
  known = read_u8(r) == EXPORT_VERSION && known;
  if (!known) return ERR_SYNTAX;
  read_copy(r, s->keys.open, sizeof s->keys.open);
  read_copy(r, s->keys.accept, sizeof s->keys.accept);
  struct reader preface = read_vec8(r), in = read_vec16(r);
  uint64_t age_ms = read_u64(r);
  if (r->bad || preface.left > sizeof w->preface || in.left > sizeof s->in) return ERR_SYNTAX;
  w->preface_sent = sizeof w->preface - preface.left;
  read_copy(&preface, w->preface + w->preface_sent, preface.left);
  w->have = in.left;
  read_copy(&in, s->in, in.left);
  w->since_ms = age_ms < now_ms ? now_ms - age_ms : 0;
  int rc = wrap_import(r, &w->at.wire.outer);
  return rc == 0 && !reader_done(r) ? ERR_SYNTAX : rc;
}

int warm_unpack(struct link *l, const uint8_t *state, size_t n, int fd) {
  struct reader r = reader_of(state, n);
  struct warm *w = l->warm_n < WARM_MAX ? calloc(1, sizeof *w) : NULL;
  if (w == NULL) return l->warm_n < WARM_MAX ? ERR_NOMEM : ERR_LIMIT;
  *w = (struct warm){.magic = WARM_MAGIC, .link = l, .at.wire = WIRE_NONE, .at.to = l->at.to, .stands = true};
  list_push_tail(&l->warm, &w->node);
  l->warm_n++;
  w->secrets = secret_alloc(sizeof *w->secrets);
  int rc = w->secrets == NULL ? ERR_NOMEM : import_warm(w, &r);
  /* the first turn brings what is there, and sends what is left */
  if (rc == 0) rc = loop_io_add(l->client->loop, &w->io, fd, EPOLLIN | EPOLLOUT, warm_ready);
  if (rc == 0) w->at.wire.fd = fd;
  else warm_free(w);
  return rc;
}

static void write_left(const struct link *l, const struct loop_timer *t, struct writer *w) {
  uint64_t now_ms = loop_now_ms(l->client->loop);
  write_u8(w, loop_timer_is_set(t));
  write_u64(w, loop_timer_is_set(t) && t->at_ms > now_ms ? t->at_ms - now_ms : 0);
}

void warm_facts_write(struct link *l, struct writer *w) {
  size_t coming = 0;
  LIST_FOREACH(&l->warm, it) coming += !CONTAINER_OF(it, struct warm, node)->stands;
  write_u16(w, (uint16_t)size_min(l->redials + coming, WARM_MAX));
  write_u64(w, l->redial_ceiling_ms);
  write_u64(w, l->data_stood);
  write_u64(w, l->data_lost);
  write_u8(w, l->takes_wrapped);
  write_u8(w, l->data_wrapped);
  write_u8(w, l->data_arrived);
  write_u8(w, l->data_warned);
  write_u8(w, (uint8_t)size_min(l->data_ended_early, UINT8_MAX));
  write_left(l, &l->data_check, w);
  write_left(l, &l->data_proof, w);
  write_u32(w, (uint32_t)l->data_err.code);
  write_vec16(w, l->data_err.text, strlen(l->data_err.text));
}

/* The timer's fields say what is to be set, until warm_go_on. */
static void read_left(struct loop_timer *t, loop_timer_fn *fn, struct reader *r) {
  bool is_set = read_flag(r);
  t->at_ms = read_u64(r);
  if (t->at_ms > AHEAD_MAX_MS) r->bad = true;
  t->fn = is_set ? fn : NULL;
}

void warm_facts_read(struct link *l, struct reader *r) {
  l->redials = read_u16(r);
  l->redial_ceiling_ms = read_u64(r);
  l->data_stood = read_u64(r);
  l->data_lost = read_u64(r);
  l->takes_wrapped = read_flag(r);
  l->data_wrapped = read_flag(r);
  l->data_arrived = read_flag(r);
  l->data_warned = read_flag(r);
  l->data_ended_early = read_u8(r);
  read_left(&l->data_check, warm_check_due, r);
  read_left(&l->data_proof, warm_proof_due, r);
  l->data_err.code = (int)read_u32(r);
  struct reader text = read_vec16(r);
  if (text.left >= sizeof l->data_err.text || l->redials > WARM_MAX || l->redial_ceiling_ms > DATA_REDIAL_MAX_MS)
    r->bad = true;
  else read_copy(&text, l->data_err.text, text.left);
}

int warm_go_on(struct link *l) {
  struct loop *loop = l->client->loop;
  int rc = 0;
  if (l->data_check.fn != NULL) rc = loop_timer_set(loop, &l->data_check, l->data_check.at_ms, warm_check_due);
  if (rc == 0 && l->data_proof.fn != NULL)
    rc = loop_timer_set(loop, &l->data_proof, l->data_proof.at_ms, warm_proof_due);
  if (rc == 0 && l->redials > 0) rc = loop_timer_set(loop, &l->redial, 0, warm_redial_due);
  return rc;
}
