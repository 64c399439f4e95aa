/* Trying a relay: what is told of a failure is the relay, and what stands in the way to it. */
#include "agent/candidate.h"

#include <stdlib.h>
#include <string.h>

#include "agent/greeting.h"
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
  struct greeting *greeting;
  struct reached reached;
  struct tls_conn *tls;            /* once the handshake is done */
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
  greeting_stop(k->greeting);
  loop_timer_stop(&k->deadline);
  tls_conn_free(k->tls);
  reached_close(k->client, &k->reached);
  loop_defer(k->client->loop, &k->defer, candidate_release);
}

struct relay_choice *candidate_choice(const struct candidate *k) {
  return k->choice;
}

void candidate_take(struct candidate *k, struct reached *reached, struct tls_conn **tls) {
  *reached = k->reached;
  *tls = k->tls;
  k->reached.wire = WIRE_NONE;
  k->tls = NULL;
}

static void candidate_fail(struct candidate *k, const struct err *why) {
  struct err e = *why;
  char relay[300];
  dial_address_format(&k->choice->dial, relay, sizeof relay);
  if (e.code == 0) e.code = ERR_IO;
  err_prefix(&e, "relay %s", relay);
  k->fn(k->user, k, &e);
}

static void candidate_greeted(void *user, struct tls_conn *tls, const struct err *e) {
  struct candidate *k = user;
  CHECK_MAGIC(k, CANDIDATE_MAGIC);
  k->greeting = NULL;
  k->tls = tls;
  if (tls != NULL) k->fn(k->user, k, NULL);
  else candidate_fail(k, e);
}

static void candidate_reached(void *user, const struct reached *reached, const struct err *why) {
  struct candidate *k = user;
  CHECK_MAGIC(k, CANDIDATE_MAGIC);
  struct err e = {0};
  k->reach = NULL;
  k->reached = *reached;
  if (reached->wire.fd < 0) {
    bool told = why->code == ERR_LIMIT || k->choice->proxy != NULL || dial_address_is_unix(&k->choice->dial);
    err_set(&e, why->code, told ? "%.400s" : "%.300s (is the relay running, and is this its address?)", why->text);
  } else {
    struct tls_conn *tls = tls_conn_client(k->client->tls, k->choice->name, &k->choice->pin, WIRE_ALPN, &e);
    if (tls != NULL)
      k->greeting = greeting_start(k->client, reached->wire, tls, candidate_greeted, k, &e);
  }
  if (k->greeting == NULL) candidate_fail(k, &e);
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
  k->reach = reach_start(k->client, k->choice, addrs, n, candidate_reached, k);
  if (k->reach == NULL) candidate_fail(k, &(struct err){ERR_NOMEM, "out of memory"});
}

static void candidate_deadline(struct loop_timer *t) {
  struct candidate *k = CONTAINER_OF(t, struct candidate, deadline);
  struct err e = {0};
  if (k->lookup != NULL) {
    err_set(&e, ERR_TIMEOUT,
            "DNS has not answered for its name in %d s (check the network, and the servers in /etc/resolv.conf)",
            AGENT_CONNECT_DEADLINE_MS / 1000);
    if (k->choice->proxy != NULL) err_prefix(&e, "proxy %s", k->choice->proxy->name);
  } else if (k->reach != NULL && k->choice->proxy != NULL) reach_explain_silence(k->choice, &e);
  else
    err_set(&e, ERR_TIMEOUT, "no answer in %d s (check the address, and that outgoing connections to it are allowed)",
            AGENT_CONNECT_DEADLINE_MS / 1000);
  candidate_fail(k, &e);
}

struct candidate *candidate_start(struct adit_client *c, struct relay_choice *choice, candidate_fn *fn, void *user) {
  struct candidate *k = calloc(1, sizeof *k);
  if (k == NULL) return NULL;
  *k = (struct candidate){
      .magic = CANDIDATE_MAGIC, .client = c, .choice = choice, .fn = fn, .user = user, .reached.wire = WIRE_NONE};
  struct addr addrs[RESOLVED_MAX];
  bool is_unix = dial_address_is_unix(&choice->dial);
  const struct host_port *first = reach_host(choice);
  size_t n = is_unix ? 1 : resolve_now(first, addrs);
  if (is_unix) addrs[0] = addr_unix(choice->dial.path);
  bool begun = loop_timer_set(c->loop, &k->deadline, AGENT_CONNECT_DEADLINE_MS, candidate_deadline) == 0;
  if (begun && n > 0) {
    k->reach = reach_start(c, choice, addrs, n, candidate_reached, k);
    begun = k->reach != NULL;
  } else if (begun) {
    k->lookup = resolve_start(c->loop, first, candidate_resolved, k);
    begun = k->lookup != NULL;
  }
  if (begun) return k;
  candidate_free(k);
  return NULL;
}
