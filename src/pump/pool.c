/* Pipes and buffers, lent while bytes are on their way, and the totals. The hard thing: pipes are a scarce resource of
   the whole user (pipe-user-pages-soft), so their number in the process is capped, each pool has its share, and having
   none is normal. */
#include "pump/pool.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/secret.h"
#include "loop/net.h"

void pool_count(uint64_t *total, int64_t change) {
  __atomic_store_n(total, __atomic_load_n(total, __ATOMIC_RELAXED) + (uint64_t)change, __ATOMIC_RELAXED);
}

/* Pools that there are in this process. */
static _Atomic unsigned pools;

static unsigned pipes_share(const struct pump_pool *pool) {
  unsigned n = atomic_load_explicit(&pools, memory_order_relaxed), share = n < PIPES_MAX ? PIPES_MAX / n : 1;
  return share < pool->pipes_max ? share : pool->pipes_max;
}

void pump_pool_limit(struct pump_pool *p, unsigned pipes_max, unsigned lingers_max) {
  p->pipes_max = pipes_max;
  p->lingers_max = lingers_max > 0 ? (unsigned)size_min(lingers_max, LINGERS_PER_LOOP_MAX) : 1;
}

static void pipe_destroy(struct pump_pool *pool, struct pipe_pair *pipe) {
  net_close(pipe->read_fd);
  net_close(pipe->write_fd);
  free(pipe);
  pool->pipes_made--;
}

struct pipe_pair *pool_pipe_take(struct pump_pool *pool) {
  struct pipe_pair *pipe;
  if (!list_empty(&pool->pipes_idle)) {
    pipe = CONTAINER_OF(pool->pipes_idle.next, struct pipe_pair, link);
    list_remove(&pipe->link);
    pool_count(&pool->stats.pipes_pooled, -1);
  } else {
    int fds[2];
    if (pool->pipes_made >= pipes_share(pool)) return NULL;
    pipe = malloc(sizeof *pipe);
    if (pipe == NULL) return NULL;
    if (net_pipe(fds) != 0) {
      free(pipe);
      return NULL;
    }
    /* Refused to an unprivileged user who has many: then it stays as it is and moves less at a time. */
    (void)!fcntl(fds[1], F_SETPIPE_SZ, PIPE_BYTES);
    list_init(&pipe->link);
    pipe->read_fd = fds[0];
    pipe->write_fd = fds[1];
    pool->pipes_made++;
  }
  pool_count(&pool->stats.pipes, 1);
  return pipe;
}

void pool_pipe_return(struct pump_pool *pool, struct pipe_pair *pipe) {
  pool_count(&pool->stats.pipes, -1);
  if (pool->pipes_made > pipes_share(pool)) {        /* other pools have come */
    pipe_destroy(pool, pipe);
    return;
  }
  list_push_head(&pool->pipes_idle, &pipe->link);
  pool_count(&pool->stats.pipes_pooled, 1);
}

void pool_pipe_discard(struct pump_pool *pool, struct pipe_pair *pipe) {
  pipe_destroy(pool, pipe);
  pool_count(&pool->stats.pipes, -1);
}

bool pool_is_lean(const struct pump_pool *pool) {
  return pool->lent_bytes + STREAM_BUFFER_BYTES > BUFFERS_LENT_PER_LOOP_MAX_BYTES;
}

static struct buffer *buffer_lend(struct pump_pool *pool, struct buffer *b, size_t size) {
  if (b == NULL) return NULL;
  list_init(&b->link);
  b->size = size;
  pool->lent_bytes += size;
  b->start = b->end = b->used = 0;
  b->segment_at = b->segments = 0;
  b->owed_n = 0;
  pool_count(&pool->stats.buffers, 1);
  return b;
}

struct buffer *pool_buffer_take_fitting(struct pump_pool *pool, size_t n) {
  return buffer_lend(pool, malloc(sizeof(struct buffer) + n), n);
}

struct buffer *pool_buffer_take(struct pump_pool *pool) {
  if (pool_is_lean(pool)) return pool_buffer_take_fitting(pool, STREAM_BUFFER_SMALL_BYTES);
  if (list_empty(&pool->buffers_idle)) return pool_buffer_take_fitting(pool, STREAM_BUFFER_BYTES);
  struct buffer *b = CONTAINER_OF(pool->buffers_idle.next, struct buffer, link);
  list_remove(&b->link);
  pool_count(&pool->stats.buffers_pooled, -1);
  if (pool->stats.buffers_pooled < pool->buffers_spare) pool->buffers_spare = pool->stats.buffers_pooled;
  return buffer_lend(pool, b, STREAM_BUFFER_BYTES);
}

void pool_buffers_trim(struct pump_pool *pool) {
  for (; pool->buffers_spare > 0; pool->buffers_spare--) {
    struct buffer *b = CONTAINER_OF(pool->buffers_idle.prev, struct buffer, link);
    list_remove(&b->link);
    free(b);
    pool_count(&pool->stats.buffers_pooled, -1);
  }
  pool->buffers_spare = pool->stats.buffers_pooled;
}

void pool_buffer_return(struct pump_pool *pool, struct buffer *b) {
  wipe(b->bytes, b->used);
  pool_count(&pool->stats.buffers, -1);
  pool->lent_bytes -= b->size;
  if (b->size != STREAM_BUFFER_BYTES || pool->stats.buffers_pooled >= BUFFERS_IDLE_PER_LOOP_MAX) {
    free(b);
    return;
  }
  list_push_head(&pool->buffers_idle, &b->link);
  pool_count(&pool->stats.buffers_pooled, 1);
  (void)!pool_sweep_later(pool);   /* which gives back those that nobody wants */
}

void buffer_segment_push(struct buffer *b, uint8_t *p, size_t n) {
  if (b->segments > b->segment_at) {
    struct iovec *last = &b->segment[b->segments - 1];
    if ((uint8_t *)last->iov_base + last->iov_len == p) {
      last->iov_len += n;
      return;
    }
  }
  ASSERT(b->segments < BUFFER_SEGMENTS_MAX);
  b->segment[b->segments++] = (struct iovec){.iov_base = p, .iov_len = n};
}

size_t buffer_to_write(const struct buffer *b) {
  size_t n = 0;
  for (unsigned i = b->segment_at; i < b->segments; i++) n += b->segment[i].iov_len;
  return n;
}

size_t buffer_held(const struct buffer *b) { return b->end - b->start + buffer_to_write(b); }

void buffer_move(struct buffer *to, const struct buffer *from) {
  size_t n = 0;
  for (unsigned i = from->segment_at; i < from->segments; i++) {
    memcpy(to->bytes + n, from->segment[i].iov_base, from->segment[i].iov_len);
    n += from->segment[i].iov_len;
  }
  if (n > 0) buffer_segment_push(to, to->bytes, n);
  memcpy(to->bytes + n, from->bytes + from->start, from->end - from->start);
  to->start = n;
  to->end = to->used = n + from->end - from->start;
  ASSERT(to->end <= to->size);
}

size_t buffer_segments_sent(struct buffer *b, size_t n) {
  while (n > 0) {
    ASSERT(b->segment_at < b->segments);
    struct iovec *at = &b->segment[b->segment_at];
    size_t part = size_min(n, at->iov_len);
    at->iov_base = (uint8_t *)at->iov_base + part;
    at->iov_len -= part;
    n -= part;
    if (at->iov_len == 0) b->segment_at++;
  }
  if (b->segment_at == b->segments) {
    b->segment_at = b->segments = 0;
    b->owed_n = 0;
  }
  return b->segments - b->segment_at;
}

void pool_close(struct pump_pool *pool, int fd) {
  if (pool->closing != NULL) pool->closing(pool->closing_user, fd);
  net_close(fd);
}

void pump_pool_on_closing(struct pump_pool *p, void (*closing)(void *user, int fd), void *user) {
  p->closing = closing;
  p->closing_user = user;
}

const struct pump_stats *pump_pool_stats(const struct pump_pool *p) {
  return &p->stats;
}

struct pump_pool *pump_pool_new(struct loop *l, enum pump_mode mode, struct err *e) {
  struct pump_pool *pool = calloc(1, sizeof *pool);
  if (pool == NULL) {
    err_set(e, ERR_NOMEM, "pump: out of memory");
    return NULL;
  }
  atomic_fetch_add(&pools, 1);
  pool->loop = l;
  pool->mode = mode;
  pool->pipes_max = PIPES_MAX;
  pool->lingers_max = LINGERS_PER_LOOP_MAX;
  list_init(&pool->active);
  list_init(&pool->lingers);
  list_init(&pool->pipes_idle);
  list_init(&pool->buffers_idle);
  list_init(&pool->holding);
  return pool;
}

void pump_pool_free(struct pump_pool *pool) {
  if (pool == NULL) return;
  ASSERT(pool->stats.pumps == 0 && list_empty(&pool->active));
  loop_timer_stop(&pool->sweep);
  loop_timer_stop(&pool->reclaim);
  lingers_close(pool);
  LIST_FOREACH(&pool->pipes_idle, it) pipe_destroy(pool, CONTAINER_OF(it, struct pipe_pair, link));
  LIST_FOREACH(&pool->buffers_idle, it) free(CONTAINER_OF(it, struct buffer, link));
  ASSERT(pool->pipes_made == 0 && pool->stats.buffers == 0 && pool->lent_bytes == 0);
  atomic_fetch_sub(&pools, 1);
  free(pool);
}
