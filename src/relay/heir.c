/* See the header. Until the commit every failure is the end of this process, and the predecessor goes on; after it
   there is nobody but us, so that nothing is a reason to end. */
#include "relay/heir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "loop/net.h"
#include "relay/parcel.h"
#include "relay/registry.h"
#include "relay/starter.h"
#include "relay/totals.h"

struct inherited {
  struct handover_listener listener;
  unsigned number;                 /* among those of its role and address */
  int fd;                          /* -1: taken */
};

struct heir {
  struct relay *relay;
  struct carrier carrier;
  struct loop_io io;
  int claim;
  bool has_taken_over;
  unsigned deliveries;             /* atomic: at workers */
  struct inherited *at;
  size_t n;
};

int heir_find(struct heir **out, struct err *e) {
  const char *text = getenv(STARTER_VARIABLE);
  struct stat st;
  uint64_t fd;
  *out = NULL;
  if (text == NULL) return 0;
  if (text_to_u64(text, 1 << 20, &fd) != 0 || fstat((int)fd, &st) != 0 || !S_ISSOCK(st.st_mode))
    return err_set(e, ERR_SYNTAX, STARTER_VARIABLE ": not a descriptor of an upgrade (unset it)");
  (void)unsetenv(STARTER_VARIABLE);
  struct heir *h = calloc(1, sizeof *h);
  if (h == NULL) return err_set(e, ERR_NOMEM, "upgrade: out of memory");
  (void)fcntl((int)fd, F_SETFD, FD_CLOEXEC);
  carrier_init(&h->carrier, (int)fd);
  h->claim = -1;
  *out = h;
  return 0;
}

int heir_carrier(const struct heir *h) { return h != NULL ? h->carrier.fd : -1; }

static int say(struct heir *h, enum carrier_kind kind, const void *body, size_t n) {
  return carrier_send(h->carrier.fd, kind, body, n, NULL, 0);
}

static int lost(struct err *e, int rc) {
  return rc == ERR_SYNTAX ? err_set(e, rc, "upgrade: the running relay says what this program does not understand")
                          : err_set(e, ERR_CLOSED, "upgrade: the running relay is gone");
}

/* What there is to take over */

static int on_welcome(struct heir *h, struct relay *r, struct carrier_frame *f) {
  struct handover_welcome w;
  if (h->claim >= 0 || handover_welcome_decode(reader_of(f->body, f->header.bytes), &w) != 0) return ERR_SYNTAX;
  r->instance = w.instance;
  r->started_ms = w.started_ms;
  h->claim = f->fds[0];
  f->fds[0] = -1;
  return 0;
}

static bool is_at(const struct inherited *i, enum handover_role role, const struct addr *at) {
  const struct handover_listener *l = &i->listener;
  if (l->role != role || l->at.u.any.sa_family != at->u.any.sa_family) return false;
  if (addr_is_unix(at)) return memcmp(l->at.u.un.sun_path, at->u.un.sun_path, sizeof at->u.un.sun_path) == 0;
  return at->u.any.sa_family == AF_UNSPEC || addr_equal(&l->at, at);
}

static int on_listener(struct heir *h, struct carrier_frame *f) {
  struct inherited i = {.fd = f->fds[0]};
  if (handover_listener_decode(reader_of(f->body, f->header.bytes), &i.listener) != 0) return ERR_SYNTAX;
  struct inherited *at = reallocarray(h->at, h->n + 1, sizeof *at);
  if (at == NULL) return ERR_NOMEM;
  h->at = at;
  for (size_t k = 0; k < h->n; k++) i.number += is_at(&at[k], i.listener.role, &i.listener.at);
  h->at[h->n++] = i;
  f->fds[0] = -1;
  return 0;
}

/* *more: this was not the last of them. */
static int on_given(struct heir *h, struct relay *r, struct carrier_frame *f, bool *more) {
  switch (f->header.kind) {
    case CARRIER_WELCOME: return on_welcome(h, r, f);
    case CARRIER_LISTENER: return on_listener(h, f);
    case CARRIER_GIVEN: *more = false; return h->claim >= 0 ? 0 : ERR_SYNTAX;
    default: return ERR_SYNTAX;
  }
}

int heir_meet(struct heir *h, struct relay *r, struct err *e) {
  uint8_t bytes[128];
  struct writer w = writer_of(bytes, sizeof bytes);
  struct handover_hello hello = {.formats = formats_known(), .pid = (uint32_t)getpid(), .build = ADIT_VERSION};
  uint64_t until_ms = clock_ms() + UPGRADE_READY_MS;
  h->relay = r;
  handover_hello_encode(&w, &hello);
  ASSERT(!w.bad);
  int rc = say(h, CARRIER_HELLO, bytes, w.len);
  for (bool more = true; rc == 0 && more;) {
    struct carrier_frame f;
    rc = carrier_receive(&h->carrier, until_ms, &f);
    if (rc != 0) break;
    rc = on_given(h, r, &f, &more);
    carrier_frame_free(&f);
  }
  return rc == 0 ? 0 : lost(e, rc);
}

int heir_claim(struct heir *h) {
  int fd = h->claim;
  h->claim = -1;
  return fd;
}

bool heir_listens(struct heir *h, enum handover_role role, struct addr *at) {
  for (size_t k = 0; h != NULL && k < h->n; k++) {
    struct addr wanted = *at;
    if (!addr_is_unix(at) && at->u.any.sa_family != AF_UNSPEC && addr_port(at) == 0)
      addr_set_port(&wanted, addr_port(&h->at[k].listener.at));
    if (!is_at(&h->at[k], role, &wanted)) continue;
    *at = wanted;
    return true;
  }
  return false;
}

int heir_listener(struct heir *h, enum handover_role role, const struct addr *at, unsigned worker, unsigned n) {
  for (size_t k = 0; h != NULL && k < h->n; k++) {
    struct inherited *i = &h->at[k];
    if (i->fd < 0 || i->number % n != worker || !is_at(i, role, at)) continue;
    int fd = i->fd;
    i->fd = -1;
    return fd;
  }
  return -1;
}

size_t heir_listeners(const struct heir *h) { return h != NULL ? h->n : 0; }

/* Taking over */

int heir_ready(struct heir *h, struct err *e) {
  struct carrier_frame f;
  for (size_t k = 0; k < h->n; k++) net_close(h->at[k].fd);
  h->n = 0;
  int rc = say(h, CARRIER_READY, NULL, 0);
  if (rc == 0) rc = carrier_receive(&h->carrier, clock_ms() + UPGRADE_READY_MS, &f);
  if (rc != 0) return lost(e, rc);
  struct handover_commit c;
  rc = f.header.kind == CARRIER_COMMIT ? handover_commit_decode(reader_of(f.body, f.header.bytes), &c) : ERR_SYNTAX;
  carrier_frame_free(&f);
  if (rc == 0) registry_serial_reach(h->relay->registry, c.serial);
  h->has_taken_over = rc == 0;
  return rc == 0 ? 0 : lost(e, rc);
}

bool heir_has_taken_over(const struct heir *h) { return h->has_taken_over; }

struct delivery {
  struct loop_msg msg;
  struct heir *heir;
  struct worker *worker;
  struct carrier_frame frame;
};

/* From any thread: so small a frame leaves whole. */
static void say_taken(struct heir *h, enum carrier_kind kind, int rc) {
  uint8_t bytes[8];
  struct writer w = writer_of(bytes, sizeof bytes);
  handover_taken_encode(&w, &(struct handover_taken){.kind = (uint16_t)kind, .lost = rc != 0});
  if (rc != 0) log_event(LOG_ERROR, "not_taken_over", "kind", LOG_U64(kind), "error", err_name(rc), NULL);
  (void)!say(h, CARRIER_TAKEN, bytes, w.len);
}

static void deliver(struct loop *l, struct loop_msg *m) {
  struct delivery *d = CONTAINER_OF(m, struct delivery, msg);
  struct carrier_frame *f = &d->frame;
  int rc = l != NULL ? parcel_unpack(d->worker, f->header.kind, f->body, f->header.bytes, f->fds, f->header.fds_n)
                     : ERR_CLOSED;
  for (size_t i = 0; rc == 0 && i < f->header.fds_n; i++) f->fds[i] = -1;
  if (l != NULL) say_taken(d->heir, f->header.kind, rc);
  (void)__atomic_sub_fetch(&d->heir->deliveries, 1, __ATOMIC_RELEASE);
  carrier_frame_free(f);
  free(d);
}

/* Takes the frame. */
static void send_to_worker(struct heir *h, struct carrier_frame *f) {
  struct worker *w = parcel_worker(h->relay, f->header.kind, f->body, f->header.bytes);
  struct delivery *d = w != NULL ? malloc(sizeof *d) : NULL;
  if (d == NULL) {
    say_taken(h, f->header.kind, w != NULL ? ERR_NOMEM : ERR_SYNTAX);
    carrier_frame_free(f);
    return;
  }
  *d = (struct delivery){.msg.fn = deliver, .heir = h, .worker = w, .frame = *f};
  (void)__atomic_add_fetch(&h->deliveries, 1, __ATOMIC_RELAXED);
  loop_post(w->loop, &d->msg);
}

/* 0, or ERR_CLOSED: that was all. Takes the frame. */
static int take(struct heir *h, struct carrier_frame *f, bool *serve) {
  enum carrier_kind kind = f->header.kind;
  if (kind >= CARRIER_LINK && kind <= CARRIER_STREAM) {
    send_to_worker(h, f);
    return 0;
  }
  if (kind == CARRIER_SERVE) *serve = true;
  if (kind == CARRIER_TOTALS && totals_import(h->relay, f->body, f->header.bytes) != 0)
    log_event(LOG_ERROR, "totals_not_taken_over", NULL);
  carrier_frame_free(f);
  return kind == CARRIER_END ? ERR_CLOSED : 0;
}

/* For memory it waits as for a word. */
static int next_frame(struct heir *h, struct carrier_frame *f) {
  const struct timespec pause = {.tv_nsec = UPGRADE_EVERY_MS * 1000000L};
  const uint64_t until_ms = clock_ms() + UPGRADE_STEP_MS;
  int rc;
  while ((rc = carrier_receive(&h->carrier, until_ms, f)) == ERR_NOMEM && clock_ms() < until_ms)
    (void)nanosleep(&pause, NULL);
  return rc;
}

int heir_take_control(struct heir *h) {
  bool serve = false;
  int rc = 0;
  while (rc == 0 && !serve) {
    struct carrier_frame f;
    rc = next_frame(h, &f);
    if (rc == 0) rc = take(h, &f, &serve);
  }
  return rc;
}

/* A worker that is about to answer, or has hardly done so, still has the descriptor: then it is closed with us. */
static void heir_ended(struct heir *h, int rc) {
  loop_io_del(&h->io);
  log_event(rc == 0 ? LOG_INFO : LOG_WARN, rc == 0 ? "upgrade_done" : "upgrade_cut_short", NULL);
  if (__atomic_load_n(&h->deliveries, __ATOMIC_ACQUIRE) == 0) carrier_close(&h->carrier);
}

static void on_carrier(struct loop_io *io, uint32_t events) {
  struct heir *h = CONTAINER_OF(io, struct heir, io);
  struct carrier_frame f;
  bool serve, end = false;
  int rc;
  (void)events;
  while (!end && (rc = carrier_receive(&h->carrier, 0, &f)) == 0) {
    end = take(h, &f, &serve) != 0;
  }
  if (end || rc != ERR_TIMEOUT) heir_ended(h, end ? 0 : rc);
}

void heir_follow(struct heir *h, struct loop *l) {
  say_taken(h, CARRIER_SERVE, 0);
  if (loop_io_add(l, &h->io, h->carrier.fd, EPOLLIN, on_carrier) != 0) heir_ended(h, ERR_NOMEM);
}

void heir_refuse(struct heir *h, const struct err *e) {
  if (h->carrier.fd >= 0) (void)!say(h, CARRIER_REFUSED, e->text, strlen(e->text));
}

void heir_free(struct heir *h) {
  if (h == NULL) return;
  loop_io_del(&h->io);
  for (size_t k = 0; k < h->n; k++) net_close(h->at[k].fd);
  net_close(h->claim);
  carrier_close(&h->carrier);
  free(h->at);
  free(h);
}
