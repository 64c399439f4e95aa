/* The keeper's thread. Tunnels have serial numbers, and beside the lease of a port stands that of its holder, since
   requests for one port come from different threads and in any order. Say tunnel 7 is taken over by tunnel 8, of the
   same label and port: 8 asks for the port, and 7 releases it, or has asked for it and is served only now. When 8 holds
   it, what 7 says comes too late: a release by anybody but the holder is void, and so is the request of a tunnel with a
   lower number. */
#include "relay/keeper.h"

#include <errno.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "base/secret.h"
#include "base/shortage.h"
#include "relay/issue.h"
#include "relay/registry.h"
#include "relay/tickets.h"
#include "relay/warning.h"
#include "relay/worker.h"

enum { KEEPER_POLL_MS = 250, CERTIFICATES_POLL_MS = 2000, TICKET_KEYS_POLL_MS = 3600 * 1000 };

enum { NOT_LEASED = -1 };          /* in place of the time at which a lease ends */

struct holder {
  uint64_t serial;                 /* 0: nobody */
  bool on_disk;                    /* its lease is */
  uint8_t owner[TOKEN_ID_BYTES];
  char label[LABEL_CHARS + 1];
};

struct keeper {
  struct relay *relay;
  struct loop *loop;
  pthread_t thread;
  bool runs;
  struct loop_timer revocations, certificates, ticket_keys, sweep;
  int64_t swept_s;                 /* when expired revocations were last looked for; 0: never */
  struct ports *ports;
  struct holder *holders;          /* by port - tcp_port_from */
  uint64_t state_version;
  bool lost;                       /* the state was not where it had been when it was last looked for */
  uint64_t wrote_ms, spell_ms;     /* the last write, and the first of those without a pause */
  struct loop_msg reload, leave, round;
  struct loop_msg rest;
  bool wants_rest;
  sem_t rested;
  bool reload_posted;              /* atomic: `reload` is on its way */
  bool left;                       /* atomic: the state is a successor's */
  bool rests;                      /* its thread's: rounds wait */
  bool stopping;                   /* atomic */
  pthread_mutex_t lock;            /* guards what follows, each for a look-up */
  bool round_posted;
  struct lines *lines;             /* struct port_request that wait */
  struct lines *revokers;          /* struct revoke_request that wait */
  struct list releases;            /* struct release that wait */
};

static struct holder *holder_of(struct keeper *k, uint16_t port) {
  return &k->holders[port - k->relay->options->tcp_port_from];
}

/* Ports are kept by a clock that nobody sets. The wall clock is for what stands on the disk only: when a relay that
   booted with a wrong one gets the right one, no quarantine is over for that. */
static int64_t steady_s(const struct keeper *k) { return (int64_t)(loop_now_ms(k->loop) / 1000); }

static bool port_in_range(const struct keeper *k, uint16_t port) {
  return port >= k->relay->options->tcp_port_from && port <= k->relay->options->tcp_port_to;
}

/* After a round that wrote. Who waits for the state looks for a free moment now and then, so there must be some:
   tenants who ask for ports without end would otherwise keep the operator from revoking their tokens. */
static void leave_the_state_to_others(struct keeper *k) {
  const struct timespec pause = {.tv_nsec = STATE_LEAVE_MS * 1000000L};
  uint64_t now = loop_now_ms(k->loop);
  if (now - k->wrote_ms >= STATE_LEAVE_MS) k->spell_ms = now;    /* there was one */
  k->wrote_ms = now;
  if (now - k->spell_ms < STATE_SPELL_MS) return;
  (void)nanosleep(&pause, NULL);
  k->spell_ms = now;
}

/* Whether the state's folder is still the one that was opened; what is written elsewhere, no successor finds. */
static int look_for_state(struct keeper *k) {
  struct err e;
  int rc = state_check_place(k->relay->state, &e);
  if (rc != 0 && !k->lost) log_event(LOG_ERROR, "state_lost", "error", e.text, "effect", "no raw port is given", NULL);
  if (rc == 0 && k->lost) log_event(LOG_INFO, "state_found", NULL);
  k->lost = rc != 0;
  return rc;
}

/* Rounds: what is asked for meanwhile waits, and is then done as one transaction, because what costs is the commit. */

struct round {
  struct list releases, takes, revokes;
  bool writes;                     /* a transaction is open */
  bool lost;                       /* the state is not where it was */
  int rc;                          /* of its writes so far */
  struct err e;
};

/* Before a write, which begins the transaction if it is the first; false: nothing more is written. */
static bool round_writes(struct keeper *k, struct round *r) {
  if (r->rc == 0 && !r->writes) {
    r->rc = state_begin(k->relay->state, &r->e);
    r->writes = r->rc == 0;
  }
  return r->rc == 0;
}

/* free_at_s 0: held; NOT_LEASED: nobody's. */
static void lease_write(struct keeper *k, struct round *r, uint16_t port, int64_t free_at_s) {
  struct state *s = k->relay->state;
  const struct holder *h = holder_of(k, port);
  struct port_lease lease = {.port = port, .free_at_s = free_at_s};
  memcpy(lease.owner, h->owner, sizeof lease.owner);
  memcpy(lease.label, h->label, sizeof lease.label);
  if (!round_writes(k, r)) return;
  r->rc = free_at_s == NOT_LEASED ? state_lease_drop(s, port, &r->e) : state_lease_put(s, &lease, &r->e);
}

static void round_commit(struct keeper *k, struct round *r) {
  if (r->writes) r->rc = state_finish(k->relay->state, r->rc, &r->e);
  if (r->rc != 0) warning_state(&k->relay->warnings, r->e.text);
  r->lost = list_empty(&r->takes) && list_empty(&r->revokes) ? false : look_for_state(k) != 0;
}

/* Taking */

static void hold(struct keeper *k, struct round *r, const struct port_request *q) {
  struct holder *h = holder_of(k, q->port);
  bool was_held = h->serial != 0;
  h->serial = q->serial;
  memcpy(h->owner, q->owner, sizeof h->owner);
  memcpy(h->label, q->label, sizeof h->label);
  if (was_held) return;            /* taken over: the lease says already what we would write */
  h->on_disk = q->adopts;
  if (!q->adopts) lease_write(k, r, q->port, 0);
}

static int port_take_back(struct keeper *k, const struct port_request *q) {
  if (!port_in_range(k, q->port)) return ERR_CONFLICT;
  const struct holder *h = holder_of(k, q->port);
  if (h->serial == 0)
    return ports_take_back(k->ports, q->port, q->owner, q->label, steady_s(k)) == 0 ? 0 : ERR_CONFLICT;
  if (strcmp(h->label, q->label) != 0 || memcmp(h->owner, q->owner, TOKEN_ID_BYTES) != 0) return ERR_CONFLICT;
  return h->serial <= q->serial ? 0 : ERR_NOT_NOW;         /* the same: it was on its way to another process */
}

static int port_take_new(struct keeper *k, struct port_request *q) {
  size_t own_max = size_max(PORTS_QUARANTINED_PER_OWNER_MIN, 2 * (size_t)q->max_tunnels);
  int rc = ports_take_own(k->ports, q->owner, q->label, own_max, steady_s(k), &q->port);
  if (rc != 0) rc = ports_take(k->ports, q->owner, q->label, steady_s(k), &q->port);
  return rc == 0 ? 0 : ERR_LIMIT;
}

static void take(struct keeper *k, struct round *r, struct port_request *q) {
  q->result = q->port == 0 ? port_take_new(k, q) : port_take_back(k, q);
  if (q->result == 0) hold(k, r, q);
}

static void take_answer(struct loop *l, struct loop_msg *m) {
  struct port_request *q = CONTAINER_OF(m, struct port_request, msg);
  if (l != NULL) q->done(q);
}

static void take_answer_later(struct port_request *q) {
  q->msg.fn = take_answer;
  loop_post(q->from->loop, &q->msg);
}

/* After the commit: a lease that is not on disk is none. */
static void take_end(struct keeper *k, const struct round *r, struct port_request *q) {
  if (q->result == 0 && !q->adopts) {
    struct holder *h = holder_of(k, q->port);
    h->on_disk = (h->on_disk || r->rc == 0) && !r->lost;
    if (!h->on_disk) q->result = ERR_IO;
    if (!h->on_disk && h->serial == q->serial) {
      h->serial = 0;
      ports_release(k->ports, q->port, steady_s(k));
    }
  }
  take_answer_later(q);
}

/* Giving back */

struct release {
  struct list node;
  uint64_t serial;
  uint16_t port;
  enum port_fate fate;
};

/* A lease that cannot be marked stays "held" on disk, which errs on its owner's side. */
static void give_back(struct keeper *k, struct round *r, const struct release *q) {
  /* The port may come from a ticket of times when the range was another. */
  struct holder *h = port_in_range(k, q->port) ? holder_of(k, q->port) : NULL;
  if (h == NULL || h->serial != q->serial) return;
  h->serial = 0;
  if (q->fate == PORT_KEPT) ports_release(k->ports, q->port, steady_s(k));
  else if (q->fate == PORT_FORGOTTEN) ports_forget(k->ports, q->port);
  else ports_exclude(k->ports, q->port, steady_s(k));
  lease_write(k, r, q->port, q->fate == PORT_KEPT ? loop_wall_s(k->loop) + PORT_QUARANTINE_S : NOT_LEASED);
}

/* Revoking narrowed tokens. They are refused before the commit, and let in again if that fails; but ended only after
   it, which cannot be undone. */

static void revoke(struct keeper *k, struct round *r, struct revoke_request *q) {
  q->result = registry_revoke_narrowed(k->relay->registry, &q->what, &q->before);
  if (q->result == 0 && round_writes(k, r)) r->rc = state_narrowed_put(k->relay->state, &q->what, &r->e);
}

static void revoke_answer(struct loop *l, struct loop_msg *m) {
  struct revoke_request *q = CONTAINER_OF(m, struct revoke_request, msg);
  if (l != NULL) q->done(q);
}

static void revoke_answer_later(struct revoke_request *q) {
  q->msg.fn = revoke_answer;
  loop_post(q->from->loop, &q->msg);
}

static void end_owners(struct keeper *k) {
  if (!registry_mark_ended(k->relay->registry, loop_wall_s(k->loop))) return;
  for (unsigned i = 0; i < k->relay->workers_n; i++) worker_order(&k->relay->workers[i], ORDER_END_OWNERS);
}

/* The last first: of two of one certificate the second was put in place of the first. */
static void revokes_end(struct keeper *k, struct round *r) {
  bool any = false;
  for (struct list *it = r->revokes.prev; it != &r->revokes; it = it->prev) {
    struct revoke_request *q = CONTAINER_OF(it, struct revoke_request, node);
    if (q->result != 0) continue;
    if (r->rc == 0 && !r->lost) any = registry_revoke_done(k->relay->registry, &q->what) || any;
    else registry_revoke_undo(k->relay->registry, &q->what, &q->before);
    if (r->rc != 0 || r->lost) q->result = ERR_IO;
  }
  if (any) end_owners(k);
  LIST_FOREACH(&r->revokes, it) revoke_answer_later(CONTAINER_OF(it, struct revoke_request, node));
}

/* Whether more is waiting than this round takes. */
static bool round_gather(struct keeper *k, struct round *r, size_t max) {
  struct in_line *who;
  list_init(&r->releases);
  list_init(&r->takes);
  list_init(&r->revokes);
  pthread_mutex_lock(&k->lock);
  for (size_t i = 0; i < max && !list_empty(&k->releases); i++) {
    struct list *first = k->releases.next;
    list_remove(first);
    list_push_tail(&r->releases, first);
  }
  for (size_t i = 0; i < max && (who = lines_next(k->lines)) != NULL; i++)
    list_push_tail(&r->takes, &CONTAINER_OF(who, struct port_request, waits)->node);
  for (size_t i = 0; i < max && (who = lines_next(k->revokers)) != NULL; i++)
    list_push_tail(&r->revokes, &CONTAINER_OF(who, struct revoke_request, waits)->node);
  k->round_posted = !list_empty(&k->releases) || lines_wait(k->lines) || lines_wait(k->revokers);
  bool more = k->round_posted;
  pthread_mutex_unlock(&k->lock);
  return more;
}

/* The state is not ours any more: on the disk the ports stay their owners', who have a right to them at the
   successor. */
static void round_refuse(struct round *r) {
  LIST_FOREACH(&r->releases, it) free(CONTAINER_OF(it, struct release, node));
  LIST_FOREACH(&r->takes, it) {
    struct port_request *q = CONTAINER_OF(it, struct port_request, node);
    q->result = ERR_CLOSED;
    take_answer_later(q);
  }
  LIST_FOREACH(&r->revokes, it) {
    struct revoke_request *q = CONTAINER_OF(it, struct revoke_request, node);
    q->result = ERR_CLOSED;
    revoke_answer_later(q);
  }
}

static void round_run(struct keeper *k, struct round *r) {
  if (keeper_has_left(k)) {
    round_refuse(r);
    return;
  }
  LIST_FOREACH(&r->releases, it) {
    struct release *q = CONTAINER_OF(it, struct release, node);
    give_back(k, r, q);
    free(q);
  }
  LIST_FOREACH(&r->takes, it) take(k, r, CONTAINER_OF(it, struct port_request, node));
  LIST_FOREACH(&r->revokes, it) revoke(k, r, CONTAINER_OF(it, struct revoke_request, node));
  round_commit(k, r);
  LIST_FOREACH(&r->takes, it) take_end(k, r, CONTAINER_OF(it, struct port_request, node));
  revokes_end(k, r);
}

static void round_here(struct loop *l, struct loop_msg *m) {
  struct keeper *k = CONTAINER_OF(m, struct keeper, round);
  struct round r = {.rc = 0};
  /* What waits at the end is not waited for; keeper_settle has the rest. */
  if (l == NULL || k->rests || __atomic_load_n(&k->stopping, __ATOMIC_RELAXED)) return;
  if (round_gather(k, &r, REQUESTS_PER_COMMIT_MAX)) loop_post(l, &k->round);
  round_run(k, &r);
  if (r.writes) leave_the_state_to_others(k);
}

/* With the lock. */
static void round_wanted(struct keeper *k) {
  if (k->round_posted) return;
  k->round_posted = true;
  k->round.fn = round_here;
  loop_post(k->loop, &k->round);
}

void keeper_take_port(struct keeper *k, struct worker *from, struct port_request *q) {
  q->from = from;
  pthread_mutex_lock(&k->lock);
  lines_join(k->lines, q->owner, &q->waits);
  round_wanted(k);
  pthread_mutex_unlock(&k->lock);
}

bool keeper_withdraw_port(struct keeper *k, struct port_request *q) {
  pthread_mutex_lock(&k->lock);
  bool waited = lines_leave(k->lines, &q->waits);
  pthread_mutex_unlock(&k->lock);
  return waited;
}

void keeper_revoke(struct keeper *k, struct worker *from, struct revoke_request *q) {
  q->from = from;
  pthread_mutex_lock(&k->lock);
  lines_join(k->revokers, q->what.root, &q->waits);
  round_wanted(k);
  pthread_mutex_unlock(&k->lock);
}

bool keeper_withdraw_revoke(struct keeper *k, struct revoke_request *q) {
  pthread_mutex_lock(&k->lock);
  bool waited = lines_leave(k->revokers, &q->waits);
  pthread_mutex_unlock(&k->lock);
  return waited;
}

void keeper_release_port(struct keeper *k, uint16_t port, uint64_t serial, enum port_fate fate) {
  struct release *q = calloc(1, sizeof *q);
  if (q == NULL) return;           /* the port stays held until the relay's next start */
  q->port = port;
  q->serial = serial;
  q->fate = fate;
  pthread_mutex_lock(&k->lock);
  list_push_tail(&k->releases, &q->node);
  round_wanted(k);
  pthread_mutex_unlock(&k->lock);
}

/* Resting and leaving */

/* What was asked for meanwhile has its round now. */
static void end_rest(struct keeper *k) {
  if (!k->rests) return;
  k->rests = false;
  pthread_mutex_lock(&k->lock);
  k->round_posted = false;
  round_wanted(k);
  pthread_mutex_unlock(&k->lock);
}

static void rest_here(struct loop *l, struct loop_msg *m) {
  struct keeper *k = CONTAINER_OF(m, struct keeper, rest);
  if (l != NULL && k->wants_rest) k->rests = true;
  else if (l != NULL) end_rest(k);
  (void)sem_post(&k->rested);
}

static void set_rest(struct keeper *k, bool rest) {
  k->wants_rest = rest;
  k->rest.fn = rest_here;
  loop_post(k->loop, &k->rest);
  while (sem_wait(&k->rested) != 0) continue;
}

void keeper_rest(struct keeper *k) { set_rest(k, true); }

void keeper_go_on(struct keeper *k) { set_rest(k, false); }

static void leave_here(struct loop *l, struct loop_msg *m) {
  struct keeper *k = CONTAINER_OF(m, struct keeper, leave);
  if (l == NULL) return;
  loop_timer_stop(&k->certificates);
  loop_timer_stop(&k->ticket_keys);
  state_unclaim(k->relay->state);
  __atomic_store_n(&k->left, true, __ATOMIC_RELEASE);
}

void keeper_leave(struct keeper *k) {
  k->leave.fn = leave_here;
  loop_post(k->loop, &k->leave);
}

bool keeper_has_left(const struct keeper *k) { return __atomic_load_n(&k->left, __ATOMIC_ACQUIRE); }

static int restore_lease(void *user, const struct port_lease *lease) {
  struct keeper *k = user;
  int64_t left_s = ports_quarantine_left(lease->free_at_s, loop_wall_s(k->loop));
  if (!port_in_range(k, lease->port) || (lease->free_at_s != 0 && left_s == 0)) return 0;
  ports_restore(k->ports, lease->port, lease->owner, lease->label, lease->free_at_s != 0 ? steady_s(k) + left_s : 0);
  return 0;
}

/* Revocations and expiry */

static int revoke_one(void *user, const uint8_t id[TOKEN_ID_BYTES]) {
  struct keeper *k = user;
  return registry_revoke(k->relay->registry, id);
}

static int revoke_narrowed(void *user, const struct revocation *r) {
  struct keeper *k = user;
  return registry_revocation_load(k->relay->registry, r);
}

static int read_revocations(struct keeper *k) {
  struct err e = {.text = "out of memory"};      /* of registry_revoke, which has no text */
  uint64_t version;
  if (state_version(k->relay->state, &version) == 0 && version == k->state_version) return 0;
  int rc = state_revoked(k->relay->state, revoke_one, k, &e);
  if (rc == 0) rc = state_narrowed_each(k->relay->state, revoke_narrowed, k, &e);
  if (rc != 0) warning_state_unread(&k->relay->warnings, e.text);
  else k->state_version = version;
  return rc;
}

static void on_revocations(struct loop_timer *t) {
  struct keeper *k = CONTAINER_OF(t, struct keeper, revocations);
  if (!keeper_has_left(k)) (void)look_for_state(k);
  (void)read_revocations(k);
  end_owners(k);
  (void)loop_timer_set(k->loop, t, KEEPER_POLL_MS, on_revocations);
}

/* What had expired the last time, too. In memory also in a relay that has left: there nobody else does it. */
static void on_sweep(struct loop_timer *t) {
  struct keeper *k = CONTAINER_OF(t, struct keeper, sweep);
  int64_t now_s = loop_wall_s(k->loop), until_s = k->swept_s < now_s ? k->swept_s : now_s;
  struct err e;
  if (until_s > 0) registry_revocations_expire(k->relay->registry, until_s);
  bool writes = until_s > 0 && !keeper_has_left(k) && !k->rests;
  if (writes && state_narrowed_expire(k->relay->state, until_s, &e) != 0)
    warning_state(&k->relay->warnings, e.text);
  k->swept_s = now_s;
  (void)loop_timer_set(k->loop, t, NARROWED_REVOKED_SWEEP_MS, on_sweep);
}

/* Certificates and ticket keys */

/* A new one may have another key to be pinned: the tokens that are made from now on carry it. */
static void follow_pin(struct keeper *k, const struct pin *before) {
  struct err e;
  struct pin pin;
  int rc = certs_pin(k->relay->certs, &pin, &e);
  bool same = pin.kind == before->kind && memcmp(pin.spki_sha256, before->spki_sha256, sizeof pin.spki_sha256) == 0;
  if (rc == 0 && same) return;
  if (rc == 0) rc = issue_pin_remember(k->relay->state, &pin, &e);
  if (rc != 0) log_event(LOG_ERROR, "state_write_failed", "error", e.text, NULL);
  log_event(LOG_WARN, "pin_changed", "what_to_do",
            "make new tokens, or go back to a certificate of the authority before, whose key the present tokens pin",
            NULL);
}

static void reload(struct keeper *k) {
  struct err e;
  struct pin before;
  int rc = certs_pin(k->relay->certs, &before, &e);
  if (rc == 0) rc = certs_reload(k->relay->certs, loop_wall_s(k->loop), &e);
  if (rc != 0) {
    log_event(LOG_ERROR, "certificate_refused", "error", e.text, NULL);
    return;
  }
  log_event(LOG_INFO, "certificate_reloaded", NULL);
  follow_pin(k, &before);
}

static void on_certificates(struct loop_timer *t) {
  struct keeper *k = CONTAINER_OF(t, struct keeper, certificates);
  if (certs_changed(k->relay->certs, loop_wall_s(k->loop))) reload(k);
  certs_warn(k->relay->certs, loop_wall_s(k->loop));
  (void)loop_timer_set(k->loop, t, CERTIFICATES_POLL_MS, on_certificates);
}

static void on_ticket_keys(struct loop_timer *t) {
  struct keeper *k = CONTAINER_OF(t, struct keeper, ticket_keys);
  struct err e;
  if (tickets_refresh(k->relay, loop_wall_s(k->loop), &e) != 0) warning_state_unread(&k->relay->warnings, e.text);
  (void)loop_timer_set(k->loop, t, TICKET_KEYS_POLL_MS, on_ticket_keys);
}

static void reload_here(struct loop *l, struct loop_msg *m) {
  struct keeper *k = CONTAINER_OF(m, struct keeper, reload);
  __atomic_store_n(&k->reload_posted, false, __ATOMIC_RELEASE);  /* what changes from here on needs another look */
  if (l != NULL && !keeper_has_left(k)) reload(k);
}

/* Without an allocation, so that it cannot be lost. */
void keeper_reload_certificates(struct keeper *k) {
  if (__atomic_exchange_n(&k->reload_posted, true, __ATOMIC_ACQ_REL)) return;
  k->reload.fn = reload_here;
  loop_post(k->loop, &k->reload);
}

/* Life */

static void *keeper_main(void *arg) {
  struct keeper *k = arg;
  shortage_listen(warning_shortage, &k->relay->warnings);
  loop_run(k->loop);
  return NULL;
}

static void fill_random(void *user, void *p, size_t n) { loop_random(user, p, n); }

void keeper_free(struct keeper *k) {
  if (k == NULL) return;
  if (k->loop != NULL) loop_free(k->loop);
  LIST_FOREACH(&k->releases, it) free(CONTAINER_OF(it, struct release, node));
  lines_free(k->lines);
  lines_free(k->revokers);
  pthread_mutex_destroy(&k->lock);
  (void)sem_destroy(&k->rested);
  ports_free(k->ports);
  free(k->holders);
  free(k);
}

static int read_leases(struct keeper *k, struct err *e) {
  const struct relay_options *o = k->relay->options;
  ports_free(k->ports);
  k->ports = ports_new(o->tcp_port_from, o->tcp_port_to, fill_random, k->loop);
  if (k->ports == NULL) return err_set(e, ERR_NOMEM, "relay: out of memory");
  return state_lease_each(k->relay->state, restore_lease, k, e);
}

int keeper_read_again(struct keeper *k, struct err *e) {
  if (read_revocations(k) != 0)
    return err_set(e, ERR_IO, "relay: cannot read the revoked tokens from the state database");
  return read_leases(k, e);
}

static int keeper_make(struct keeper *k, struct err *e) {
  const struct relay_options *o = k->relay->options;
  k->loop = loop_new(e);
  if (k->loop == NULL) return ERR_NOMEM;
  k->holders = calloc((size_t)(o->tcp_port_to - o->tcp_port_from) + 1, sizeof *k->holders);
  k->lines = lines_new();
  k->revokers = lines_new();
  if (k->holders == NULL || k->lines == NULL || k->revokers == NULL)
    return err_set(e, ERR_NOMEM, "relay: out of memory");
  k->state_version = UINT64_MAX;
  int rc = keeper_read_again(k, e);
  if (rc != 0) return rc;
  certs_warn(k->relay->certs, loop_wall_s(k->loop));
  rc = tickets_refresh(k->relay, loop_wall_s(k->loop), e);
  if (rc != 0) return rc;
  if (loop_timer_set(k->loop, &k->revocations, KEEPER_POLL_MS, on_revocations) != 0 ||
      loop_timer_set(k->loop, &k->certificates, CERTIFICATES_POLL_MS, on_certificates) != 0 ||
      loop_timer_set(k->loop, &k->ticket_keys, TICKET_KEYS_POLL_MS, on_ticket_keys) != 0 ||
      loop_timer_set(k->loop, &k->sweep, NARROWED_REVOKED_SWEEP_MS, on_sweep) != 0)
    return err_set(e, ERR_NOMEM, "relay: out of memory");
  return 0;
}

int keeper_run(struct keeper *k, struct err *e) {
  errno = pthread_create(&k->thread, NULL, keeper_main, k);
  k->runs = errno == 0;
  return k->runs ? 0 : err_set_errno(e, "relay: cannot start a thread");
}

int keeper_new(struct relay *r, struct keeper **out, struct err *e) {
  struct keeper *k = calloc(1, sizeof *k);
  if (k == NULL) return err_set(e, ERR_NOMEM, "relay: out of memory");
  k->relay = r;
  pthread_mutex_init(&k->lock, NULL);
  (void)sem_init(&k->rested, 0, 0);
  list_init(&k->releases);
  int rc = keeper_make(k, e);
  if (rc != 0) {
    keeper_free(k);
    return rc;
  }
  *out = k;
  return 0;
}

void keeper_stop(struct keeper *k) {
  if (k == NULL || !k->runs) return;
  __atomic_store_n(&k->stopping, true, __ATOMIC_RELAXED);
  loop_stop(k->loop);
  (void)pthread_join(k->thread, NULL);
}

/* Nobody is left to be served, so all that is given back goes into one commit. */
void keeper_settle(struct keeper *k) {
  struct round r = {.rc = 0};
  if (k == NULL) return;
  (void)loop_turn(k->loop, 0);
  (void)round_gather(k, &r, SIZE_MAX);
  round_run(k, &r);
}
