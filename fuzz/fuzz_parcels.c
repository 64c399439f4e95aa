/* What a relay takes over in an upgrade, of any bytes: parcels, one behind the other, each of its kind, so that those
   that lean on a link find one. What is taken for something lives, is packed again with all that is there, and is
   unpacked again; what is not takes nothing. The relay with its keeper stays from one input to the next. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "loop/net.h"
#include "relay/bind.h"
#include "relay/keeper.h"
#include "relay/parcel.h"
#include "relay/raw.h"
#include "relay/sources.h"
#include "relay/stray.h"
#include "relay/stream.h"
#include "relay/visitor.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { TURNS = 3, WAITS_MAX = 1000, FAR_MAX = 64 };

static struct world {
  struct relay relay;
  struct relay_options options;
  struct worker worker;
  char dir[32];
  bool open;
  int far[FAR_MAX];                /* the other ends of what was given */
  size_t far_n;
} w;

static void world_remove(void) {
  char command[64];
  keeper_stop(w.relay.keeper);
  (void)snprintf(command, sizeof command, "rm -rf %s", w.dir);
  (void)!system(command);
}

static void world_open(void) {
  struct err e = {.text = ""};
  log_setup(LOG_OFF, false);
  strcpy(w.dir, "/tmp/adit-fuzz-XXXXXX");
  w.options = (struct relay_options){
      .domain = "r.test", .tcp_port_from = 23100, .tcp_port_to = 23199, .plain_allowed = true};
  ASSERT(addr_parse("127.0.0.1:1", &w.options.tcp_listen, &e) == 0 && mkdtemp(w.dir) != NULL);
  w.relay.options = &w.options;
  w.relay.workers = &w.worker;
  w.relay.workers_n = 1;
  w.relay.shares.total = 1000;
  w.relay.sources = sources_new();
  w.relay.division = (struct division){.strangers = 10, .pipes = 10, .lingers = 10};
  w.relay.newcomers_bytes_max = 1 << 20;
  pthread_mutex_init(&w.relay.ticket_lock, NULL);
  int rc = registry_new(&w.relay, &w.relay.registry);
  if (rc == 0) rc = worker_open(&w.worker, &w.relay, &e);
  if (rc == 0) rc = state_open(w.dir, &w.relay.state, &e);
  if (rc == 0) rc = certs_open(w.relay.state, NULL, w.options.domain, NULL, NULL, 0, &w.relay.certs, &e);
  if (rc == 0) rc = keeper_new(&w.relay, &w.relay.keeper, &e);
  if (rc == 0) rc = keeper_run(w.relay.keeper, &e);
  ASSERT(rc == 0);
  w.open = true;
  (void)atexit(world_remove);
}

/* A socket that is ours; its far end is kept. */
static int given(void) {
  int fds[2];
  int rc = socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds);
  ASSERT(rc == 0 && w.far_n < FAR_MAX);
  w.far[w.far_n++] = fds[1];
  return fds[0];
}

static bool steps_under_way(void) {
  LIST_FOREACH(&w.worker.links, it) {
    if (CONTAINER_OF(it, struct link, node)->revokes_n > 0) return true;
    LIST_FOREACH(&CONTAINER_OF(it, struct link, node)->bound, b) {
      if (CONTAINER_OF(b, struct bound, node)->steps > 0) return true;
    }
  }
  return false;
}

/* The far ends read, and say what they like. */
static void settle(const uint8_t *words, size_t n) {
  uint8_t scrap[4096];
  for (int i = 0; i < WAITS_MAX && steps_under_way(); i++) loop_turn(w.worker.loop, 10);
  ASSERT(!steps_under_way());
  for (size_t i = 0; i < w.far_n; i++) {
    (void)!send(w.far[i], words, size_min(n, 64), MSG_NOSIGNAL);
    (void)!recv(w.far[i], scrap, sizeof scrap, 0);
  }
  for (int i = 0; i < TURNS; i++) loop_turn(w.worker.loop, 0);
}

static int unpack(enum carrier_kind kind, const uint8_t *body, size_t n, const int *fds, size_t fds_n) {
  int rc = parcel_worker(&w.relay, kind, body, n) != NULL ? parcel_unpack(&w.worker, kind, body, n, fds, fds_n)
                                                          : ERR_SYNTAX;
  for (size_t i = 0; rc != 0 && i < fds_n; i++) net_close(fds[i]);
  return rc;
}

/* As a frame brings it: as many descriptors as its kind has. */
static void take(enum carrier_kind kind, const uint8_t *body, size_t n) {
  int fds[PARCEL_FDS_MAX];
  size_t fds_n = kind == CARRIER_RAW || kind == CARRIER_STREAM ? 2 : 1;
  if (w.far_n + fds_n > FAR_MAX) return;
  for (size_t i = 0; i < fds_n; i++) fds[i] = given();
  (void)!unpack(kind, body, n, fds, fds_n);
}

/* What was whole is whole again; it may have lost what it leans on. */
static void move_all(void) {
  static const enum carrier_kind order[] = {CARRIER_LINK,    CARRIER_WARM,  CARRIER_RAW,
                                            CARRIER_VISITOR, CARRIER_STRAY, CARRIER_STREAM};
  struct list parcels;
  list_init(&parcels);
  parcels_pack_control(&w.worker, &parcels);
  parcels_pack_streams(&w.worker, &parcels);
  for (size_t k = 0; k < ARRAY_LEN(order); k++) {
    LIST_FOREACH(&parcels, it) {
      struct parcel *p = CONTAINER_OF(it, struct parcel, node);
      if (p->kind != order[k]) continue;
      int rc = unpack(p->kind, buf_data(&p->state), p->state.len, p->fds, p->fds_n);
      ASSERT(rc == 0 || rc == ERR_CLOSED);
      p->fds_n = 0;
    }
  }
  parcels_free(&parcels);
}

/* What the keeper still answers to a link that has moved is undone, too. */
static void end_all(void) {
  strays_close(&w.worker);
  visitor_close_all(&w.worker);
  stream_close_all(&w.worker);
  link_end_all(&w.worker, REFUSE_DRAINING);
  settle(NULL, 0);
  raw_close_all(&w.worker);
  for (int i = 0; i < WAITS_MAX && w.relay.shares.used > 0; i++) loop_turn(w.worker.loop, 10);
  ASSERT(w.relay.shares.used == 0 && w.worker.visitors_n == 0 && list_empty(&w.worker.links));
  ASSERT(w.worker.metrics.links_now + w.worker.metrics.tunnels_now + w.worker.metrics.streams_now == 0);
  while (w.far_n > 0) net_close(w.far[--w.far_n]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct reader r = reader_of(data, size);
  if (!w.open) world_open();
  w.relay.hands_over = true;       /* so that strays are kept */
  while (r.left > 0) {
    enum carrier_kind kind = (enum carrier_kind)read_u8(&r);
    struct reader body = read_vec16(&r);
    if (r.bad) break;
    if (kind >= CARRIER_LINK && kind <= CARRIER_STREAM) take(kind, body.at, body.left);
    else settle(body.at, body.left);
  }
  move_all();
  settle(data, size);
  move_all();
  w.relay.hands_over = false;
  end_all();
  return 0;
}
