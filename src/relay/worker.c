/* Workers: their threads, listeners, and what is done to all of a worker's connections at once. */
#include "relay/worker.h"

#include <errno.h>
#include <signal.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>

#include "base/shortage.h"
#include "loop/net.h"
#include "relay/door.h"
#include "relay/key_process.h"
#include "relay/heir.h"
#include "relay/link.h"
#include "relay/raw.h"
#include "relay/signer.h"
#include "relay/stray.h"
#include "relay/stream.h"
#include "relay/visitor.h"
#include "relay/wrapped.h"

enum { LISTENER_PAUSE_MS = 100, ACCEPTS_PER_TURN_MAX = 64, CROWD_MS = 5 };

/* Listeners */

static void listener_resume(struct loop_timer *t) {
  struct listener *l = CONTAINER_OF(t, struct listener, resume);
  loop_io_set(&l->io, EPOLLIN);
}

/* Out of descriptors or memory: this listener rests and everything else goes on, instead of spinning on accept. */
static void listener_pause(struct listener *l) {
  METRIC_ADD(&l->worker->metrics, connections_paused_total, 1);
  loop_io_set(&l->io, 0);
  if (loop_timer_set(l->worker->loop, &l->resume, LISTENER_PAUSE_MS, listener_resume) != 0)
    loop_io_set(&l->io, EPOLLIN);
}

/* How many to accept in this turn: 1 as a rule, which spares the accept that finds nothing; and twice as many as in the
   turn before, up to ACCEPTS_PER_TURN_MAX, while turns follow each other within CROWD_MS. */
static void listener_count_turn(struct listener *l) {
  uint64_t now_ms = loop_now_ms(l->worker->loop);
  bool crowd = now_ms - l->turn_ms <= CROWD_MS && l->accepts > 0;
  l->accepts = crowd ? (unsigned)size_min(l->accepts * 2, ACCEPTS_PER_TURN_MAX) : 1;
  l->turn_ms = now_ms;
}

static void listener_ready(struct loop_io *io, uint32_t events) {
  struct listener *l = CONTAINER_OF(io, struct listener, io);
  if (events & EPOLLERR) {         /* for want of memory it is not waited for */
    listener_pause(l);
    return;
  }
  listener_count_turn(l);
  for (unsigned i = 0; i < l->accepts; i++) {
    struct addr peer;
    int fd = net_accept(l->fd, &peer);
    if (fd == NET_RESET) continue;
    if (fd == ERR_LIMIT) {
      listener_pause(l);
      return;
    }
    if (fd < 0) {
      l->accepts = 0;
      return;
    }
    METRIC_ADD(&l->worker->metrics, connections_accepted_total, 1);
    l->accepted(l, fd, &peer);
    if (l->io.loop == NULL) return;  /* the callback removed us */
    if (!loop_late_may_go_on(l->worker->loop)) return;
  }
}

int listener_add(struct listener *l, struct worker *w, int fd,
                 void (*accepted)(struct listener *, int, const struct addr *)) {
  memset(l, 0, sizeof *l);
  l->worker = w;
  l->fd = fd;
  l->accepted = accepted;
  return loop_io_add_late(w->loop, &l->io, fd, EPOLLIN, listener_ready);
}

int listener_let_go(struct listener *l) {
  if (l->worker == NULL) return -1;
  loop_timer_stop(&l->resume);
  loop_io_del(&l->io);
  l->worker = NULL;
  return l->fd;
}

void listener_remove(struct listener *l) { net_close(listener_let_go(l)); }

static void public_accepted(struct listener *l, int fd, const struct addr *peer) { door_open(l->worker, fd, peer); }

static void redirect_accepted(struct listener *l, int fd, const struct addr *peer) {
  door_open_redirect(l->worker, fd, peer);
}

static int worker_listen_on(struct worker *w, int fd, enum handover_role role, const struct addr *at, struct err *e) {
  if (fd < 0) return fd;
  struct listener *l = &w->listeners[w->listeners_n];
  if (listener_add(l, w, fd, role == ROLE_REDIRECT ? redirect_accepted : public_accepted) != 0) {
    int rc = err_set_errno(e, "relay: cannot wait for connections");
    net_close(fd);
    return rc;
  }
  loop_io_set(&l->io, 0);
  l->role = role;
  l->at = at;
  w->listeners_n++;
  return 0;
}

static int listen_anew(const struct addr *at, struct err *e) {
  int fd = net_listen_streams(at, LISTEN_BACKLOG, true, e);
  if (fd >= 0) net_accept_when_heard(fd);
  return fd;
}

/* After an upgrade, at the sockets that are there: connections wait in each of them, also where the workers are fewer
   now. */
static int worker_listen_at(struct worker *w, enum handover_role role, const struct addr *at, size_t n,
                            struct err *e) {
  struct relay *r = w->relay;
  unsigned number = (unsigned)(w - r->workers);
  int rc = 0, fd;
  for (size_t i = 0; rc == 0 && i < n; i++) {
    size_t before = w->listeners_n;
    while (rc == 0 && (fd = heir_listener(r->heir, role, &at[i], number, r->workers_n)) >= 0)
      rc = worker_listen_on(w, fd, role, &at[i], e);
    if (rc == 0 && w->listeners_n == before)
      rc = worker_listen_on(w, listen_anew(&at[i], e), role, &at[i], e);
  }
  return rc;
}

static int worker_share_agent_doors(struct worker *w, struct err *e) {
  const struct relay *r = w->relay;
  int rc = 0;
  for (size_t i = 0; rc == 0 && i < r->agent_doors_n; i++)
    rc = worker_listen_on(w, net_share(r->agent_doors[i].fd, e), ROLE_AGENTS, &r->options->agent_listens[i], e);
  return rc;
}

static int worker_listen(struct worker *w, struct err *e) {
  struct relay *r = w->relay;
  const struct relay_options *o = r->options;
  w->listeners_cap = o->listens_n + o->redirects_n + r->agent_doors_n + heir_listeners(r->heir);
  w->listeners = calloc(w->listeners_cap, sizeof *w->listeners);
  if (w->listeners == NULL) return err_set(e, ERR_NOMEM, "relay: out of memory");
  int rc = worker_listen_at(w, ROLE_PUBLIC, o->listens, o->listens_n, e);
  if (rc == 0) rc = worker_listen_at(w, ROLE_REDIRECT, o->redirects, o->redirects_n, e);
  return rc != 0 ? rc : worker_share_agent_doors(w, e);
}

/* Orders */

static void worker_close_listeners(struct worker *w) {
  for (size_t i = 0; i < w->listeners_n; i++) listener_remove(&w->listeners[i]);
  w->listeners_n = 0;
}

void worker_rest_listeners(struct worker *w, bool rest) {
  for (size_t i = 0; i < w->listeners_n; i++) {
    struct listener *l = &w->listeners[i];
    loop_timer_stop(&l->resume);
    loop_io_set(&l->io, rest ? 0 : EPOLLIN);
  }
}

static void act_open_doors(struct worker *w) { worker_rest_listeners(w, false); }

static void act_close_doors(struct worker *w) {
  worker_close_listeners(w);
  raw_close_all(w);
  __atomic_store_n(&w->accepting, false, __ATOMIC_RELEASE);
}

static void act_end_owners(struct worker *w) {
  link_end_owners(w);
  visitor_end_owners(w);
  stream_end_owners(w);
}

static void act_goodbye(struct worker *w) { link_end_all(w, REFUSE_DRAINING); }

static void act_stop(struct worker *w) {
  act_close_doors(w);
  door_close_all(w);
  wrapped_close_all(w);
  strays_close(w);
  visitor_close_all(w);
  link_end_all(w, REFUSE_DRAINING);
  stream_close_all(w);
  loop_stop(w->loop);
}

static void orders_run(struct loop *l, struct loop_msg *m) {
  static void (*const act[WORKER_ORDERS])(struct worker *) = {
      [ORDER_OPEN_DOORS] = act_open_doors,
      [ORDER_CLOSE_DOORS] = act_close_doors,
      [ORDER_END_OWNERS] = act_end_owners,
      [ORDER_GOODBYE] = act_goodbye,
      [ORDER_STOP] = act_stop};
  struct worker *w = CONTAINER_OF(m, struct worker, order_msg);
  unsigned orders = __atomic_exchange_n(&w->orders, 0, __ATOMIC_ACQ_REL);
  for (int i = 0; l != NULL && i < WORKER_ORDERS; i++) {
    if ((orders & 1U << i) != 0) act[i](w);
  }
}

void worker_order(struct worker *w, enum worker_order order) {
  if (__atomic_fetch_or(&w->orders, 1U << order, __ATOMIC_ACQ_REL) != 0) return;  /* the message is on its way */
  w->order_msg.fn = orders_run;
  loop_post(w->loop, &w->order_msg);
}

struct errand {
  struct loop_msg msg;
  struct worker *worker;
  void (*act)(struct worker *w, void *arg);
  void *arg;
  sem_t done;
};

static void errand_run(struct loop *l, struct loop_msg *m) {
  struct errand *e = CONTAINER_OF(m, struct errand, msg);
  if (l != NULL) e->act(e->worker, e->arg);
  (void)sem_post(&e->done);
}

void worker_do(struct worker *w, void (*act)(struct worker *w, void *arg), void *arg) {
  struct errand e = {.msg.fn = errand_run, .worker = w, .act = act, .arg = arg};
  if (!w->running) {
    act(w, arg);
    return;
  }
  (void)sem_init(&e.done, 0, 0);
  loop_post(w->loop, &e.msg);
  while (sem_wait(&e.done) != 0) continue;
  (void)sem_destroy(&e.done);
}

/* Life */

static void *worker_main(void *arg) {
  struct worker *w = arg;
  key_process_use((unsigned)(w - w->relay->workers), w->signer);
  shortage_listen(warning_shortage, &w->relay->warnings);
  loop_run(w->loop);
  return NULL;
}

static void worker_release(struct worker *w) {
  worker_close_listeners(w);
  free(w->listeners);
  signer_free(w->signer);
  newcomers_free(w->newcomers);
  if (w->pool != NULL) pump_pool_free(w->pool);
  if (w->loop != NULL) loop_free(w->loop);
  map_free(w->links_by_id);
  map_free(w->raw_ports);
}

static int worker_make(struct worker *w, struct err *e) {
  unsigned number = (unsigned)(w - w->relay->workers);
  w->loop = loop_new(e);
  if (w->loop == NULL) return ERR_NOMEM;
  w->pool = pump_pool_new(w->loop, w->relay->options->pump, e);
  if (w->pool == NULL) return ERR_NOMEM;
  pump_pool_limit(w->pool, w->relay->division.pipes, w->relay->division.lingers);
  w->newcomers = newcomers_new(w->loop, w->relay->sources, &w->metrics, w->relay->newcomers_bytes_max,
                               w->relay->division.strangers, w->relay->workers_n);
  if (w->relay->keys != NULL && (w->signer = signer_new(w, key_process_signing_fd(w->relay->keys, number))) == NULL)
    return err_set(e, ERR_NOMEM, "relay: out of memory");
  w->links_by_id = map_new(LINK_ID_BYTES);
  w->raw_ports = map_new(sizeof(uint16_t));
  if (w->newcomers == NULL || w->links_by_id == NULL || w->raw_ports == NULL)
    return err_set(e, ERR_NOMEM, "relay: out of memory");
  return worker_listen(w, e);
}

void worker_free(struct worker *w) {
  if (w->relay != NULL) worker_release(w);
  memset(w, 0, sizeof *w);         /* whoever goes through all workers finds none here, also when it was never opened */
}

int worker_open(struct worker *w, struct relay *r, struct err *e) {
  memset(w, 0, sizeof *w);
  w->relay = r;
  w->accepting = true;
  list_init(&w->doors);
  list_init(&w->wrapped);
  list_init(&w->strays);
  list_init(&w->visitors);
  list_init(&w->streams);
  list_init(&w->links);
  int rc = worker_make(w, e);
  if (rc != 0) worker_free(w);
  return rc;
}

int worker_run(struct worker *w, struct err *e) {
  errno = pthread_create(&w->thread, NULL, worker_main, w);
  if (errno != 0) return err_set_errno(e, "relay: cannot start a thread");
  w->running = true;
  return 0;
}

void worker_wait(struct worker *w) {
  if (!w->running) return;
  (void)pthread_join(w->thread, NULL);
  w->running = false;
}

void worker_settle(struct worker *w) {
  if (w->loop == NULL) return;
  worker_close_listeners(w);       /* of a worker that has never run */
  raw_close_all(w);
  (void)loop_turn(w->loop, 0);
}
