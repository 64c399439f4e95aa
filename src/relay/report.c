/* The relay's answers to its admin port. Whoever asks, and however often, holds up nobody else: health is a flag, the
   numbers are counters that are read without a lock, and tunnels are met a few at a time. */
#include "relay/report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/descriptors.h"
#include "base/text.h"
#include "relay/registry.h"
#include "relay/warning.h"
#include "relay/worker.h"

_Static_assert((int)STATUS_BATCH_MAX == (int)REGISTRY_STEPS_MAX, "a batch is what the registry gives at a time");

static bool report_draining(void *user) { return relay_draining(user); }

struct metrics report_sum(const struct relay *r) {
  struct metrics sum = {0};
  for (unsigned i = 0; i < r->workers_n; i++) {
    const struct pump_stats *p = pump_pool_stats(r->workers[i].pool);
    metrics_add(&sum, &r->workers[i].metrics);
    sum.bytes_to_visitors_total += __atomic_load_n(&p->to_peer_bytes, __ATOMIC_RELAXED);
    sum.bytes_from_visitors_total += __atomic_load_n(&p->to_wire_bytes, __ATOMIC_RELAXED);
    sum.rate_waits_total += __atomic_load_n(&p->waits, __ATOMIC_RELAXED);
    sum.pipes_now += __atomic_load_n(&p->pipes, __ATOMIC_RELAXED) +
                     __atomic_load_n(&p->pipes_pooled, __ATOMIC_RELAXED);
    sum.buffers_now +=
        __atomic_load_n(&p->buffers, __ATOMIC_RELAXED) + __atomic_load_n(&p->buffers_pooled, __ATOMIC_RELAXED);
  }
  return sum;
}

static void report_numbers(void *user, struct status *s) {
  struct relay *r = user;
  memset(s, 0, sizeof *s);
  s->sum = report_sum(r);
  struct tls_server *server = certs_current(r->certs);
  int64_t now_s = time(NULL);
  s->certificate_begins_s = tls_server_not_before(server);
  s->certificate_expires_s = tls_server_not_after(server);
  s->certificate_valid = now_s >= s->certificate_begins_s && now_s <= s->certificate_expires_s;
  tls_server_unref(server);
  s->domain = r->options->domain;
  s->version = ADIT_VERSION;
  s->uptime_s = (clock_ms() - r->started_ms) / 1000;
  s->descriptors_now = descriptors_now();
  s->descriptors_max = descriptors_max();
  s->draining = relay_draining(r);
  s->rights = &r->rights;
}

static void *report_walk_begin(void *user) {
  struct relay *r = user;
  struct registry_walk *w = malloc(sizeof *w);
  if (w != NULL) registry_walk_begin(r->registry, w);
  return w;
}

static void describe(const struct tunnel *t, uint64_t now_ms, struct status_tunnel *s) {
  (void)snprintf(s->host, sizeof s->host, "%s", t->host);
  (void)snprintf(s->owner, sizeof s->owner, "%.*s", TOKEN_NAME_MAX_CHARS, t->owner->root->name);
  memcpy(s->token, t->owner->name, sizeof s->token);
  memcpy(s->agent, t->agent, sizeof s->agent);
  addr_format(&t->agent_from, s->agent_address, sizeof s->agent_address);
  s->tcp_port = __atomic_load_n(&t->tcp_port, __ATOMIC_RELAXED);
  s->streams_now = __atomic_load_n(&t->streams_now, __ATOMIC_RELAXED);
  s->streams_total = __atomic_load_n(&t->streams_total, __ATOMIC_RELAXED);
  s->age_s = (now_ms - t->opened_ms) / 1000;
}

static size_t report_walk_next(void *user, void *walk, struct status_tunnel out[STATUS_BATCH_MAX]) {
  struct relay *r = user;
  struct tunnel *tunnels[REGISTRY_STEPS_MAX];
  size_t n = registry_walk_next(r->registry, walk, tunnels);
  uint64_t now_ms = clock_ms();              /* later than any of them was opened */
  for (size_t i = 0; i < n; i++) {
    describe(tunnels[i], now_ms, &out[i]);
    tunnel_unref(r->registry, tunnels[i]);
  }
  return n;
}

static size_t tokens_next(struct relay *r, struct roster_walk *walk, struct status_token out[STATUS_BATCH_MAX]) {
  struct usage usages[REGISTRY_STEPS_MAX];
  size_t n = registry_walk_usages(r->registry, walk, usages);
  for (size_t i = 0; i < n; i++) {
    const struct usage *u = &usages[i];
    out[i] = (struct status_token){.streams_now = u->streams_now,
                                   .streams_total = u->streams_total,
                                   .bytes_from_visitors = u->from_visitors.bytes,
                                   .bytes_to_visitors = u->to_visitors.bytes};
    memcpy(out[i].name, u->name, sizeof out[i].name);
    hex_encode(u->id, sizeof u->id, out[i].id);
    if (memcmp(u->id, u->root_id, sizeof u->id) != 0) hex_encode(u->root_id, sizeof u->root_id, out[i].root);
  }
  return n;
}

static size_t report_walk_tokens(void *user, void *walk, struct status_token out[STATUS_BATCH_MAX]) {
  return tokens_next(user, &((struct registry_walk *)walk)->tokens, out);
}

static size_t report_walk_narrowed(void *user, void *walk, struct status_token out[STATUS_BATCH_MAX]) {
  return tokens_next(user, &((struct registry_walk *)walk)->narrowed, out);
}

static void report_walk_end(void *user, void *walk) {
  struct relay *r = user;
  registry_walk_end(r->registry, walk);
  free(walk);
}

static void report_shortage(void *user, int error) {
  struct relay *r = user;
  warning_shortage(&r->warnings, error);
}

struct admin_source report_source(struct relay *r) {
  return (struct admin_source){.user = r,
                               .draining = report_draining,
                               .numbers = report_numbers,
                               .walk_begin = report_walk_begin,
                               .walk_next = report_walk_next,
                               .walk_tokens = report_walk_tokens,
                               .walk_narrowed = report_walk_narrowed,
                               .walk_end = report_walk_end,
                               .shortage = report_shortage};
}
