/* Reaching the app. The hard thing is one that is not there yet: its visitors wait, for minutes if they are told to,
   and neither they nor the looking for it may cost much. So there is a limit of them, one of them at a time tries, and
   when it gets through all do. */
#include "agent/app.h"

#include <stdio.h>
#include <string.h>

#include "agent/dial.h"
#include "agent/tunnel.h"

static const char not_there[] = "it is not there yet, a visitor waits for it";

static struct loop *loop_of(const struct adit_tunnel *t) { return t->client->loop; }

/* ---- telling the host ---- */

static const char *app_hint(const struct adit_tunnel *t) {
  return dial_address_is_unix(&t->request.app) ? "start it, or check the path" : "start it, or check the port";
}

static void app_warn(struct adit_tunnel *t, const char *why) {
  char app[DIAL_ADDRESS_TEXT_CHARS];
  const char *name = t->request.name, *at = name[0] != 0 ? " at " : "";
  dial_address_describe(&t->request.app, app, sizeof app);
  events_tell(&t->client->events, ADIT_EVENT_WARNING, t, 0, "app", "app %s%s%s: %s", name, at, app, why);
}

/* What is wrong, for people; false: descriptors or memory have run out, which is not the app's fault. */
static bool app_explain(const struct adit_tunnel *t, const struct err *e, char *out, size_t cap) {
  if (e->code == ERR_LIMIT || e->code == ERR_NOMEM) return false;
  if (e->code == ERR_TIMEOUT) snprintf(out, cap, "it does not answer (%s)", app_hint(t));
  else if (e->code == ERR_CLOSED && !dial_address_is_unix(&t->request.app))
    snprintf(out, cap, "it refused the connection (%s)", app_hint(t));
  else snprintf(out, cap, "%s", e->text);
  return true;
}

static void app_tell_trouble(struct adit_tunnel *t, const struct err *e) {
  char why[ERR_TEXT_MAX];
  uint64_t left_out;
  if (!app_explain(t, e, why, sizeof why)) return;
  if (seldom_due(&t->app.warned, loop_now_ms(loop_of(t)), APP_WARNING_MS, &left_out)) app_warn(t, why);
}

static void app_failed(struct adit_tunnel *t, const struct err *e) {
  atomic_fetch_add_explicit(&t->app_failures, 1, memory_order_relaxed);
  app_tell_trouble(t, e);
}

static void app_awaited(struct adit_tunnel *t, const struct err *e) {
  char why[ERR_TEXT_MAX], text[ERR_TEXT_MAX + sizeof not_there + 4];
  if (t->app.awaited) return;
  t->app.awaited = true;
  if (e->code == ERR_CLOSED || !app_explain(t, e, why, sizeof why))
    snprintf(text, sizeof text, "%s (%s)", not_there, app_hint(t));
  else
    snprintf(text, sizeof text, "%s: %s", not_there, why);
  app_warn(t, text);
}

/* ---- where it is ---- */

static void call_try(struct app_call *call);
static void call_failed(struct app_call *call, const struct err *e);

void app_init(struct adit_tunnel *t) {
  struct app *a = &t->app;
  list_init(&a->calls);
  if (dial_address_is_unix(&t->request.app)) {
    a->addrs[a->addrs_n++] = addr_unix(t->request.app.path);
    return;
  }
  a->addrs_n = resolve_now(&t->request.app.tcp, a->addrs);
  a->by_name = a->addrs_n == 0;
}

static void app_resolved(void *user, const struct addr *addrs, size_t n, const struct err *e) {
  struct adit_tunnel *t = user;
  struct app *a = &t->app;
  a->lookup = NULL;
  a->looked_up_ms = loop_now_ms(loop_of(t));
  if (n > 0) {
    memcpy(a->addrs, addrs, n * sizeof addrs[0]);
    a->addrs_n = n;
  } else if (a->addrs_n == 0 && a->waiting_n == 0) {
    /* else those that were good until now may still be, or it was told */
    app_tell_trouble(t, e);
  }
  LIST_FOREACH(&a->calls, it) {
    struct app_call *call = CONTAINER_OF(it, struct app_call, node);
    if (call->state != APP_CALL_LOOKUP) continue;
    if (a->addrs_n > 0) call_try(call);
    else call_failed(call, e);
  }
}

static void app_start_lookup(struct adit_tunnel *t) {
  struct app *a = &t->app;
  if (a->lookup == NULL) a->lookup = resolve_start(loop_of(t), &t->request.app.tcp, app_resolved, t);
}

void app_look_up(struct adit_tunnel *t) {
  if (t->app.by_name && t->app.addrs_n == 0) app_start_lookup(t);
}

void app_close(struct adit_tunnel *t) {
  resolve_cancel(t->app.lookup);
  t->app.lookup = NULL;
  loop_timer_stop(&t->app.retry);
}

/* ---- waiting for it ---- */

static void call_over(struct app_call *call, int fd, bool was_reset) {
  app_call_end(call);
  call->fn(call, fd, was_reset);
}

static void call_visitor_left(struct loop_io *io, uint32_t events) {
  (void)events;
  call_over(CONTAINER_OF(io, struct app_call, io), -1, false);
}

static void call_gives_up(struct loop_timer *timer) {
  struct app_call *call = CONTAINER_OF(timer, struct app_call, timer);
  app_failed(call->tunnel, &call->tunnel->app.trouble);
  call_over(call, -1, false);
}

static void app_retry_due(struct loop_timer *timer);

static int app_retry_later(struct adit_tunnel *t) {
  if (loop_timer_is_set(&t->app.retry)) return 0;
  return loop_timer_set(loop_of(t), &t->app.retry, t->app.by_name ? APP_RETRY_NAME_MS : APP_RETRY_MS, app_retry_due);
}

/* Each holds a descriptor and what the kernel takes in for it, for as long as the host likes. */
static bool call_take_place(struct app_call *call) {
  struct adit_tunnel *t = call->tunnel;
  if (call->has_place) return true;
  if (t->app.waiting_n >= APP_WAITING_PER_TUNNEL_MAX) return false;
  if (t->client->app_waiting_n >= APP_WAITING_PER_CLIENT_MAX) return false;
  /* Edge-triggered for nothing else: epoll tells only that the visitor has reset. */
  if (loop_io_add(loop_of(t), &call->io, call->visitor_fd, EPOLLET | call->leaves_by, call_visitor_left) != 0)
    return false;
  t->app.waiting_n++;
  t->client->app_waiting_n++;
  return call->has_place = true;
}

/* One of them looks, and when it has got through all go. */
static void app_retry_due(struct loop_timer *timer) {
  struct app *a = CONTAINER_OF(timer, struct app, retry);
  struct app_call *first = NULL;
  LIST_FOREACH(&a->calls, it) {
    struct app_call *call = CONTAINER_OF(it, struct app_call, node);
    if (a->reached && call->state == APP_CALL_WAIT) call_try(call);
    if (a->reached) continue;
    if (call->state != APP_CALL_WAIT) return;    /* it looks already, and sets the timer again should it wait then */
    if (first == NULL) first = call;
  }
  if (first != NULL) call_try(first);
}

/* An app whose address is often told before it listens: 0, or why the visitor does not wait for it. */
static int call_wait(struct app_call *call, const struct err *e) {
  struct adit_tunnel *t = call->tunnel;
  struct app *a = &t->app;
  uint64_t now = loop_now_ms(loop_of(t)), until = call->began_ms + t->request.app_wait_ms;
  if (a->reached || now >= until || e->code == ERR_LIMIT || e->code == ERR_NOMEM) return e->code;
  if (!call_take_place(call)) return ERR_CONFLICT;
  if (loop_timer_set(loop_of(t), &call->timer, until - now, call_gives_up) != 0) return ERR_NOMEM;
  if (app_retry_later(t) != 0) return ERR_NOMEM;
  call->state = APP_CALL_WAIT;
  a->trouble = *e;
  app_awaited(t, e);
  return 0;
}

static void call_failed(struct app_call *call, const struct err *why) {
  struct adit_tunnel *t = call->tunnel;
  struct err e = *why;
  if (t->app.by_name) t->app.addrs_n = 0;        /* a name may lead elsewhere by now */
  int code = call_wait(call, &e);
  if (code == 0) return;
  if (code == ERR_CONFLICT)
    err_set(&e, code, "so many visitors wait for it already that another was refused (%s)", app_hint(t));
  app_failed(t, &e);
  call_over(call, -1, false);
}

/* ---- a call ---- */

/* Perhaps amid a walk through the calls: those who wait go on by the timer. */
static void call_connected(struct app_call *call, int fd, bool was_reset) {
  struct app *a = &call->tunnel->app;
  bool is_first = !a->reached;
  a->reached = true;
  app_call_end(call);
  if (is_first && a->waiting_n > 0) (void)loop_timer_set(loop_of(call->tunnel), &a->retry, 0, app_retry_due);
  call->fn(call, fd, was_reset);
}

static void call_dialled(void *user, int fd, const struct addr *to, const struct err *e) {
  (void)to;
  struct app_call *call = user;
  struct app *a = &call->tunnel->app;
  call->dial = NULL;
  if (fd >= 0) {
    call_connected(call, fd, e->code != 0);
  } else if (a->by_name && a->looked_up_ms < call->began_ms && e->code != ERR_LIMIT) {
    a->addrs_n = 0;                /* its address was that of another time */
    call_try(call);
  } else {
    call_failed(call, e);
  }
}

static void call_lookup_is_late(struct loop_timer *timer) {
  call_failed(CONTAINER_OF(timer, struct app_call, timer),
              &(struct err){ERR_IO, "its name cannot be looked up (check the name, and that DNS works here)"});
}

/* The app at once, or -1 with a dial, or without one: out of memory. */
static int call_dial_now(struct app_call *call, bool *was_reset) {
  struct adit_client *c = call->tunnel->client;
  const struct app *a = &call->tunnel->app;
  int fd = dial_at_once(&c->descriptors, a->addrs, a->addrs_n, was_reset);
  if (fd >= 0) return fd;
  call->dial = dial_start(c->loop, &c->descriptors, a->addrs, a->addrs_n, APP_CONNECT_DEADLINE_MS, call_dialled, call);
  if (call->dial != NULL) dial_hear_resets(call->dial);
  return -1;
}

/* With a descriptor that was held for this, should there be no other. */
static void call_dial(struct app_call *call) {
  struct adit_client *c = call->tunnel->client;
  unsigned shortages = c->shortages;
  bool was_reset;
  call->state = APP_CALL_DIAL;
  int fd = call_dial_now(call, &was_reset);
  if (fd < 0 && c->shortages != shortages && spares_give(&c->spares, &c->descriptors)) {
    dial_stop(call->dial);
    call->dial = NULL;
    fd = call_dial_now(call, &was_reset);
  }
  if (fd >= 0) call_connected(call, fd, was_reset);
  else if (call->dial == NULL) call_failed(call, &(struct err){ERR_NOMEM, "out of memory"});
}

/* Once more, or for the first time. */
static void call_try(struct app_call *call) {
  struct adit_tunnel *t = call->tunnel;
  struct app *a = &t->app;
  loop_timer_stop(&call->timer);
  bool is_old = loop_now_ms(loop_of(t)) - a->looked_up_ms >= APP_LOOKUP_EVERY_MS;
  if (a->by_name && (a->addrs_n == 0 || is_old)) app_start_lookup(t);
  if (!a->by_name || a->addrs_n > 0) {
    call_dial(call);
    return;
  }
  call->state = APP_CALL_LOOKUP;
  if (loop_timer_set(loop_of(t), &call->timer, APP_CONNECT_DEADLINE_MS, call_lookup_is_late) != 0)
    call_failed(call, &(struct err){ERR_NOMEM, "out of memory"});
}

void app_call(struct adit_tunnel *t, struct app_call *call, int visitor_fd, uint32_t leaves_by, uint64_t began_ms,
              app_call_fn *fn) {
  *call = (struct app_call){
    .tunnel = t, .visitor_fd = visitor_fd, .leaves_by = leaves_by, .fn = fn, .began_ms = began_ms};
  list_push_tail(&t->app.calls, &call->node);
  call_try(call);
}

bool app_call_is_amid(const struct app_call *call) { return call->state == APP_CALL_DIAL; }

void app_call_end(struct app_call *call) {
  struct adit_tunnel *t = call->tunnel;
  if (call->state == APP_CALL_ENDED) return;
  call->state = APP_CALL_ENDED;
  loop_timer_stop(&call->timer);
  loop_io_del(&call->io);
  dial_stop(call->dial);
  call->dial = NULL;
  list_remove(&call->node);
  if (call->has_place) {
    t->app.waiting_n--;
    t->client->app_waiting_n--;
  }
  /* It may have been the one that looked, for those who still wait. */
  if (t->app.waiting_n > 0) (void)app_retry_later(t);
}
