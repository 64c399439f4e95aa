/* An agent's phases: choose a relay, linked, wait to retry, close. The hard thing is who may be tried when: a fresh
   agent races all its relays, and a refusal moves on to the next; one whose addresses belong to a relay has only that
   one, and returns for ever. */
#include "agent/client.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/control.h"
#include "agent/embedded.h"
#include "agent/fork_gate.h"
#include "agent/own_table.h"
#include "agent/race.h"
#include "agent/revoke.h"
#include "agent/stream.h"
#include "agent/tunnel.h"
#include "base/deadline.h"
#include "base/shortage.h"

/* ---- telling the host ---- */

/* code 0: the trouble is over. A client that has failed for good keeps the reason for that, whatever is reported later.
   */
static void client_set_trouble(struct adit_client *c, int code, const char *text) {
  if (c->failed != NULL) return;
  pthread_mutex_lock(&c->lock);
  c->trouble.code = code;
  c->troubles++;
  snprintf(c->trouble.text, sizeof c->trouble.text, "%s", text);
  pthread_cond_broadcast(&c->changed);
  pthread_mutex_unlock(&c->lock);
}

/* Some tunnel does: tunnel_retries. */
static bool client_retries(const struct adit_client *c) {
  LIST_FOREACH(&c->tunnels, it)
    if (tunnel_retries(CONTAINER_OF(it, struct adit_tunnel, node))) return true;
  return false;
}

/* Told once in a row: a relay that stays away for a day is one line. So is a machine without a network yet, whatever
   ways it finds of saying so. */
static void client_warn(struct adit_client *c, int code, const char *reason, const char *text) {
  client_set_trouble(c, code, text);
  if (code == ADIT_EUNREACHABLE && client_retries(c)) {
    if (!c->waiting)
      events_tell(&c->events, ADIT_EVENT_WARNING, NULL, code, "waiting",
                  "the tunnel opens as soon as a relay can be reached: %s", text);
    c->waiting = true;
    return;
  }
  if (strcmp(c->warned, text) == 0) return;
  snprintf(c->warned, sizeof c->warned, "%s", text);
  events_tell(&c->events, ADIT_EVENT_WARNING, NULL, code, reason, "%s", text);
}

static void client_fail(struct adit_client *c, int code, const char *reason, const char *text) {
  loop_timer_stop(&c->retry);
  client_set_trouble(c, code, text);
  c->failed = reason;
  if (list_empty(&c->tunnels)) events_tell(&c->events, ADIT_EVENT_CLOSED, NULL, code, reason, "%s", text);
  LIST_FOREACH(&c->tunnels, it) tunnel_fail(CONTAINER_OF(it, struct adit_tunnel, node), code, reason, text);
  revokes_fail(c, code, text);
}

/* What needed the descriptor fails, or comes later; only here is it said why. */
static void client_shortage(void *user, int error) {
  struct adit_client *c = user;
  uint64_t left_out;
  char reason[128];
  CHECK_MAGIC(c, CLIENT_MAGIC);
  c->shortages++;
  if (!seldom_due(&c->shortage, loop_now_ms(c->loop), WARNING_EVERY_MS, &left_out)) return;
  events_tell(&c->events, ADIT_EVENT_WARNING, NULL, ADIT_ESYSTEM, "shortage", "connections fail: %s (%s)",
              strerror_r(error, reason, sizeof reason), shortage_remedy(error));
}

/* ---- choosing a relay ---- */

static void client_retry_due(struct loop_timer *t) {
  client_connect(CONTAINER_OF(t, struct adit_client, retry));
}

int client_retry_in(struct adit_client *c, uint64_t ms) {
  return loop_timer_set(c->loop, &c->retry, ms, client_retry_due);
}

static void client_retry_later(struct adit_client *c) {
  for (size_t i = 0; i < c->choices_n; i++) c->choices[i].tried = false;
  uint32_t random;
  loop_random(c->loop, &random, sizeof random);
  (void)!client_retry_in(c, backoff_next_ms(&c->backoff, loop_now_ms(c->loop), random));
}

/* Without the pause that follows a failure: somebody asks anew. */
static void client_connect_now(struct adit_client *c) {
  loop_timer_stop(&c->retry);
  client_connect(c);
}

/* Drops a race under way: where to go has changed. */
static void client_race_again(struct adit_client *c) {
  race_stop(c->race);
  c->race = NULL;
}

/* All choices are addresses of one relay. */
static bool client_one_relay(const struct adit_client *c) {
  for (size_t i = 1; i < c->choices_n; i++)
    if (strcasecmp(c->choices[i].name, c->choices[0].name) != 0) return false;
  return true;
}

/* A kept ticket says which relay to go to, unless that is decided or not among ours. */
static void client_choose_home(struct adit_client *c, struct adit_tunnel *t) {
  const char *current = c->home[0] != '\0' ? c->home : c->link != NULL ? c->link->choice->name : "";
  if (c->choices_n == 0 || t->keep.ticket_n == 0 || strcasecmp(current, t->keep.relay) == 0) return;
  bool known = false;
  for (size_t i = 0; i < c->choices_n; i++) known = known || strcasecmp(c->choices[i].name, t->keep.relay) == 0;
  if (known && current[0] == '\0') {
    memcpy(c->home, t->keep.relay, sizeof c->home);
    if (!client_one_relay(c)) client_race_again(c);
    return;
  }
  if (known) {
    tunnel_fail(t, ADIT_ECONFLICT, "other_relay",
                "the kept ticket is of another relay than this client's other tunnels (use a client of its own)");
    return;
  }
  events_tell(&c->events, ADIT_EVENT_WARNING, t, 0, "ticket_relay",
              "the kept ticket is of relay %s, which is not among those given: the address will be a new one",
              t->keep.relay);
  keep_forget(&t->keep);
}

/* With relays to choose from, the first tunnel may bring a ticket that decides: so it is waited for. */
static void client_choices_ready(struct adit_client *c) {
  LIST_FOREACH(&c->tunnels, it) client_choose_home(c, CONTAINER_OF(it, struct adit_tunnel, node));
  if (c->setup.eager || client_one_relay(c) || !list_empty(&c->tunnels)) client_connect(c);
}

/* Its certificate has nothing to do with the authorities that were named for relays. */
struct tls_client *client_tls_for_proxy(struct adit_client *c, struct err *e) {
  if (c->proxy_tls == NULL) c->proxy_tls = tls_client_new(NULL, e);
  return c->proxy_tls;
}

/* ---- the link ---- */

static void client_linked(struct link *l, const char *relay) {
  struct adit_client *c = l->client;
  if (atomic_load(&c->relay_name) == NULL) atomic_store(&c->relay_name, strdup(relay));
  c->warned[0] = '\0';
  c->waiting = false;
  client_set_trouble(c, 0, "");
  for (size_t i = 0; i < c->choices_n; i++) c->choices[i].tried = false;
  revokes_send(l);
  control_binds(l);                /* of those whose retry has come due meanwhile */
}

static bool client_has_untried(const struct adit_client *c) {
  for (size_t i = 0; i < c->choices_n; i++) {
    const struct relay_choice *choice = &c->choices[i];
    if (!choice->refused && !choice->tried && (c->home[0] == '\0' || strcasecmp(choice->name, c->home) == 0))
      return true;
  }
  return false;
}

static bool client_all_refused(const struct adit_client *c) {
  for (size_t i = 0; i < c->choices_n; i++)
    if (!c->choices[i].refused && (c->home[0] == '\0' || strcasecmp(c->choices[i].name, c->home) == 0)) return false;
  return true;
}

static void client_link_lost(struct link *l, bool was_up, enum refusal reason, const struct err *e) {
  struct adit_client *c = l->client;
  struct relay_choice *choice = l->choice;
  bool was_open = false;
  /* A link that held is a fresh start for the delays; one that is dropped at once each time is not. */
  if (loop_now_ms(c->loop) - l->since_ms >= RECONNECT_EARLY_FOR_MS) backoff_reset(&c->backoff);
  c->link = NULL;
  LIST_FOREACH(&c->tunnels, it) {
    struct adit_tunnel *t = CONTAINER_OF(it, struct adit_tunnel, node);
    was_open = was_open || t->state == TUNNEL_OPEN;
    tunnel_detach_link(t);
  }
  if (c->closing) return;
  char text[ERR_TEXT_MAX];
  snprintf(text, sizeof text, "relay %.200s: %.300s", choice->name, e->text);
  if (refusal_is_final(reason)) {
    choice->refused = true;
    if (client_all_refused(c)) {
      client_fail(c, events_errno_of(reason), refusal_name(reason), text);
      return;
    }
  }
  if (was_open && !c->interrupted) {
    c->interrupted = true;
    client_set_trouble(c, ADIT_EUNREACHABLE, text);
    events_tell(&c->events, ADIT_EVENT_RECONNECTING, NULL, ADIT_EUNREACHABLE,
                reason == REFUSE_NONE ? "link_lost" : refusal_name(reason), "%s", text);
  } else if (!was_up || !was_open) {
    client_warn(c, refusal_is_final(reason) ? events_errno_of(reason) : ADIT_EUNREACHABLE,
                reason == REFUSE_NONE ? "link_lost" : refusal_name(reason), text);
  }
  if (!was_open) choice->tried = true;
  if (!was_open && client_has_untried(c)) client_connect(c);
  else client_retry_later(c);
}

/* ---- the race ---- */

const struct link_handlers client_link_handlers = {.role = &control_role,
                                                   .binds = control_binds,
                                                   .up = client_linked,
                                                   .down = control_down,
                                                   .lost = client_link_lost};

static void client_race_won(struct adit_client *c, struct relay_choice *choice, const struct reached *reached,
                            struct tls_conn *tls) {
  struct err e = {0};
  c->race = NULL;
  c->link = link_start(c, choice, reached, tls, &client_link_handlers, &e);
  if (c->link != NULL) return;
  choice->tried = true;
  LIST_FOREACH(&c->tunnels, it) tunnel_detach_link(CONTAINER_OF(it, struct adit_tunnel, node));
  client_warn(c, ADIT_EUNREACHABLE, "relay_unreachable", e.text);
  client_connect(c);
}

static void client_race_lost(struct adit_client *c, const struct err *e) {
  c->race = NULL;
  bool certificate = e->code == ERR_AUTH;
  /* RECONNECTING has said so; that a stranger answers in its place is news. */
  if (c->interrupted && !certificate) client_set_trouble(c, ADIT_EUNREACHABLE, e->text);
  else
    client_warn(c, certificate ? ADIT_EAUTH : ADIT_EUNREACHABLE,
                certificate ? "relay_certificate" : "relay_unreachable", e->text);
  client_retry_later(c);
}

static const struct race_handlers client_race = {.won = client_race_won, .lost = client_race_lost};

void client_connect(struct adit_client *c) {
  if (c->closing || c->failed != NULL || c->choices_n == 0 || c->link != NULL || c->race != NULL ||
      loop_timer_is_set(&c->retry))
    return;
  c->race = race_start(c, &client_race);
  if (c->race == NULL) client_retry_later(c);
}

/* ---- tunnels ---- */

static void client_tunnel_comes(struct adit_tunnel *t) {
  struct adit_client *c = t->client;
  c->waiting = c->waiting && client_retries(c);  /* else it is told anew */
  tunnel_attach(t);
  if (c->setup.moves_in) return;   /* move_in says the rest */
  client_choose_home(c, t);
  if (c->failed != NULL) tunnel_fail(t, c->trouble.code, c->failed, c->trouble.text);
  if (t->state == TUNNEL_ENDED) return;
  app_look_up(t);
  client_connect_now(c);
  if (link_takes_binds(c->link)) {
    tunnel_bind(t, c->link);
    link_flush(c->link);
  }
}

static void client_tunnel_open(struct adit_client *c) {
  if (!c->interrupted) return;
  LIST_FOREACH(&c->tunnels, it) {
    const struct adit_tunnel *t = CONTAINER_OF(it, struct adit_tunnel, node);
    if (!tunnel_is_closing(t) && (t->state == TUNNEL_UNBOUND || t->state == TUNNEL_BINDING)) return;
  }
  c->interrupted = false;
  events_tell(&c->events, ADIT_EVENT_RESTORED, NULL, 0, "restored", "the link to the relay is back");
}

/* ---- revocations ---- */

static void client_revoke_comes(struct adit_client *c) {
  if (c->failed != NULL) revokes_fail(c, c->trouble.code, c->trouble.text);
  client_connect_now(c);
  if (!link_is_up(c->link)) return;
  revokes_send(c->link);
  link_flush(c->link);
}

/* ---- the embedded relay ---- */

/* One that follows on one that died. Our token is good there, too, but the addresses that were told are not if it
   listens elsewhere. */
static void client_embedded_back(struct adit_client *c, const char *token) {
  struct setup anew;
  setup_init(&anew);
  bool same = setup_add_token(&anew, token, NULL) == 0 &&
              anew.tokens[0]->relays[0].dial.port == c->setup.tokens[0]->relays[0].dial.port;
  setup_free(&anew);
  if (!same) {
    client_fail(c, ADIT_EUNREACHABLE, "embedded_relay", "embedded relay: it has ended (start again)");
    return;
  }
  if (c->link != NULL) return;       /* whose end is about to be seen */
  client_race_again(c);
  client_connect_now(c);
}

void client_embedded_ready(struct adit_client *c, const char *token, const char *ca_path, const char *relay_socket) {
  struct err e = {0};                /* it is on this machine, whatever proxy leads out of it */
  if (c->choices_n > 0) {
    client_embedded_back(c, token);
    return;
  }
  if (setup_set_proxy(&c->setup, "none", NULL, NULL, &e) != 0 || setup_add_token(&c->setup, token, &e) != 0 ||
      setup_choices(&c->setup, &c->choices, &c->choices_n, &e) != 0) {
    err_prefix(&e, "embedded relay");
    client_fail(c, ADIT_ECONFIG, "embedded_relay", e.text);
    return;
  }
  pthread_mutex_lock(&c->lock);
  if (relay_socket[0] != '\0') atomic_store(&c->relay_socket, strdup(relay_socket));
  atomic_store(&c->ca_path, strdup(ca_path));    /* the token's sign, too: who sees this finds that in the setup */
  pthread_cond_broadcast(&c->changed);
  pthread_mutex_unlock(&c->lock);
  client_choices_ready(c);
}

void client_embedded_failed(struct adit_client *c, int code, const struct err *e) {
  if (!c->closing) client_fail(c, code, "embedded_relay", e->text);
}

/* ---- the thread ---- */

void client_post(struct adit_client *c, struct loop_msg *m) {
  loop_post_unwoken(c->loop, m);
  bell_ring(&c->bell);
}

/* The host program has closed the bell's end in its table, as a daemon does with whatever it does not know. What we
   have in our own is untouched; but the program means to begin anew, and cannot call us any more. So nothing goes
   on, and we look for its last calls by ourselves. */
static void client_cut_off(struct adit_client *c) {
  loop_io_del(&c->bell_io);
  c->cut_off = true;
  if (c->failed == NULL && !c->closing)
    client_fail(c, ADIT_ESYSTEM, "descriptors_closed",
                "client: the program has closed its descriptors (close what was inherited first, then make the "
                "client)");
  race_stop(c->race);
  c->race = NULL;
  link_stop(c->link, true);
  c->link = NULL;
  LIST_FOREACH(&c->tunnels, it) streams_stop(&CONTAINER_OF(it, struct adit_tunnel, node)->streams);
}

static void client_called(struct loop_io *io, uint32_t events) {
  (void)events;                    /* the messages have run, in this turn; but for those that came since */
  struct adit_client *c = CONTAINER_OF(io, struct adit_client, bell_io);
  bool still_there = bell_heard(&c->bell);
  loop_rouse(c->loop);
  if (!still_there) client_cut_off(c);
}

/* From here on the thread has a table of its own, or, where that cannot be, goes on with the process's. */
static int client_set_up(struct adit_client *c, struct err *e) {
  const int keep[] = {c->bell.hear_fd, c->events.fd, c->events.far_fd};
  c->descriptors.apart = own_table_begin(keep, ARRAY_LEN(keep));
  if ((c->loop = loop_new(e)) == NULL) return ERR_NOMEM;
  descriptors_add(&c->descriptors, loop_epoll_fd(c->loop));
  if ((c->pool = pump_pool_new(c->loop, PUMP_SPLICE, e)) == NULL) return ERR_NOMEM;
  pump_pool_on_closing(c->pool, descriptors_closing, &c->descriptors);
  if (loop_io_add(c->loop, &c->bell_io, c->bell.hear_fd, EPOLLIN, client_called) != 0)
    return err_set(e, ERR_NOMEM, "out of memory");
  loop_set_wait_hooks(c->loop, fork_gate_leave, fork_gate_enter);
  return 0;
}

static void client_tell_started(struct adit_client *c, int r, const struct err *e) {
  pthread_mutex_lock(&c->lock);
  c->started = r == 0 ? 1 : r;
  c->start_err = *e;
  pthread_cond_broadcast(&c->changed);
  pthread_mutex_unlock(&c->lock);
}

static void client_run(struct adit_client *c) {
  struct err e = {0};
  if (c->setup.moves_in) {
    /* move_in begins */
  } else if (c->choices_n > 0) {
    client_choices_ready(c);
  } else {
    c->embedded = embedded_start(c, c->setup.embedded, &e);
    if (c->embedded == NULL) client_embedded_failed(c, ADIT_ESYSTEM, &e);
  }
  while (loop_turn(c->loop, c->cut_off ? CUT_OFF_LOOK_MS : -1)) {}
  fork_gate_leave();
  embedded_stop(c->embedded);      /* which may wait */
  fork_gate_enter();
}

/* All that stands in the thread's table, while it is there. */
static void client_tear_down(struct adit_client *c) {
  if (c->loop != NULL) loop_io_del(&c->bell_io);
  if (c->pool != NULL) pump_pool_free(c->pool);
  if (c->loop != NULL) loop_free(c->loop);
  descriptors_remove(&c->descriptors, c->bell.hear_fd);
  descriptors_remove(&c->descriptors, c->events.far_fd);
  close(c->bell.hear_fd);
  close(c->events.far_fd);
  c->bell.hear_fd = c->events.far_fd = -1;
  if (!c->descriptors.apart) return;
  close(c->events.fd);
  /* The kernel frees a table only after the thread has ended, which may be after pthread_join. Closed here, these are
     closed by then. */
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) close(fd);
}

static void *client_thread(void *arg) {
  struct adit_client *c = arg;
  struct err e = {0};
  fork_gate_enter();
  int r = client_set_up(c, &e);    /* what fails here the host hears from the call that waits for it */
  client_tell_started(c, r, &e);
  if (r == 0) {
    shortage_listen(client_shortage, c);
    client_run(c);
    shortage_listen(NULL, NULL);
  }
  client_tear_down(c);
  fork_gate_leave_at_end();
  return NULL;
}

static void client_finish(struct adit_client *c) {
  if (c->finished) return;
  c->finished = true;
  loop_timer_stop(&c->retry);
  race_stop(c->race);
  c->race = NULL;
  link_stop(c->link, true);
  c->link = NULL;
  loop_stop(c->loop);
}

static void client_tunnel_gone(struct adit_client *c) {
  if (c->closing && list_empty(&c->tunnels)) client_finish(c);
}

static void client_close_run(struct loop *l, struct loop_msg *m) {
  if (l == NULL) return;
  struct adit_client *c = CONTAINER_OF(m, struct adit_client, close_msg);
  c->closing = true;
  LIST_FOREACH(&c->tunnels, it) tunnel_close_begin(CONTAINER_OF(it, struct adit_tunnel, node), c->close_drain_ms);
  client_tunnel_gone(c);
}

static const struct tunnel_handlers client_tunnels = {
    .comes = client_tunnel_comes, .open = client_tunnel_open, .gone = client_tunnel_gone};

/* ---- the host's thread ---- */

/* Everything of a client whose thread has ended, or never began. */
static void client_free(struct adit_client *c) {
  while (!list_empty(&c->handles)) {
    struct adit_tunnel *t = CONTAINER_OF(c->handles.next, struct adit_tunnel, handle);
    list_remove(&t->handle);
    tunnel_free(t);
  }
  revokes_free(c);
  fork_gate_enter();
  tls_client_free(c->tls);
  tls_client_free(c->proxy_tls);
  fork_gate_leave_host();
  descriptors_free(&c->descriptors);
  if (c->events.fd >= 0) events_free(&c->events);
  descriptor_close(c->bell.ring_fd, &c->bell.ring_mark);
  if (c->bell.hear_fd >= 0) close(c->bell.hear_fd);
  embedded_environment_free(c->environment);
  free(c->choices);
  setup_free(&c->setup);
  free(atomic_load(&c->relay_name));
  free(atomic_load(&c->ca_path));
  free(atomic_load(&c->relay_socket));
  pthread_mutex_destroy(&c->lock);
  pthread_cond_destroy(&c->changed);
  c->magic = 0;
  free(c);
}

void client_close(struct adit_client *c, uint32_t drain_ms) {
  c->close_drain_ms = drain_ms;
  c->close_msg.fn = client_close_run;
  client_post(c, &c->close_msg);
  pthread_join(c->thread, NULL);
  client_free(c);
}

/* What only the thread needs is in its table now, if it has one. */
static void client_let_go(struct adit_client *c, int hear_fd, int far_fd) {
  if (!c->descriptors.apart) return;
  descriptors_forget(&c->descriptors, hear_fd);
  descriptors_forget(&c->descriptors, far_fd);
  close(hear_fd);
  close(far_fd);
}

static int client_spawn(struct adit_client *c, struct err *e) {
  sigset_t all, before;
  int hear_fd = c->bell.hear_fd, far_fd = c->events.far_fd;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int failed = pthread_create(&c->thread, NULL, client_thread, c);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (failed) return err_set(e, ERR_IO, "thread: %s", strerror(failed));
  pthread_setname_np(c->thread, "adit");
  pthread_mutex_lock(&c->lock);
  while (c->started == 0) pthread_cond_wait(&c->changed, &c->lock);
  int r = c->started < 0 ? c->started : 0;
  pthread_mutex_unlock(&c->lock);
  client_let_go(c, hear_fd, far_fd);
  if (r == 0) return 0;
  pthread_join(c->thread, NULL);
  if (e != NULL) *e = c->start_err;
  return r;
}

static void client_init(struct adit_client *c, struct setup *setup) {
  c->magic = CLIENT_MAGIC;
  c->process = fork_gate_process();
  c->events.fd = c->bell.ring_fd = c->bell.hear_fd = -1;
  c->setup = *setup;
  setup_init(setup);
  list_init(&c->handles);
  list_init(&c->tunnels);
  list_init(&c->revokes);
  c->on_revoke = client_revoke_comes;
  c->on_tunnel = &client_tunnels;
  descriptors_init(&c->descriptors);
  pthread_mutex_init(&c->lock, NULL);
  deadline_cond_init(&c->changed);
}

/* Before OpenSSL opens it: OpenSSL would say no more than "system lib" of a file that is missing; and given a FIFO it
   would wait for a writer while it holds the gate, so that the host could not fork. */
static int client_check_ca(const char *path, struct err *e) {
  char reason[128];
  struct stat st;
  if (path == NULL) return 0;
  if (access(path, R_OK) != 0 || stat(path, &st) != 0)
    return err_set(e, ERR_USAGE, "authorities %.200s: %s (check the path, and who may read it)", path,
                   strerror_r(errno, reason, sizeof reason));
  return S_ISREG(st.st_mode)
             ? 0 : err_set(e, ERR_USAGE, "authorities %.200s: it is not a regular file (give a PEM file)", path);
}

/* Without a token an embedded relay is started, which issues one. That one is good for no relay that was given. */
static int client_check_token(const struct setup *s, struct err *e) {
  if (s->tokens_n > 0 || s->dials_n == 0) return 0;
  return err_set(e, ERR_USAGE, "token: a relay is given but no token (set ADIT_TOKEN, or store one with adit login)");
}

static void client_watch_descriptors(struct adit_client *c) {
  const int fds[] = {c->bell.ring_fd, c->bell.hear_fd, c->events.fd, c->events.far_fd};
  for (size_t i = 0; i < ARRAY_LEN(fds); i++) descriptors_add(&c->descriptors, fds[i]);
}

/* What the thread needs, as far as it can be had without it. */
static int client_prepare(struct adit_client *c, struct err *e) {
  int r = descriptors_watch_forks(&c->descriptors) == 0 ? 0 : err_set(e, ERR_NOMEM, "out of memory");
  bool embedded = c->setup.tokens_n == 0 && c->setup.embedded != NULL;
  bool starts_relays = embedded || (c->setup.moves_in && c->setup.embedded != NULL);
  if (r == 0) r = client_check_ca(c->setup.ca_file, e);
  if (r == 0) r = client_check_token(&c->setup, e);
  fork_gate_enter();
  if (r == 0 && !embedded) r = setup_choices(&c->setup, &c->choices, &c->choices_n, e);
  if (r == 0 && starts_relays && (c->environment = embedded_environment()) == NULL)
    r = err_set(e, ERR_NOMEM, "out of memory");
  if (r == 0) r = events_init(&c->events, e);
  if (r == 0) r = bell_init(&c->bell, e);
  if (r == 0 && (c->tls = tls_client_new(c->setup.ca_file, e)) == NULL) r = e->code;
  if (r == 0) client_watch_descriptors(c);       /* in the gate: a child forked from here on closes its copies */
  fork_gate_leave_host();
  return r;
}

int client_start(struct setup *setup, struct adit_client **out, struct err *e) {
  struct adit_client *c = calloc(1, sizeof *c);
  if (c == NULL) return err_set(e, ERR_NOMEM, "out of memory");
  client_init(c, setup);
  int r = client_prepare(c, e);
  if (r == 0) r = client_spawn(c, e);   /* out of the gate: the thread must come in */
  if (r != 0) {
    client_free(c);
    return r;
  }
  *out = c;
  return 0;
}
