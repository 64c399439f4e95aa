/* A moved stream of any bytes: what is taken for one runs, moves on, and ends, whatever its far ends do; what is not
   takes nothing. */
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "loop/net.h"
#include "pump/flow.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { TURNS = 8 };

struct world {
  struct loop *loop;
  struct pump_pool *pool;
  struct pump *pump;
  struct pump_params params;
  int far[2];
};

static void ended(struct pump *p, void *user, enum close_reason why, uint64_t to_peer, uint64_t to_wire) {
  struct world *w = user;
  (void)p, (void)why, (void)to_peer, (void)to_wire;
  ASSERT(w->pump != NULL);
  w->pump = NULL;
}

static void pair(int *ours, int *far) {
  int fds[2];
  int rc = socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds);
  ASSERT(rc == 0);
  *ours = fds[0];
  *far = fds[1];
}

static void move(struct world *w) {
  struct buf state;
  int wire, peer;
  buf_init(&state, PUMP_EXPORT_MAX_BYTES);
  int rc = pump_export(w->pump, &state, &wire, &peer);
  ASSERT(rc == 0 && wire == w->params.wire.fd && peer == w->params.peer_fd);
  rc = pump_import(w->pool, &w->params, buf_data(&state), state.len, &w->pump);
  ASSERT(rc == 0);
  buf_free(&state);
}

/* The far ends say what the state says, which is no worse than anything else. */
static void live(struct world *w, const uint8_t *data, size_t size) {
  uint8_t scrap[4096];
  for (int i = 0; i < TURNS && w->pump != NULL; i++) {
    if (i == 2) move(w);
    if (i == 3 && size > 0) (void)!send(w->far[0], data, size_min(size, 64), MSG_NOSIGNAL);
    if (i == 4 && size > 0) (void)!send(w->far[1], data, size_min(size, 64), MSG_NOSIGNAL);
    if (i == 5) (void)shutdown(w->far[size % 2], SHUT_WR);
    if (i == 6 && size % 3 == 0 && w->pump != NULL) pump_stop(w->pump, CLOSE_LOCAL);
    while (recv(w->far[i % 2], scrap, sizeof scrap, 0) > 0) continue;
    loop_turn(w->loop, 0);
  }
  if (w->pump != NULL) pump_abort(w->pump, CLOSE_LOCAL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct world w = {0};
  struct err e = {0};
  size_t cut = size > 0 ? size - 1 : 0;
  w.loop = loop_new(&e);
  w.pool = w.loop != NULL ? pump_pool_new(w.loop, size > 0 && data[cut] % 2 == 0 ? PUMP_SPLICE : PUMP_COPY, &e) : NULL;
  ASSERT(w.pool != NULL);
  pair(&w.params.wire.fd, &w.far[0]);
  pair(&w.params.peer_fd, &w.far[1]);
  w.params.on_end = ended;
  w.params.user = &w;
  struct rate rate = rate_within(1000000, NULL);
  if (size > 0 && data[cut] % 3 == 0) w.params.rate = &rate;
  if (pump_import(w.pool, &w.params, data, cut, &w.pump) == 0) {
    live(&w, data, cut);
  } else {
    ASSERT(w.pump == NULL && pump_pool_stats(w.pool)->buffers == 0);
    net_close(w.params.wire.fd);
    net_close(w.params.peer_fd);
  }
  net_close(w.far[0]);
  net_close(w.far[1]);
  pump_pool_free(w.pool);
  loop_free(w.loop);
  return 0;
}
