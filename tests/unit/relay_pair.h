/* Two relays of one test, as two processes would be them: what one exports, the other imports. A worker each, nobody
   listens, and nothing is on the disk. */
#ifndef TESTS_RELAY_PAIR_H
#define TESTS_RELAY_PAIR_H

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cm.h"
#include "base/secret.h"
#include "loop/net.h"
#include "relay/keeper.h"
#include "relay/registry.h"
#include "relay/sources.h"
#include "relay/worker.h"

struct one_relay {
  struct relay relay;
  struct relay_options options;
  struct worker worker;
};

static inline void one_relay_open(struct one_relay *r, enum pump_mode mode) {
  struct err e;
  memset(r, 0, sizeof *r);
  r->options.domain = "r.test";
  r->options.pump = mode;
  r->relay.options = &r->options;
  r->relay.workers = &r->worker;
  r->relay.workers_n = 1;
  r->relay.sources = sources_new();
  r->relay.shares.total = 10000;
  r->relay.division = (struct division){.strangers = 10, .pipes = 100, .lingers = 100};
  r->relay.newcomers_bytes_max = 1 << 20;
  pthread_mutex_init(&r->relay.ticket_lock, NULL);
  assert_int_equal(registry_new(&r->relay, &r->relay.registry), 0);
  assert_int_equal(worker_open(&r->worker, &r->relay, &e), 0);
}

static inline void one_relay_close(struct one_relay *r) {
  worker_order(&r->worker, ORDER_STOP);
  worker_settle(&r->worker);
  if (r->relay.keeper != NULL) keeper_stop(r->relay.keeper);
  for (int round = 0; round < 4; round++) {
    worker_settle(&r->worker);
    keeper_settle(r->relay.keeper);
  }
  assert_int_equal(r->relay.shares.used, 0);     /* whatever came has gone */
  assert_int_equal(r->worker.metrics.streams_now, 0);
  assert_int_equal(r->worker.visitors_n, 0);
  worker_free(&r->worker);
  keeper_free(r->relay.keeper);
  registry_free(r->relay.registry);
  sources_free(r->relay.sources);
  pthread_mutex_destroy(&r->relay.ticket_lock);
}

static inline struct owner *relay_owner(struct one_relay *r, const struct certificate *chain, size_t n) {
  struct owner *o = NULL;
  assert_int_equal(registry_owner(r->relay.registry, chain, n, 0, &o), 0);
  return o;
}

static inline void socket_pair(int *ours, int *far) {
  int fds[2];
  assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
  *ours = fds[0];
  *far = fds[1];
}

#endif
