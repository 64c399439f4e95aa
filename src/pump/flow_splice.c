/* Bytes as they are, through a pipe, without passing through this process. The hard thing: EAGAIN from splice says nothing about
   which end would block, nor that the socket is drained while the pipe holds bytes. So the pipe is empty before every read,
   never holds more than a buffer would, and the descriptors are waited for level-triggered. */
#include <unistd.h>

#include "loop/net.h"
#include "pump/flow.h"

_Static_assert((int)PIPE_BYTES <= (int)STREAM_BUFFER_BYTES, "flow_pipe_to_buffer");

enum { SPLICE_SHORT_BYTES = 16384 };             /* a read shorter than this took all that was there, most likely */

static enum flow_result splice_fill(struct flow *f) {
  if (f->pipe == NULL) f->pipe = pool_pipe_take(f->pump->pool);
  if (f->pipe == NULL) return flow_copy_fill(f);
  ssize_t n = net_splice(f->source->fd, f->pipe->write_fd, PIPE_BYTES, false);
  /* Before a byte of urgent data splice says so for ever, while epoll calls the socket readable. */
  if (n == NET_AGAIN) return flow_copy_fill(f);
  if (n > 0) {
    f->piped = (size_t)n;
    f->spent += (size_t)n;
    f->dry = n < SPLICE_SHORT_BYTES;
  }
  if (n == 0) f->source->at_end = true;
  return flow_of_net(n);
}

static void reclaim_pipes(struct loop_timer *t) {
  struct pump_pool *pool = CONTAINER_OF(t, struct pump_pool, reclaim);
  uint64_t now = loop_now_ms(pool->loop);
  LIST_FOREACH(&pool->blocked, it) {
    struct flow *f = CONTAINER_OF(it, struct flow, blocked);
    if (now < f->blocked_since_ms + PIPE_BLOCKED_MAX_MS) break;
    flow_pipe_to_buffer(f);
  }
  /* Without a timer the pipes stay where they are until their sinks move: scarcer, not wrong. */
  if (!list_empty(&pool->blocked)) (void)!loop_timer_set(pool->loop, t, PIPE_BLOCKED_MAX_MS, reclaim_pipes);
}

static void splice_blocked(struct flow *f) {
  struct pump_pool *pool = f->pump->pool;
  if (!list_empty(&f->blocked)) return;
  f->blocked_since_ms = loop_now_ms(pool->loop);
  list_push_tail(&pool->blocked, &f->blocked);
  if (!loop_timer_is_set(&pool->reclaim)) {
    (void)!loop_timer_set(pool->loop, &pool->reclaim, PIPE_BLOCKED_MAX_MS, reclaim_pipes);
  }
}

void flow_pipe_to_buffer(struct flow *f) {
  list_remove(&f->blocked);
  if (f->pipe == NULL || f->piped == 0) return;
  struct buffer *b = flow_buffer(f);
  if (b == NULL) return;
  ASSERT(!buffer_has_segments(b) && f->piped <= sizeof(b->bytes));
  size_t have = 0;
  while (have < f->piped) {
    ssize_t n = read(f->pipe->read_fd, b->bytes + have, f->piped - have);
    ASSERT(n > 0);
    have += (size_t)n;
  }
  b->used = have;
  buffer_segment_push(b, b->bytes, have);
  f->piped = 0;
  pool_pipe_return(f->pump->pool, f->pipe);
  f->pipe = NULL;
}

static enum flow_result splice_drain(struct flow *f) {
  enum flow_result r = flow_segments_drain(f);
  if (r != FLOW_MOVED) return r;
  while (f->piped > 0) {
    ssize_t n = net_splice(f->pipe->read_fd, f->sink->fd, f->piped, false);
    if (n == NET_AGAIN) {
      splice_blocked(f);
      return FLOW_BLOCKED;
    }
    if (n <= 0) return FLOW_RESET;
    list_remove(&f->blocked);
    f->piped -= (size_t)n;
    flow_count(f, (size_t)n);
  }
  return FLOW_MOVED;
}

const struct flow_kind flow_kind_splice = {.fill = splice_fill, .drain = splice_drain};
