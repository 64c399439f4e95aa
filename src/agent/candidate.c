/* Trying a relay. The hard thing: bytes are read exactly, record by record, so that what the relay sends after its
   Finished is still in the kernel when our own record layer takes over. */
#include "agent/candidate.h"

#include <stdlib.h>
#include <string.h>

#include "agent/reach.h"
#include "agent/resolve.h"
#include "loop/net.h"

enum { CANDIDATE_MAGIC = 0x63616e64 };

struct candidate {
  unsigned magic;
  struct adit_client *client;
  struct relay_choice *choice;
  candidate_fn *fn;
  void *user;
  struct resolve *lookup;
  struct reach *reach;
  struct tls_conn *tls;
  int fd;
  bool answered;                   /* some byte of the relay's has come */
  struct addr address;
  struct loop_io io;
  struct loop_timer deadline;
  struct loop_deferred defer;
};

static void candidate_release(struct loop_deferred *f) {
  free(CONTAINER_OF(f, struct candidate, defer));
}

void candidate_free(struct candidate *k) {
  if (k == NULL) return;
  CHECK_MAGIC(k, CANDIDATE_MAGIC);
  k->magic = 0;
  resolve_cancel(k->lookup);
  reach_stop(k->reach);
  loop_timer_stop(&k->deadline);
  loop_io_del(&k->io);
  tls_conn_free(k->tls);
  if (k->fd >= 0) {
    descriptors_remove(&k->client->descriptors, k->fd);
    net_close(k->fd);
  }
  loop_defer(k->client->loop, &k->defer, candidate_release);
}

struct relay_choice *candidate_choice(const struct candidate *k) {
  return k->choice;
}

void candidate_take(struct candidate *k, int *fd, struct tls_conn **tls, struct addr *address) {
  loop_io_del(&k->io);
  *fd = k->fd;
  *tls = k->tls;
  *address = k->address;
  k->fd = -1;
  k->tls = NULL;
}

static void candidate_fail(struct candidate *k, const struct err *why) {
  struct err e = *why;
  char relay[300];
  host_port_format(&k->choice->dial, relay, sizeof relay);
  if (e.code == 0) e.code = ERR_IO;
  err_prefix(&e, "relay %s", relay);
  k->fn(k->user, k, &e);
}

/* Sends what there is; false when the connection failed. */
static bool candidate_flush(struct candidate *k) {
  size_t n;
  const uint8_t *p = tls_conn_output(k->tls, &n);
  while (n > 0) {
    ssize_t sent = net_send(k->fd, p, n);
    if (sent == NET_AGAIN) break;
    if (sent < 0) return false;
    tls_conn_output_sent(k->tls, (size_t)sent);
    p = tls_conn_output(k->tls, &n);
  }
  loop_io_set(&k->io, n > 0 ? EPOLLIN | EPOLLOUT : EPOLLIN);
  return true;
}

static void candidate_closed(struct candidate *k) {
  struct err e = {0};
  if (k->answered)
    err_set(&e, ERR_CLOSED, "the connection was closed during the handshake (is that address a relay?)");
  else
    err_set(&e, ERR_CLOSED,
            "the connection was closed before TLS was answered (is that address a relay? if a load balancer stands before it, "
            "its PROXY header and the relay's --accept-proxy must go together)");
  candidate_fail(k, &e);
}

/* One step of the handshake; false when k has reported or failed. */
static bool candidate_step(struct candidate *k, const uint8_t *p, size_t n) {
  struct err e = {0};
  switch (tls_conn_feed(k->tls, p, n, &e)) {
  case TLS_DONE:
    k->fn(k->user, k, NULL);   /* our Finished stays in the output: it leaves with HELLO, or never */
    return false;
  case TLS_FAILED:
    (void)candidate_flush(k);  /* the alert */
    candidate_fail(k, &e);
    return false;
  case TLS_GOING_ON:
    break;
  }
  if (candidate_flush(k)) return true;
  candidate_closed(k);
  return false;
}

static void candidate_ready(struct loop_io *io, uint32_t events) {
  struct candidate *k = CONTAINER_OF(io, struct candidate, io);
  CHECK_MAGIC(k, CANDIDATE_MAGIC);
  if ((events & EPOLLOUT) != 0 && !candidate_flush(k)) {
    candidate_closed(k);
    return;
  }
  uint8_t bytes[4096];
  for (;;) {
    ssize_t n = net_recv(k->fd, bytes, size_min(sizeof bytes, tls_conn_want(k->tls)));
    if (n == NET_AGAIN) return;
    if (n <= 0) {
      candidate_closed(k);
      return;
    }
    k->answered = true;
    if (!candidate_step(k, bytes, (size_t)n)) return;
  }
}

static void candidate_connected(void *user, int fd, const struct addr *to, const struct err *why) {
  struct candidate *k = user;
  CHECK_MAGIC(k, CANDIDATE_MAGIC);
  k->reach = NULL;
  if (fd < 0) {
    struct err e = {0};
    bool told = why->code == ERR_LIMIT || k->choice->proxy != NULL;
    err_set(&e, why->code, told ? "%.400s" : "%.300s (is the relay running, and is this its address?)", why->text);
    candidate_fail(k, &e);
    return;
  }
  k->fd = fd;
  k->address = *to;
  struct err e = {0};
  k->tls = tls_conn_client(k->client->tls, k->choice->name, &k->choice->pin, WIRE_ALPN, &e);
  if (k->tls == NULL) {
    candidate_fail(k, &e);
    return;
  }
  if (loop_io_add(k->client->loop, &k->io, fd, EPOLLIN, candidate_ready) != 0) {
    err_set(&e, ERR_NOMEM, "out of memory");
    candidate_fail(k, &e);
    return;
  }
  (void)candidate_step(k, NULL, 0);
}

static void candidate_resolved(void *user, const struct addr *addrs, size_t n, const struct err *e) {
  struct candidate *k = user;
  CHECK_MAGIC(k, CANDIDATE_MAGIC);
  k->lookup = NULL;
  if (n == 0) {
    struct err why = *e;
    if (k->choice->proxy != NULL) err_prefix(&why, "proxy %s", k->choice->proxy->name);
    candidate_fail(k, &why);
    return;
  }
  k->reach = reach_start(k->client, k->choice, addrs, n, candidate_connected, k);
  if (k->reach == NULL) candidate_fail(k, &(struct err){ERR_NOMEM, "out of memory"});
}

static void candidate_deadline(struct loop_timer *t) {
  struct candidate *k = CONTAINER_OF(t, struct candidate, deadline);
  struct err e = {0};
  if (k->reach != NULL && k->choice->proxy != NULL) reach_explain_silence(k->choice, &e);
  else
    err_set(&e, ERR_TIMEOUT, "no answer in %d s (check the address, and that outgoing connections to it are allowed)",
            AGENT_CONNECT_DEADLINE_MS / 1000);
  candidate_fail(k, &e);
}

struct candidate *candidate_start(struct adit_client *c, struct relay_choice *choice, candidate_fn *fn, void *user) {
  struct candidate *k = calloc(1, sizeof *k);
  if (k == NULL) return NULL;
  *k = (struct candidate){.magic = CANDIDATE_MAGIC, .client = c, .choice = choice, .fn = fn, .user = user, .fd = -1};
  struct addr addrs[RESOLVED_MAX];
  const struct host_port *first = reach_host(choice);
  size_t n = resolve_now(first, addrs);
  bool begun = loop_timer_set(c->loop, &k->deadline, AGENT_CONNECT_DEADLINE_MS, candidate_deadline) == 0;
  if (begun && n > 0) {
    k->reach = reach_start(c, choice, addrs, n, candidate_connected, k);
    begun = k->reach != NULL;
  } else if (begun) {
    k->lookup = resolve_start(c->loop, first, candidate_resolved, k);
    begun = k->lookup != NULL;
  }
  if (begun) return k;
  candidate_free(k);
  return NULL;
}
