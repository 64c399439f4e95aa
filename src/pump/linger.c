/* Sockets that outlive their pump for a moment. Closing a socket with unread input makes the kernel reset it and
   destroys what the other end has not read yet, so a cleanly ended one discards input until EOF; and resetting a socket
   at once destroys what was just written to it, so a last alert waits for its acknowledgement. Both have a named
   limit. */
#include <linux/sockios.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include "loop/net.h"
#include "pump/pool.h"

struct linger_socket {
  struct pump_pool *pool;
  struct list link;
  struct loop_io io;
  struct loop_timer timer;
  struct loop_deferred deferred;
  int fd;
  uint64_t until_ms;
};

bool socket_is_delivered(int fd) {
  int queued = 0;
  return ioctl(fd, SIOCOUTQ, &queued) != 0 || queued == 0;
}

static void linger_free(struct loop_deferred *d) {
  free(CONTAINER_OF(d, struct linger_socket, deferred));
}

static void linger_leave(struct linger_socket *s) {
  loop_io_del(&s->io);
  loop_timer_stop(&s->timer);
  list_remove(&s->link);
  s->pool->lingers_n--;
  loop_defer(s->pool->loop, &s->deferred, linger_free);
}

static void linger_done(struct linger_socket *s) {
  linger_leave(s);
  pool_close(s->pool, s->fd);
}

/* Nobody's limit counts these, so they have one of their own. */
static struct linger_socket *linger_new(struct pump_pool *pool, int fd) {
  if (pool->lingers_n >= pool->lingers_max) linger_done(CONTAINER_OF(pool->lingers.next, struct linger_socket, link));
  struct linger_socket *s = calloc(1, sizeof *s);
  if (s == NULL) return NULL;
  s->pool = pool;
  s->fd = fd;
  pool->lingers_n++;
  list_push_tail(&pool->lingers, &s->link);
  return s;
}

static void discard_event(struct loop_io *io, uint32_t events) {
  struct linger_socket *s = CONTAINER_OF(io, struct linger_socket, io);
  uint8_t scrap[16384];
  (void)events;
  for (size_t spent = 0; spent < loop_share(s->pool->loop);) {
    ssize_t n = net_recv(s->fd, scrap, sizeof scrap);
    if (n == NET_AGAIN) return;
    if (n <= 0) {
      linger_done(s);
      return;
    }
    spent += (size_t)n;
  }
}

static void discard_timeout(struct loop_timer *t) {
  linger_done(CONTAINER_OF(t, struct linger_socket, timer));
}

void linger_discard(struct pump_pool *pool, int fd, struct loop_io *from) {
  struct linger_socket *s = linger_new(pool, fd);
  if (s == NULL) {
    if (from != NULL) loop_io_del(from);
    pool_close(pool, fd);
    return;
  }
  if (loop_io_take(pool->loop, &s->io, fd, EPOLLIN, discard_event, from) != 0 ||
      loop_timer_set(pool->loop, &s->timer, LINGER_DISCARD_MS, discard_timeout) != 0) {
    linger_done(s);
  }
}

void pump_linger_close(struct pump_pool *pool, int fd) {
  net_linger_off(fd);
  net_shutdown_write(fd);
  linger_discard(pool, fd, NULL);
}

static void reset_check(struct loop_timer *t) {
  struct linger_socket *s = CONTAINER_OF(t, struct linger_socket, timer);
  struct loop *l = s->pool->loop;
  if (socket_is_delivered(s->fd) || loop_now_ms(l) >= s->until_ms ||
      loop_timer_set(l, t, RESET_CHECK_MS, reset_check) != 0) {
    linger_done(s);
  }
}

void linger_reset(struct pump_pool *pool, int fd) {
  struct linger_socket *s = socket_is_delivered(fd) ? NULL : linger_new(pool, fd);
  if (s == NULL) {
    pool_close(pool, fd);
    return;
  }
  s->until_ms = loop_now_ms(pool->loop) + RESET_DELIVERY_MS;
  if (loop_timer_set(pool->loop, &s->timer, RESET_CHECK_MS, reset_check) != 0) linger_done(s);
}

int pump_linger_take(struct pump_pool *pool, bool *resets) {
  if (list_empty(&pool->lingers)) return -1;
  struct linger_socket *s = CONTAINER_OF(pool->lingers.next, struct linger_socket, link);
  *resets = s->until_ms != 0;
  linger_leave(s);
  return s->fd;
}

void pump_linger_give(struct pump_pool *pool, int fd, bool resets) {
  if (resets) linger_reset(pool, fd);
  else linger_discard(pool, fd, NULL);
}

void lingers_close(struct pump_pool *pool) {
  LIST_FOREACH(&pool->lingers, it) linger_done(CONTAINER_OF(it, struct linger_socket, link));
}
