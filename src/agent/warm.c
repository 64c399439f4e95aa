/* Warm data connections. The hard thing: OPEN is read exactly, header first, then the body, because the visitor's bytes
   follow it at once and belong to the record layer. Whatever else comes, or an end, kills the connection, and its keys
   with it. */
#include "agent/warm.h"

#include <stdlib.h>
#include <string.h>

#include "agent/reach.h"
#include "agent/stream.h"
#include "agent/tunnel.h"
#include "base/secret.h"
#include "loop/net.h"
#include "wire/data.h"

enum { WARM_MAGIC = 0x7761726d };

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
  int fd;
  struct warm_secrets *secrets;
  uint8_t preface[PREFACE_BYTES];
  size_t preface_sent, have;
  uint64_t since_ms;               /* connected */
  struct loop_io io;
  struct loop_deferred defer;
};

static void warm_release(struct loop_deferred *f) {
  free(CONTAINER_OF(f, struct warm, defer));
}

static void warm_free(struct warm *w) {
  CHECK_MAGIC(w, WARM_MAGIC);
  w->magic = 0;
  reach_stop(w->reach);
  loop_io_del(&w->io);
  if (w->fd >= 0) {
    descriptors_remove(&w->link->client->descriptors, w->fd);
    net_close(w->fd);
  }
  secret_free(w->secrets, sizeof *w->secrets);
  list_remove(&w->node);
  w->link->warm_n--;
  loop_defer(w->link->client->loop, &w->defer, warm_release);
}

void warm_stop_all(struct link *l) {
  LIST_FOREACH(&l->warm, it) warm_free(CONTAINER_OF(it, struct warm, node));
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

/* A complete OPEN is in w->secrets->in: the connection becomes a stream, or is refused. */
static void warm_opened(struct warm *w) {
  struct adit_client *c = w->link->client;
  struct warm_secrets *s = w->secrets;
  uint8_t accept[ACCEPT_BYTES];
  w->link->data_stood++;
  if (open_decode(s->in, w->have, &s->keys, &s->open) != 0) {
    warm_free(w);
    return;
  }
  struct adit_tunnel *t = tunnel_find(c, s->open.tunnel_id);
  bool serves = t != NULL && !t->closing && stream_is_wanted(t, &s->open);
  if (accept_encode(serves ? ACCEPT_OK : ACCEPT_NO_TUNNEL, &s->keys, accept) != 0 ||
      net_send(w->fd, accept, sizeof accept) != (ssize_t)sizeof accept) { /* so far only the preface: it fits */
    warm_free(w);
    return;
  }
  wipe(&s->keys, sizeof s->keys);
  int fd = w->fd;
  loop_io_del(&w->io);
  w->fd = -1;
  if (serves) {
    stream_begin(t, fd, &s->open);
  } else {
    pump_linger_close(c->pool, fd);
  }
  warm_free(w);
}

/* Sends what is left of the preface; false when the connection is gone. */
static bool warm_flush(struct warm *w) {
  while (w->preface_sent < sizeof w->preface) {
    ssize_t n = net_send(w->fd, w->preface + w->preface_sent, sizeof w->preface - w->preface_sent);
    if (n == NET_AGAIN) break;
    if (n < 0) return false;
    w->preface_sent += (size_t)n;
  }
  loop_io_set(&w->io, w->preface_sent < sizeof w->preface ? EPOLLIN | EPOLLOUT : EPOLLIN);
  return true;
}

static void warm_ready(struct loop_io *io, uint32_t events) {
  struct warm *w = CONTAINER_OF(io, struct warm, io);
  CHECK_MAGIC(w, WARM_MAGIC);
  if ((events & EPOLLOUT) != 0 && !warm_flush(w)) {
    warm_free(w);
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
    ssize_t n = net_recv(w->fd, in + w->have, total - w->have);
    if (n == NET_AGAIN) return;
    if (n <= 0) {
      err_set(&w->link->data_err, ERR_CLOSED, "closed before use");
      warm_free(w);
      return;
    }
    w->have += (size_t)n;
  }
}

static void warm_connected(void *user, int fd, const struct addr *to, const struct err *e) {
  (void)to;
  struct warm *w = user;
  CHECK_MAGIC(w, WARM_MAGIC);
  struct link *l = w->link;
  w->reach = NULL;
  w->fd = fd;
  if (fd < 0 || e->code != 0) {
    l->data_err = *e;
    warm_free(w);
    warm_redial_later(l);
    return;
  }
  l->redial_ceiling_ms = 0;
  w->since_ms = loop_now_ms(l->client->loop);
  uint64_t number;
  w->secrets = secret_alloc(sizeof *w->secrets);
  if (w->secrets == NULL || link_keys_next(l->keys, &number, &w->secrets->keys) != 0 ||
      preface_encode(l->id, number, &w->secrets->keys, w->preface) != 0 ||
      loop_io_add(l->client->loop, &w->io, fd, EPOLLIN, warm_ready) != 0) {
    warm_free(w);
    warm_redial_later(l);
    return;
  }
  wipe(w->secrets->keys.preface, sizeof w->secrets->keys.preface);
  if (!warm_flush(w)) warm_free(w);
}

void warm_dial(struct link *l, size_t n) {
  for (; n > 0 && l->warm_n < WARM_MAX && !l->dead; n--) {
    struct warm *w = calloc(1, sizeof *w);
    if (w == NULL) return;
    *w = (struct warm){.magic = WARM_MAGIC, .link = l, .fd = -1};
    list_push_tail(&l->warm, &w->node);
    l->warm_n++;
    w->reach = reach_start(l->client, l->choice, &l->address, 1, warm_connected, w);
    if (w->reach == NULL) {
      warm_free(w);
      return;
    }
  }
}

/* Whether some data connection stands; a relay has had time to refuse those that it does not like. */
static bool warm_any_stands(const struct link *l) {
  LIST_FOREACH((struct list *)(uintptr_t)&l->warm, it)
    if (CONTAINER_OF(it, struct warm, node)->fd >= 0) return true;
  return false;
}

static void warm_warn(struct link *l, const char *why) {
  char relay[80];
  if (l->data_warned) return;
  l->data_warned = true;
  addr_format(&l->address, relay, sizeof relay);
  client_event(l->client, ADIT_EVENT_WARNING, NULL, ADIT_EUNREACHABLE, "data_connections",
               "data connections to %s do not get through, though the control link does: %s (a firewall or proxy "
               "between here and the relay lets only TLS out: allow plain TCP to that address; or the router in front of the "
               "relay goes by TLS names: have it pass to the relay what has none)",
               relay, why);
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
    if (w->fd >= 0 && now_ms - w->since_ms >= DATA_CHECK_MS) unused++;
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

void warm_watch(struct link *l) {
  (void)loop_timer_set(l->client->loop, &l->data_check, DATA_CHECK_MS, warm_check_due);
}
