/* A relay's control link, warm connection, visitor or raw port of any bytes, by the first of them: what is taken for
   one lives, moves on and ends; what is not takes nothing. The relay with its keeper stays from one input to the
   next. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "loop/net.h"
#include "relay/bind.h"
#include "relay/control.h"
#include "relay/keeper.h"
#include "relay/raw.h"
#include "relay/sources.h"
#include "relay/visitor.h"
#include "relay/warm.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { TURNS = 3, WAITS_MAX = 1000 };

static struct world {
  struct relay relay;
  struct relay_options options;
  struct worker worker;
  char dir[32];
  bool open;
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
      .domain = "r.test", .tcp_port_from = 23500, .tcp_port_to = 23599, .plain_allowed = true};
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

static bool steps_under_way(void) {
  LIST_FOREACH(&w.worker.links, it) {
    LIST_FOREACH(&CONTAINER_OF(it, struct link, node)->bound, b) {
      if (CONTAINER_OF(b, struct bound, node)->steps > 0) return true;
    }
  }
  return false;
}

/* What the keeper still answers to a link that has moved is undone. */
static void all_gone(void) {
  for (int i = 0; i < WAITS_MAX && w.relay.shares.used > 0; i++) loop_turn(w.worker.loop, 10);
}

static void settle(void) {
  for (int i = 0; i < WAITS_MAX && steps_under_way(); i++) loop_turn(w.worker.loop, 10);
  ASSERT(!steps_under_way());
  for (int i = 0; i < TURNS; i++) loop_turn(w.worker.loop, 0);
}

/* With its ports, of which nobody leads anywhere while it is gone. */
static void move(void) {
  struct buf state, port;
  int fd = -1, fds[RAW_FAMILIES];
  size_t n = 0;
  if (list_empty(&w.worker.links)) return;
  struct link *l = CONTAINER_OF(w.worker.links.next, struct link, node);
  buf_init(&port, RAW_EXPORT_MAX_BYTES);
  bool has_port = raw_export(&w.worker, &port, fds, &n) == 0;
  buf_init(&state, CONTROL_EXPORT_MAX_BYTES);
  int rc = control_export(l, &state, &fd);
  if (rc == 0) rc = control_import(&w.worker, buf_data(&state), state.len, fd);
  ASSERT(rc == 0 || (rc == ERR_CLOSED && fd < 0));
  rc = has_port ? raw_import(&w.worker, buf_data(&port), port.len, fds, n) : 0;
  for (size_t i = 0; rc != 0 && i < n; i++) net_close(fds[i]);
  buf_free(&state);
  buf_free(&port);
}

static void one_link(const uint8_t *data, size_t size, int fd, int far) {
  if (control_import(&w.worker, data, size, fd) != 0) {
    ASSERT(list_empty(&w.worker.links));
    net_close(fd);
    return;
  }
  settle();
  move();
  (void)!send(far, data, size_min(size, 64), MSG_NOSIGNAL);
  settle();
  link_end_all(&w.worker, REFUSE_DRAINING);
  settle();
  all_gone();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  int fds[2];
  if (!w.open) world_open();
  if (size == 0) return 0;
  int rc = socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds);
  ASSERT(rc == 0);
  uint8_t kind = data[0];
  data++;
  size--;
  if (kind == 'l') {
    one_link(data, size, fds[0], fds[1]);
  } else {
    rc = kind == 'w'   ? warm_import(&w.worker, data, size, fds[0])
         : kind == 'v' ? visitor_import(&w.worker, data, size, fds[0])
                       : raw_import(&w.worker, data, size, fds, 1);
    ASSERT(rc != 0);               /* it is nobody's */
    (void)raw_import_at(&w.relay, data, size);
    net_close(fds[0]);
  }
  net_close(fds[1]);
  ASSERT(w.relay.shares.used == 0 && list_empty(&w.worker.links));
  ASSERT(w.worker.metrics.links_now + w.worker.metrics.tunnels_now == 0);
  return 0;
}
