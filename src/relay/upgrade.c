/* An upgrade runs from top to bottom in a thread of its own, which may wait, and has workers do what is theirs. The
   hard thing is the commit. Before it we can go on as if nothing had been, because nothing that we gave was taken from
   us; after it we give out nothing any more, whatever becomes of the other. */
#include "relay/upgrade.h"

#include <errno.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "loop/net.h"
#include "relay/carrier.h"
#include "relay/handover.h"
#include "relay/keeper.h"
#include "relay/link.h"
#include "relay/notify.h"
#include "relay/parcel.h"
#include "relay/registry.h"
#include "relay/stray.h"
#include "relay/totals.h"
#include "relay/upgrade_door.h"
#include "relay/worker.h"

enum upgrade_state {
  UPGRADE_IDLE,
  UPGRADE_PREPARES,                /* may be cancelled */
  UPGRADE_COMMITS,                 /* or has */
  UPGRADE_CANCELLED
};

struct asker {                     /* a connection at the door */
  struct upgrade *upgrade;
  struct loop_io io;
  struct loop_timer patience;
  struct loop_deferred deferred;
  int fd;
};

struct upgrade {
  struct relay *relay;
  struct loop *loop;
  struct starter starter;
  struct admin *admin;
  int door_fd;
  struct loop_io door;
  struct asker *asker;             /* one at a time, until he has said what he wants */
  int asked;                       /* whoever is to be answered; -1: nobody */
  unsigned state;                  /* atomic */
  pthread_t thread;
  bool has_thread;
  struct loop_msg turned, served, ended;         /* the thread's words: it has committed, or failed; the new relay
                                                    serves; there is nothing left to do */
  bool has_turned;                 /* the owner's: it has committed */
  sem_t admin_left;
  struct list parcels;             /* what was packed and is not there yet */
  uint64_t moved, lost;
  struct carrier carrier;
  struct handover_hello hello;     /* the new program's */
  int rc, end_rc;                  /* of the upgrade up to the commit; of what came then */
  struct err e;
  struct upgrade_handlers handlers;
};

static unsigned state_of(const struct upgrade *u) { return __atomic_load_n(&u->state, __ATOMIC_ACQUIRE); }

static bool step_to(struct upgrade *u, unsigned from, unsigned to) {
  return __atomic_compare_exchange_n(&u->state, &from, to, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

/* Preparing: the thread's */

static int say(struct upgrade *u, enum carrier_kind kind, const struct writer *w, const int *fds, size_t fds_n) {
  ASSERT(w == NULL || !w->bad);
  if (carrier_send(u->carrier.fd, kind, w != NULL ? w->base : NULL, w != NULL ? w->len : 0, fds, fds_n) == 0) return 0;
  return err_set(&u->e, ERR_CLOSED, "the new program has ended");
}

/* The frame that is due, by a time, in f; what the new program says instead is why it will not. */
static int hear(struct upgrade *u, enum carrier_kind due, uint64_t until_ms, struct carrier_frame *f) {
  int rc;
  do {
    uint64_t look_ms = clock_ms() + UPGRADE_LOOK_MS;
    rc = carrier_receive(&u->carrier, look_ms < until_ms ? look_ms : until_ms, f);
  } while (rc == ERR_TIMEOUT && clock_ms() < until_ms && state_of(u) == UPGRADE_PREPARES);
  if (rc == ERR_TIMEOUT && state_of(u) == UPGRADE_CANCELLED) return err_set(&u->e, rc, "the relay drains");
  if (rc == ERR_TIMEOUT)
    return err_set(&u->e, rc, "the new program was not ready within %d s", UPGRADE_READY_MS / 1000);
  if (rc == ERR_CLOSED) return err_set(&u->e, rc, "the new program has ended");
  if (rc == 0 && f->header.kind == due) return 0;
  if (rc == 0 && f->header.kind == CARRIER_REFUSED)
    rc = err_set(&u->e, ERR_NOT_NOW, "the new program says: %.*s", (int)size_min(f->header.bytes, 400), f->body);
  else rc = err_set(&u->e, ERR_SYNTAX, "the new program does not understand this relay (is it adit?)");
  carrier_frame_free(f);
  return rc;
}

static int hear_hello(struct upgrade *u, uint64_t until_ms) {
  struct carrier_frame f;
  int rc = hear(u, CARRIER_HELLO, until_ms, &f);
  if (rc != 0) return rc;
  rc = handover_hello_decode(reader_of(f.body, f.header.bytes), &u->hello);
  carrier_frame_free(&f);
  u->relay->handover_format = rc == 0 ? handover_format(&u->hello) : 0;
  if (u->relay->handover_format != 0) return 0;
  return err_set(&u->e, ERR_UNSUPPORTED,
                 "the new program (%s) takes over from relays of other versions only (restart the relay instead)",
                 rc == 0 ? u->hello.build : "unknown");
}

static int give_listener(struct upgrade *u, enum handover_role role, const struct addr *at, int fd) {
  uint8_t bytes[256];
  struct writer w = writer_of(bytes, sizeof bytes);
  handover_listener_encode(&w, &(struct handover_listener){.role = role, .at = *at});
  return say(u, CARRIER_LISTENER, &w, &fd, 1);
}

struct giving { struct upgrade *upgrade; int rc; };

/* In the worker's thread, which alone knows which of them are open. */
static void give_listeners(struct worker *w, void *arg) {
  struct giving *g = arg;
  for (size_t i = 0; g->rc == 0 && i < w->listeners_n; i++) {
    const struct listener *l = &w->listeners[i];
    if (l->role != ROLE_AGENTS) g->rc = give_listener(g->upgrade, l->role, l->at, l->fd);
  }
}

static int give(struct upgrade *u) {
  struct relay *r = u->relay;
  uint8_t bytes[64];
  struct writer w = writer_of(bytes, sizeof bytes);
  struct giving g = {.upgrade = u};
  const struct addr nowhere = {.uid = 0};
  int claim = state_claim_descriptor(r->state);
  struct handover_welcome welcome = {
      .format = r->handover_format, .instance = r->instance, .started_ms = r->started_ms};
  handover_welcome_encode(&w, &welcome);
  g.rc = say(u, CARRIER_WELCOME, &w, &claim, 1);
  for (unsigned i = 0; g.rc == 0 && i < r->workers_n; i++) worker_do(&r->workers[i], give_listeners, &g);
  for (size_t i = 0; g.rc == 0 && i < r->agent_doors_n; i++)
    g.rc = give_listener(u, ROLE_AGENTS, &r->options->agent_listens[i], r->agent_doors[i].fd);
  if (g.rc == 0 && u->door_fd >= 0) g.rc = give_listener(u, ROLE_UPGRADE_DOOR, &nowhere, u->door_fd);
  if (g.rc == 0 && u->admin != NULL) {
    struct addr at = r->options->admin;
    addr_set_port(&at, admin_port(u->admin));
    g.rc = give_listener(u, ROLE_ADMIN, &at, admin_descriptor(u->admin));
  }
  return g.rc == 0 ? say(u, CARRIER_GIVEN, NULL, NULL, 0) : g.rc;
}

static int start(struct upgrade *u) {
  int fds[2];
  if (carrier_pair(fds) != 0) return err_set_errno(&u->e, "upgrade");
  carrier_init(&u->carrier, fds[0]);
  int rc = starter_start(&u->starter, fds[1], u->asked, &u->e);
  net_close(fds[1]);               /* so that the program's end is ours to see */
  return rc;
}

static int prepare(struct upgrade *u) {
  uint64_t until_ms = clock_ms() + UPGRADE_READY_MS;
  struct carrier_frame f;
  if (getpid() == 1)
    return err_set(&u->e, ERR_UNSUPPORTED,
                   "this relay is process 1, whose end is that of its container (give that an init, as with docker run "
                   "--init)");
  int rc = start(u);
  if (rc == 0) rc = hear_hello(u, until_ms);
  if (rc == 0) rc = give(u);
  if (rc == 0) rc = hear(u, CARRIER_READY, until_ms, &f);
  if (rc == 0) carrier_frame_free(&f);
  if (rc == 0 && !step_to(u, UPGRADE_PREPARES, UPGRADE_COMMITS))
    rc = err_set(&u->e, ERR_CLOSED, "the relay drains");
  return rc;
}

/* Committing */

static void pause_doors(struct worker *w, void *arg) {
  (void)arg;
  worker_rest_listeners(w, true);
}

/* What came meanwhile goes on here. */
static void go_on(struct worker *w, void *arg) {
  (void)arg;
  links_go_on(w);
  strays_come_home(w);
  worker_rest_listeners(w, false);
}

static void pack_control(struct worker *w, void *arg) { parcels_pack_control(w, arg); }

static void pack_streams(struct worker *w, void *arg) { parcels_pack_streams(w, arg); }

static void with_all(struct upgrade *u, void (*act)(struct worker *w, void *arg)) {
  for (unsigned i = 0; i < u->relay->workers_n; i++) worker_do(&u->relay->workers[i], act, &u->parcels);
}

static void set_hands_over(struct upgrade *u, bool hands_over) {
  __atomic_store_n(&u->relay->hands_over, hands_over, __ATOMIC_RELAXED);
}

/* The order in which parcels are unpacked, by the new relay or, when it has refused them, here again: a warm connection
   needs its link, a visitor his tunnel. All of one kind are in before the next begins. */
static const enum carrier_kind order[] = {CARRIER_LINK,    CARRIER_WARM,  CARRIER_RAW,
                                          CARRIER_VISITOR, CARRIER_STRAY, CARRIER_STREAM};

static void unpack_here(struct worker *w, void *arg) {
  struct parcel *p = arg;
  if (parcel_unpack(w, p->kind, buf_data(&p->state), p->state.len, p->fds, p->fds_n) == 0) p->fds_n = 0;
}

static void unpack_all(struct upgrade *u) {
  for (size_t k = 0; k < ARRAY_LEN(order); k++) {
    LIST_FOREACH(&u->parcels, it) {
      struct parcel *p = CONTAINER_OF(it, struct parcel, node);
      struct worker *w = parcel_worker(u->relay, p->kind, buf_data(&p->state), p->state.len);
      if (p->kind == order[k] && w != NULL) worker_do(w, unpack_here, p);
    }
  }
  parcels_free(&u->parcels);
}

static int await_taken(struct upgrade *u) {
  struct carrier_frame f;
  struct handover_taken t;
  int rc = carrier_receive(&u->carrier, clock_ms() + UPGRADE_STEP_MS, &f);
  if (rc != 0) return rc;
  rc = f.header.kind == CARRIER_TAKEN ? handover_taken_decode(reader_of(f.body, f.header.bytes), &t) : ERR_SYNTAX;
  carrier_frame_free(&f);
  if (rc != 0) return rc;
  u->moved += t.kind != CARRIER_SERVE;
  u->lost += t.lost;
  return 0;
}

/* All parcels of one kind; waits until the new relay has taken them. The next batch of streams is packed only then, so
   a stream stands still for the time of one batch, and not for that of all. */
static int send_kind(struct upgrade *u, enum carrier_kind kind) {
  size_t sent = 0;
  int rc = 0;
  LIST_FOREACH(&u->parcels, it) {
    struct parcel *p = CONTAINER_OF(it, struct parcel, node);
    if (p->kind != kind || rc != 0) continue;
    rc = carrier_send(u->carrier.fd, kind, buf_data(&p->state), p->state.len, p->fds, p->fds_n);
    list_remove(&p->node);
    parcel_free(p);
    sent++;
  }
  while (rc == 0 && sent-- > 0) rc = await_taken(u);
  return rc;
}

static int send_parcels(struct upgrade *u) {
  int rc = 0;
  for (size_t k = 0; rc == 0 && k < ARRAY_LEN(order); k++) rc = send_kind(u, order[k]);
  return rc;
}

/* systemd takes MAINPID from the main process only, so it is the old one who names the new. By now the new one is a
   child of systemd, as a main process should be. */
static void tell_systemd(const struct upgrade *u) {
  char text[64];
  (void)snprintf(text, sizeof text, "MAINPID=%u", (unsigned)u->hello.pid);
  notify_systemd(text);
}

/* COMMIT is said when everything is packed and nothing is written any more. If the other dies behind it, the relay has
   died. */
static int commit(struct upgrade *u) {
  uint8_t bytes[8];
  struct writer w = writer_of(bytes, sizeof bytes);
  with_all(u, pause_doors);
  keeper_rest(u->relay->keeper);
  set_hands_over(u, true);
  with_all(u, pack_control);
  handover_commit_encode(&w, &(struct handover_commit){.serial = registry_serial(u->relay->registry)});
  int rc = say(u, CARRIER_COMMIT, &w, NULL, 0);
  if (rc != 0) {
    unpack_all(u);
    keeper_go_on(u->relay->keeper);
    set_hands_over(u, false);
    with_all(u, go_on);
    return rc;
  }
  keeper_leave(u->relay->keeper);
  starter_let_go(&u->starter);
  tell_systemd(u);
  return 0;
}

/* Handing over */

static void look_for_more(struct worker *w, void *arg) {
  bool *more = arg;
  *more = *more || parcels_are_left(w);
}

static bool more_is_left(struct upgrade *u) {
  bool more = false;
  for (unsigned i = 0; i < u->relay->workers_n; i++) worker_do(&u->relay->workers[i], look_for_more, &more);
  return more;
}

/* One batch of each worker. */
static int send_streams(struct upgrade *u, bool *any) {
  int rc = 0;
  *any = false;
  for (unsigned i = 0; rc == 0 && i < u->relay->workers_n; i++) {
    worker_do(&u->relay->workers[i], pack_streams, &u->parcels);
    *any = *any || !list_empty(&u->parcels);
    rc = send_kind(u, CARRIER_STREAM);
  }
  return rc;
}

/* Who is in a handshake, or waits for something, moves when he is through; most are at once. */
static int send_the_last(struct upgrade *u) {
  const struct timespec pause = {.tv_nsec = UPGRADE_EVERY_MS * 1000000L};
  uint64_t until_ms = clock_ms() + UPGRADE_LAST_MS;
  int rc = 0;
  while (rc == 0 && more_is_left(u) && clock_ms() < until_ms) {
    bool any;
    with_all(u, pack_control);
    rc = send_parcels(u);
    if (rc == 0) rc = send_streams(u, &any);
    if (rc == 0 && !any) (void)nanosleep(&pause, NULL);
  }
  return rc;
}

/* Without them the new relay counts from now on. */
static int send_totals(struct upgrade *u, struct buf *state) {
  int rc = totals_export(u->relay, state);
  if (rc == 0) rc = carrier_send(u->carrier.fd, CARRIER_TOTALS, buf_data(state), state->len, NULL, 0);
  else log_event(LOG_ERROR, "totals_not_handed_over", "error", err_name(rc), NULL);
  return rc == ERR_CLOSED ? rc : 0;
}

/* Since `told` was sent. By then the admin port has answered its last. */
static int send_more_totals(struct upgrade *u, struct buf *told) {
  while (sem_wait(&u->admin_left) != 0) continue;
  if (told->len > 0) totals_forget(u->relay, buf_data(told), told->len);
  buf_cut(told, 0);
  return send_totals(u, told);
}

/* Counters go twice, so that no reader of /metrics sees one go back: before the new relay serves, and at the end, what
   was counted here in between. */
static int hand_over(struct upgrade *u) {
  struct buf told;
  buf_init(&told, TOTALS_EXPORT_MAX_BYTES);
  int rc = send_parcels(u);
  if (rc == 0) rc = send_totals(u, &told);
  if (rc == 0) rc = say(u, CARRIER_SERVE, NULL, NULL, 0);
  if (rc == 0) rc = await_taken(u);
  if (rc == 0) loop_post(u->loop, &u->served);
  for (bool any = true; rc == 0 && any;) rc = send_streams(u, &any);
  if (rc == 0) rc = send_the_last(u);
  if (rc == 0) rc = send_more_totals(u, &told);
  if (rc == 0) rc = say(u, CARRIER_END, NULL, NULL, 0);
  buf_free(&told);
  return rc;
}

static void turned_here(struct loop *l, struct loop_msg *m);
static void served_here(struct loop *l, struct loop_msg *m);
static void ended_here(struct loop *l, struct loop_msg *m);

static void *upgrade_main(void *arg) {
  struct upgrade *u = arg;
  notify_systemd("RELOADING=1");
  u->rc = prepare(u);
  if (u->rc == 0) u->rc = commit(u);
  bool committed = u->rc == 0;
  if (committed) admin_close_door(u->admin);     /* before the owner frees it */
  u->turned.fn = turned_here;
  loop_post(u->loop, &u->turned);
  if (!committed) return NULL;
  u->served.fn = served_here;
  u->end_rc = hand_over(u);
  set_hands_over(u, false);
  u->ended.fn = ended_here;
  loop_post(u->loop, &u->ended);
  return NULL;
}

/* Before and after: the owner's thread */

static void answer(struct upgrade *u, const char *error) {
  upgrade_door_answer(u->asked, error);
  net_close(u->asked);
  u->asked = -1;
}

static void fail(struct upgrade *u) {
  char how[STARTER_HOW_CAP];
  carrier_close(&u->carrier);
  starter_kill(&u->starter, how);
  if (how[0] != '\0' && u->e.code == ERR_CLOSED) (void)err_set(&u->e, ERR_CLOSED, "the new program has ended: %s", how);
  log_event(LOG_ERROR, "upgrade_failed", "error", u->e.text, "effect", "this relay goes on", NULL);
  notify_systemd("READY=1");
  answer(u, u->e.text);
  (void)step_to(u, UPGRADE_PREPARES, UPGRADE_IDLE);
}

static void close_door(struct upgrade *u) {
  loop_io_del(&u->door);
  net_close(u->door_fd);
  u->door_fd = -1;
}

static void turned_here(struct loop *l, struct loop_msg *m) {
  struct upgrade *u = CONTAINER_OF(m, struct upgrade, turned);
  if (l == NULL) return;
  if (u->rc != 0) {
    (void)pthread_join(u->thread, NULL);
    u->has_thread = false;
    fail(u);
    return;
  }
  u->has_turned = true;
  log_event(LOG_INFO, "upgraded", "to_process", LOG_U64(u->hello.pid), "version", u->hello.build,
            "format", LOG_U64(u->relay->handover_format), NULL);
  close_door(u);
  u->handlers.committed(u->handlers.user);
  (void)sem_post(&u->admin_left);
}

static void served_here(struct loop *l, struct loop_msg *m) {
  if (l != NULL) answer(CONTAINER_OF(m, struct upgrade, served), NULL);
}

static void ended_here(struct loop *l, struct loop_msg *m) {
  struct upgrade *u = CONTAINER_OF(m, struct upgrade, ended);
  (void)pthread_join(u->thread, NULL);
  u->has_thread = false;
  if (l == NULL) return;
  log_event(u->end_rc == 0 ? LOG_INFO : LOG_ERROR, u->end_rc == 0 ? "handed_over" : "new_relay_lost", "moved",
            LOG_U64(u->moved), "lost", LOG_U64(u->lost), NULL);
  answer(u, u->end_rc == 0 ? NULL : "the new program has taken over and ended (start the relay again)");
  u->handlers.handed_over(u->handlers.user, u->end_rc == 0);
}

static void begin(struct upgrade *u) {
  u->e = (struct err){.code = 0};
  if (!step_to(u, UPGRADE_IDLE, UPGRADE_PREPARES)) {
    log_event(LOG_WARN, "upgrade_refused", "reason", "another one is under way", NULL);
    answer(u, "another one is under way, or the relay drains");
    return;
  }
  log_event(LOG_INFO, "upgrading", NULL);
  errno = pthread_create(&u->thread, NULL, upgrade_main, u);
  u->has_thread = errno == 0;
  if (u->has_thread) return;
  (void)err_set_errno(&u->e, "cannot start a thread");
  fail(u);
}

void upgrade_request(struct upgrade *u) {
  if (u != NULL) begin(u);
}

void upgrade_pass_signal(struct upgrade *u, int number) {
  if (u->has_turned) (void)kill((pid_t)u->hello.pid, number);
}

/* The door */

static void asker_free(struct loop_deferred *d) { free(CONTAINER_OF(d, struct asker, deferred)); }

static void asker_leave(struct asker *a) {
  struct upgrade *u = a->upgrade;
  loop_timer_stop(&a->patience);
  loop_io_del(&a->io);
  u->asker = NULL;
  loop_defer(u->loop, &a->deferred, asker_free);
  if (u->door.loop != NULL) loop_io_set(&u->door, EPOLLIN);
}

static void asker_silent(struct loop_timer *t) {
  struct asker *a = CONTAINER_OF(t, struct asker, patience);
  net_close(a->fd);
  asker_leave(a);
}

/* His request is there; the starter is to read it. */
static void asker_ready(struct loop_io *io, uint32_t events) {
  struct asker *a = CONTAINER_OF(io, struct asker, io);
  struct upgrade *u = a->upgrade;
  int fd = a->fd;
  (void)events;
  asker_leave(a);
  if (u->asked >= 0) {
    upgrade_door_answer(fd, "another one is under way");
    net_close(fd);
    return;
  }
  u->asked = fd;
  begin(u);
}

static void door_ready(struct loop_io *io, uint32_t events) {
  struct upgrade *u = CONTAINER_OF(io, struct upgrade, door);
  struct addr peer;
  (void)events;
  int fd = net_accept(u->door_fd, &peer);
  struct asker *a = fd >= 0 ? calloc(1, sizeof *a) : NULL;
  if (a == NULL) {
    net_close(fd);
    return;
  }
  *a = (struct asker){.upgrade = u, .fd = fd};
  u->asker = a;
  loop_io_set(&u->door, 0);        /* the next one's turn comes when this one is through */
  if (loop_io_add(u->loop, &a->io, fd, EPOLLIN, asker_ready) == 0 &&
      loop_timer_set(u->loop, &a->patience, UPGRADE_STEP_MS, asker_silent) == 0)
    return;
  net_close(fd);
  asker_leave(a);
}

/* Life */

int upgrade_new(struct relay *r, struct loop *l, struct starter starter, int door_fd,
                const struct upgrade_handlers *handlers, struct upgrade **out, struct err *e) {
  struct upgrade *u = calloc(1, sizeof *u);
  if (u == NULL) return err_set(e, ERR_NOMEM, "upgrade: out of memory");
  *u = (struct upgrade){.relay = r,
                        .loop = l,
                        .starter = starter,
                        .door_fd = door_fd,
                        .asked = -1,
                        .carrier = {.fd = -1},
                        .handlers = *handlers};
  list_init(&u->parcels);
  (void)sem_init(&u->admin_left, 0, 0);
  if (door_fd >= 0 && loop_io_add(l, &u->door, door_fd, EPOLLIN, door_ready) != 0) {
    free(u);
    return err_set(e, ERR_NOMEM, "upgrade: out of memory");
  }
  *out = u;
  return 0;
}

void upgrade_set_admin(struct upgrade *u, struct admin *a) {
  if (u != NULL) u->admin = a;
}

bool upgrade_cancel(struct upgrade *u) {
  if (u != NULL && u->has_turned && !u->has_thread) return true;   /* the other has died */
  return u == NULL || step_to(u, UPGRADE_PREPARES, UPGRADE_CANCELLED) || step_to(u, UPGRADE_IDLE, UPGRADE_CANCELLED) ||
         state_of(u) != UPGRADE_COMMITS;
}

void upgrade_free(struct upgrade *u) {
  if (u == NULL) return;
  while (u->has_thread) (void)loop_turn(u->loop, -1);      /* its last word is a message, which is part of us */
  if (u->asker != NULL) asker_silent(&u->asker->patience);
  answer(u, "the relay has ended");
  close_door(u);
  parcels_free(&u->parcels);
  carrier_close(&u->carrier);
  starter_end(&u->starter);
  (void)sem_destroy(&u->admin_left);
  free(u);
}
