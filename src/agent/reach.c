/* Reaching a relay. What the proxy answers is read exactly, since the bytes after it are the relay's; and it comes from
   who knows whom, so it is bounded and a failure says whose it was: the proxy's, or that of what is behind it. */
#include "agent/reach.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/dial.h"
#include "agent/greeting.h"
#include "base/secret.h"
#include "loop/net.h"
#include "wire/http_connect.h"

enum { REACH_MAGIC = 0x72656163 };

struct reach {
  unsigned magic;
  struct adit_client *client;
  const struct relay_choice *choice;
  reach_fn *fn;
  void *user;
  struct dial *dial;
  struct greeting *greeting;       /* with an https:// proxy */
  struct reached reached;
  struct loop_io io;
  struct loop_timer deadline;
  struct loop_deferred defer;
  size_t have;
  uint8_t head[PROXY_HEAD_MAX_BYTES];
};

const struct host_port *reach_host(const struct relay_choice *choice) {
  return choice->proxy != NULL ? &choice->proxy->at : &choice->dial.tcp;
}

void reached_close(struct adit_client *c, struct reached *r) {
  struct wire wire = wire_take(&r->wire);
  wrap_free(wire.outer);
  if (wire.fd < 0) return;
  descriptors_remove(&c->descriptors, wire.fd);
  net_close(wire.fd);
}

static void reach_release(struct loop_deferred *f) {
  free(CONTAINER_OF(f, struct reach, defer));
}

void reach_stop(struct reach *r) {
  if (r == NULL) return;
  CHECK_MAGIC(r, REACH_MAGIC);
  r->magic = 0;
  dial_stop(r->dial);
  greeting_stop(r->greeting);
  loop_timer_stop(&r->deadline);
  loop_io_del(&r->io);
  reached_close(r->client, &r->reached);
  loop_defer(r->client->loop, &r->defer, reach_release);
}

static void reach_end(struct reach *r, const struct err *e) {
  reach_fn *fn = r->fn;
  void *user = r->user;
  struct reached reached = {.wire = WIRE_NONE, .to = r->reached.to};
  if (e->code == 0) {
    loop_io_del(&r->io);
    reached.wire = wire_take(&r->reached.wire);
  }
  reach_stop(r);
  fn(user, &reached, e);
}

static void reach_fail(struct reach *r, int code, const char *text) {
  struct err e = {0};
  err_set(&e, code, "proxy %s: %s", r->choice->proxy->name, text);
  reach_end(r, &e);
}

/* A status other than 2xx. The remedy is what mostly helps. */
static void reach_refused(struct reach *r, const struct http_connect_answer *a) {
  const struct http_proxy *proxy = r->choice->proxy;
  bool wants_proof = a->status == 407 || a->status == 401;   /* which tinyproxy says to a wrong password */
  char relay[300];
  struct err e = {0};
  dial_address_format(&r->choice->dial, relay, sizeof relay);
  if (wants_proof && a->scheme[0] != '\0' && !a->takes_basic)
    err_set(&e, ERR_CLOSED,
            "proxy %s: it wants a proof by %s (%u), which is not spoken here (have it take Basic, or put a local "
            "proxy before it that speaks that)",
            proxy->name, a->scheme, a->status);
  else if (wants_proof)
    err_set(&e, ERR_CLOSED,
            proxy->authorization != NULL
                ? "proxy %s: it does not accept the user and password (%u) (check them; in the URL @ : and %% are "
                  "written %%40 %%3A %%25)"
                : "proxy %s: it wants a user and password (%u) (put them into its URL: http://USER:PASSWORD@HOST:PORT)",
            proxy->name, a->status);
  else if (a->status == 502 || a->status == 503 || a->status == 504)
    err_set(&e, ERR_CLOSED, "proxy %s: it cannot reach %s: %u %s (is the relay running, and is this its address?)",
            proxy->name, relay, a->status, a->reason);
  else
    err_set(&e, ERR_CLOSED,
            "proxy %s: it does not connect us to %s: %u %s (have it allow CONNECT to that port, or use another)",
            proxy->name, relay, a->status, a->reason);
  reach_end(r, &e);
}

/* True: more is to be read. */
static bool reach_answered(struct reach *r, size_t *want) {
  struct http_connect_answer a;
  int n = http_connect_read(r->head, r->have, &a);
  if (n > 0) {
    *want = (size_t)n;
    return true;
  }
  if (n == ERR_LIMIT) reach_fail(r, ERR_SYNTAX, "its answer is too long (is this an HTTP proxy?)");
  else if (n < 0)
    reach_fail(r, ERR_SYNTAX, "it does not speak HTTP/1 (is this its address, and http:// or https:// right?)");
  else if (a.status >= 300) reach_refused(r, &a);
  else reach_end(r, &(struct err){0});
  return false;
}

static void reach_ready(struct loop_io *io, uint32_t events) {
  (void)events;
  struct reach *r = CONTAINER_OF(io, struct reach, io);
  CHECK_MAGIC(r, REACH_MAGIC);
  for (size_t want; reach_answered(r, &want);) {
    ssize_t n = wire_recv(&r->reached.wire, r->head + r->have, want - r->have);
    if (n == NET_AGAIN) return;
    if (n <= 0) {
      reach_fail(r, ERR_CLOSED,
                 r->have > 0
                     ? "it closed the connection in the midst of its answer (is this an HTTP proxy?)"
                     : "it closed the connection without an answer (is this an HTTP proxy? one that is spoken to "
                       "inside TLS is written https://)");
      return;
    }
    r->have += (size_t)n;
  }
}

void reach_explain_silence(const struct relay_choice *choice, struct err *e) {
  char relay[300];
  dial_address_format(&choice->dial, relay, sizeof relay);
  err_set(e, ERR_TIMEOUT,
          "proxy %s: it has not connected us to %s in %d s (check its address, and http:// or https://; can it "
          "reach the relay?)",
          choice->proxy->name, relay, AGENT_CONNECT_DEADLINE_MS / 1000);
}

static void reach_late(struct loop_timer *t) {
  struct reach *r = CONTAINER_OF(t, struct reach, deadline);
  struct err e = {0};
  reach_explain_silence(r->choice, &e);
  reach_end(r, &e);
}

/* One write on an empty socket buffer. */
static bool reach_ask(struct reach *r) {
  uint8_t request[HTTP_CONNECT_MAX_BYTES];
  struct writer w = writer_of(request, sizeof request);
  http_connect_encode(&w, &r->choice->dial.tcp, r->choice->proxy->authorization, "adit/" ADIT_VERSION);
  bool sent = !w.bad && wire_send(&r->reached.wire, request, w.len) == (ssize_t)w.len &&
              wire_flush(&r->reached.wire) == 0;
  wipe(request, sizeof request);
  return sent;
}

static void reach_speak(struct reach *r) {
  if (!reach_ask(r)) reach_fail(r, ERR_CLOSED, "it closed the connection at once (is this an HTTP proxy?)");
  else if (loop_io_add(r->client->loop, &r->io, r->reached.wire.fd, EPOLLIN, reach_ready) != 0)
    reach_fail(r, ERR_NOMEM, "out of memory");
}

/* What a failed handshake says is about relays; of a proxy the reason is as true, and the remedy another. That it is
   not who it should be says nothing of the relay. */
static void reach_not_greeted(struct reach *r, const struct err *why) {
  char text[ERR_TEXT_MAX];
  const char *remedy = why->code == ERR_AUTH
                           ? "have SSL_CERT_FILE name its authority, or make that known to this machine"
                           : "is it spoken to inside TLS? else write http://";
  (void)snprintf(text, sizeof text, "%.*s(%s)", (int)strcspn(why->text, "("), why->text, remedy);
  reach_fail(r, ERR_CLOSED, text);
}

static void reach_greeted(void *user, struct tls_conn *tls, const struct err *e) {
  struct reach *r = user;
  CHECK_MAGIC(r, REACH_MAGIC);
  struct err why = {0};
  r->greeting = NULL;
  if (tls == NULL) {
    reach_not_greeted(r, e);
    return;
  }
  r->reached.wire.outer = wrap_take_over(tls, true, NULL, &why);
  if (r->reached.wire.outer != NULL) reach_speak(r);
  else reach_fail(r, why.code, why.text);
}

static void reach_greet(struct reach *r) {
  static const struct pin public = {.kind = PIN_PUBLIC_AUTHORITIES};
  struct err e = {0};
  struct tls_client *tls = client_tls_for_proxy(r->client, &e);
  struct tls_conn *conn = tls == NULL ? NULL : tls_conn_client(tls, r->choice->proxy->at.host, &public, NULL, &e);
  if (conn != NULL) r->greeting = greeting_start(r->client, r->reached.wire, conn, reach_greeted, r, &e);
  if (r->greeting == NULL) reach_fail(r, e.code, e.text);
}

static void reach_connected(void *user, int fd, const struct addr *to, const struct err *e) {
  struct reach *r = user;
  CHECK_MAGIC(r, REACH_MAGIC);
  r->dial = NULL;
  r->reached.wire.fd = fd;
  r->reached.to = *to;
  if (r->choice->proxy == NULL) {
    reach_end(r, e);
  } else if (fd < 0 || e->code != 0) {
    struct err why = *e;
    if (why.code != ERR_LIMIT)
      err_set(&why, e->code, "%.300s (is the proxy running, and is this its address?)", e->text);
    err_prefix(&why, "proxy %s", r->choice->proxy->name);
    reach_end(r, &why);
  } else if (r->choice->proxy->tls) {
    reach_greet(r);
  } else {
    reach_speak(r);
  }
}

struct reach *reach_start(struct adit_client *c, const struct relay_choice *choice, const struct addr *addrs, size_t n,
                          reach_fn *fn, void *user) {
  struct reach *r = malloc(sizeof *r);
  if (r == NULL) return NULL;
  memset(r, 0, offsetof(struct reach, head));
  r->magic = REACH_MAGIC;
  r->client = c;
  r->choice = choice;
  r->fn = fn;
  r->user = user;
  r->reached.wire = WIRE_NONE;
  if (choice->proxy == NULL || loop_timer_set(c->loop, &r->deadline, AGENT_CONNECT_DEADLINE_MS, reach_late) == 0)
    r->dial = dial_start(c->loop, &c->descriptors, addrs, n, AGENT_CONNECT_DEADLINE_MS, reach_connected, r);
  if (r->dial != NULL) return r;
  loop_timer_stop(&r->deadline);
  free(r);
  return NULL;
}
