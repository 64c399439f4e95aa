/* Connecting. Several attempts may be under way, and the first event decides for all of them. */
#include "agent/dial.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "loop/net.h"

enum { DIAL_MAGIC = 0x6469616c };

struct attempt {
  struct loop_io io;
  struct dial *dial;
  struct addr to;
  int fd;                          /* -1: not begun, or failed */
};

struct dial {
  unsigned magic;
  struct loop *loop;
  struct descriptors *descriptors;
  struct loop_timer next, deadline;
  struct loop_deferred defer;
  dial_fn *fn;
  void *user;
  struct err err;
  size_t n, begun, live;
  bool hears_resets;
  struct attempt attempts[];
};

static void dial_try(struct dial *d);

static void dial_free(struct loop_deferred *f) {
  free(CONTAINER_OF(f, struct dial, defer));
}

static void attempt_end(struct attempt *a) {
  if (a->fd < 0) return;
  loop_io_del(&a->io);
  descriptors_remove(a->dial->descriptors, a->fd);
  net_reset(a->fd);                /* nothing was said on it, and no TIME_WAIT is to stay behind */
  a->fd = -1;
  a->dial->live--;
}

void dial_stop(struct dial *d) {
  if (d == NULL) return;
  CHECK_MAGIC(d, DIAL_MAGIC);
  d->magic = 0;
  loop_timer_stop(&d->next);
  loop_timer_stop(&d->deadline);
  for (size_t i = 0; i < d->n; i++) attempt_end(&d->attempts[i]);
  loop_defer(d->loop, &d->defer, dial_free);
}

static void dial_finish(struct dial *d, int fd, const struct addr *to) {
  dial_fn *fn = d->fn;
  void *user = d->user;
  struct err err = d->err;
  struct addr address;
  memset(&address, 0, sizeof address);
  if (to != NULL) address = *to;
  dial_stop(d);
  fn(user, fd, &address, &err);
}

/* Of several addresses, one that refuses says most: there is somebody, who may listen soon. */
static void dial_failed(struct dial *d, const struct attempt *a, int code) {
  char text[ADDR_TEXT_CAP];
  int why = code == ECONNREFUSED ? ERR_CLOSED : ERR_IO;
  if (d->err.code == ERR_CLOSED) return;
  addr_format(&a->to, text, sizeof text);
  if (d->n == 1) err_set(&d->err, why, "%s", strerror(code));   /* the caller has named the only address */
  else err_set(&d->err, why, "%s: %s", text, strerror(code));
}

static void dial_connected(struct dial *d, struct attempt *a, bool was_reset) {
  int fd = a->fd;
  loop_io_del(&a->io);
  a->fd = -1;
  d->live--;
  d->err = (struct err){0};        /* of the others */
  if (was_reset) err_set(&d->err, ERR_CLOSED, "it was reset at once");
  dial_finish(d, fd, &a->to);
}

static void attempt_ready(struct loop_io *io, uint32_t events) {
  (void)events;
  struct attempt *a = CONTAINER_OF(io, struct attempt, io);
  struct dial *d = a->dial;
  CHECK_MAGIC(d, DIAL_MAGIC);
  if (addr_is_unix(&a->to)) {
    dial_connected(d, a, false);
    return;
  }
  int r = net_connect_result(a->fd);
  if (r == NET_AGAIN) return;
  bool connected = r == 0 || (r == NET_RESET && d->hears_resets);
  if (connected && net_stream_setup(a->fd) == 0) {
    dial_connected(d, a, r == NET_RESET);
    return;
  }
  dial_failed(d, a, connected ? errno : r == NET_RESET ? ECONNRESET : -r);
  attempt_end(a);
  dial_try(d);
}

static void dial_next_due(struct loop_timer *t) {
  dial_try(CONTAINER_OF(t, struct dial, next));
}

static void dial_deadline_due(struct loop_timer *t) {
  struct dial *d = CONTAINER_OF(t, struct dial, deadline);
  if (d->live > 0 || d->err.code == 0) {
    char text[ADDR_TEXT_CAP];
    addr_format(&d->attempts[0].to, text, sizeof text);
    err_set(&d->err, ERR_TIMEOUT, "%s: no answer", text);
  }
  dial_finish(d, -1, NULL);
}

/* Begins the next attempt; when none is left and none is under way, the deadline is now. */
static void dial_try(struct dial *d) {
  while (d->begun < d->n) {
    struct attempt *a = &d->attempts[d->begun++];
    struct err e = {0};
    a->fd = net_connect(&a->to, &e);
    if (a->fd == NET_AGAIN) {
      a->fd = -1;
      d->begun--;
      (void)loop_timer_set(d->loop, &d->next, UNIX_BUSY_RETRY_MS, dial_next_due);
      return;
    }
    if (a->fd < 0) {
      if (d->err.code != ERR_CLOSED) d->err = e;
      a->fd = -1;
      continue;
    }
    d->live++;
    descriptors_add(d->descriptors, a->fd);
    if (loop_io_add(d->loop, &a->io, a->fd, EPOLLOUT, attempt_ready) != 0) {
      err_set(&d->err, ERR_NOMEM, "out of memory");
      attempt_end(a);
      continue;
    }
    if (d->begun < d->n) (void)loop_timer_set(d->loop, &d->next, CONNECT_STAGGER_MS, dial_next_due);
    return;
  }
  if (d->live == 0) (void)loop_timer_set(d->loop, &d->deadline, 0, dial_deadline_due);
}

int dial_at_once(struct descriptors *descriptors, const struct addr *addrs, size_t n, bool *was_reset) {
  int fd = -1;
  for (size_t i = 0; fd < 0 && i < n && (addr_is_unix(&addrs[i]) || addr_is_loopback(&addrs[i])); i++)
    fd = net_connect_at_once(&addrs[i], was_reset);
  if (fd >= 0 && net_stream_setup(fd) != 0) {
    net_reset(fd);
    fd = -1;
  }
  if (fd >= 0) descriptors_add(descriptors, fd);
  return fd;
}

void dial_hear_resets(struct dial *d) { d->hears_resets = true; }

struct dial *dial_start(struct loop *l, struct descriptors *descriptors, const struct addr *addrs, size_t n,
                        uint64_t deadline_ms, dial_fn *fn, void *user) {
  struct dial *d = calloc(1, sizeof *d + n * sizeof d->attempts[0]);
  if (d == NULL) return NULL;
  *d = (struct dial){.magic = DIAL_MAGIC, .loop = l, .descriptors = descriptors, .fn = fn, .user = user, .n = n};
  for (size_t i = 0; i < n; i++) d->attempts[i] = (struct attempt){.dial = d, .fd = -1, .to = addrs[i]};
  if (loop_timer_set(l, &d->deadline, deadline_ms, dial_deadline_due) != 0) {
    free(d);
    return NULL;
  }
  dial_try(d);
  return d;
}
