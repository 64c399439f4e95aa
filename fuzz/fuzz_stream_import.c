/* A relay's stream of any bytes: what is taken for one lives, moves on and ends; what is not takes nothing. */
#include <sys/socket.h>
#include <unistd.h>

#include "loop/net.h"
#include "relay/registry.h"
#include "relay/sources.h"
#include "relay/stream.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { TURNS = 4 };

struct world {
  struct relay relay;
  struct relay_options options;
  struct worker worker;
  int wire, peer, far[2];
};

static void pair(int *ours, int *far) {
  int fds[2];
  int rc = socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds);
  ASSERT(rc == 0);
  *ours = fds[0];
  *far = fds[1];
}

static void world_open(struct world *w) {
  struct err e;
  *w = (struct world){.options.domain = "r.test", .relay.workers_n = 1, .relay.shares.total = 1000};
  w->relay.options = &w->options;
  w->relay.workers = &w->worker;
  w->relay.sources = sources_new();
  w->relay.division = (struct division){.strangers = 10, .pipes = 10, .lingers = 10};
  w->relay.newcomers_bytes_max = 1 << 20;
  int rc = registry_new(&w->relay, &w->relay.registry);
  if (rc == 0) rc = worker_open(&w->worker, &w->relay, &e);
  ASSERT(rc == 0 && w->relay.sources != NULL);
  pair(&w->wire, &w->far[0]);
  pair(&w->peer, &w->far[1]);
}

static void world_close(struct world *w) {
  stream_close_all(&w->worker);
  ASSERT(w->relay.shares.used == 0 && w->worker.visitors_n == 0 && w->worker.metrics.streams_now == 0);
  worker_settle(&w->worker);
  worker_free(&w->worker);
  registry_free(w->relay.registry);
  sources_free(w->relay.sources);
  net_close(w->far[0]);
  net_close(w->far[1]);
}

/* May have ended by now. */
static void move(struct world *w) {
  struct stream *s = stream_any(&w->worker);
  struct buf state;
  int wire, peer;
  if (s == NULL) return;
  buf_init(&state, STREAM_EXPORT_MAX_BYTES);
  int rc = stream_export(s, &state, &wire, &peer);
  ASSERT(rc == 0 && wire == w->wire && peer == w->peer);
  rc = stream_import(&w->worker, buf_data(&state), state.len, wire, peer);
  ASSERT(rc == 0);
  buf_free(&state);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct world w;
  uint8_t scrap[4096];
  world_open(&w);
  if (stream_import(&w.worker, data, size, w.wire, w.peer) != 0) {
    ASSERT(stream_any(&w.worker) == NULL);
    net_close(w.wire);
    net_close(w.peer);
  }
  for (int i = 0; i < TURNS && stream_any(&w.worker) != NULL; i++) {
    if (i == 1) move(&w);
    if (size > 0) (void)!send(w.far[i % 2], data, size_min(size, 64), MSG_NOSIGNAL);
    while (recv(w.far[i % 2], scrap, sizeof scrap, 0) > 0) continue;
    loop_turn(w.worker.loop, 0);
  }
  world_close(&w);
  return 0;
}
