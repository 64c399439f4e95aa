/* What a flow keeps between two turns because its sink is blocked, or because half a record came. It may do so for a
   moment; then it keeps its bytes and nothing more, so that thousands of visitors who never read cost what the kernel
   had handed us for them and not a full buffer each. To a stream that moves this must not happen. */
#include <unistd.h>

#include "pump/flow.h"

bool flow_gather(struct flow *f) {
  struct pump_pool *pool = f->pump->pool;
  if (f->pipe == NULL) return true;
  ASSERT(f->piped > 0 && f->buffer == NULL);
  struct buffer *b = pool_buffer_take_fitting(pool, f->piped);
  if (b == NULL) return false;
  while (b->used < f->piped) {
    ssize_t n = read(f->pipe->read_fd, b->bytes + b->used, f->piped - b->used);
    ASSERT(n > 0);
    b->used += (size_t)n;
  }
  buffer_segment_push(b, b->bytes, b->used);
  f->buffer = b;
  f->piped = 0;
  pool_pipe_return(pool, f->pipe);
  f->pipe = NULL;
  return true;
}

static void flow_fit_buffer(struct flow *f) {
  struct pump_pool *pool = f->pump->pool;
  struct buffer *b = pool_buffer_take_fitting(pool, buffer_held(f->buffer));
  if (b == NULL) return;
  buffer_move(b, f->buffer);
  pool_buffer_return(pool, f->buffer);
  f->buffer = b;
}

static bool flow_keeps_too_much(const struct flow *f) {
  return f->pipe != NULL || (f->buffer != NULL && f->buffer->size > buffer_held(f->buffer) + HOLD_SLACK_BYTES);
}

static void reclaim(struct loop_timer *t) {
  struct pump_pool *pool = CONTAINER_OF(t, struct pump_pool, reclaim);
  uint64_t now = loop_now_ms(pool->loop);
  LIST_FOREACH(&pool->holding, it) {
    struct flow *f = CONTAINER_OF(it, struct flow, holding);
    if (now < f->holding_since_ms + HOLD_MAX_MS) break;
    list_remove(&f->holding);
    if (f->pipe != NULL) (void)flow_gather(f);
    else flow_fit_buffer(f);
  }
  /* Without a timer everything stays where it is until the sinks move: scarcer, not wrong. */
  if (!list_empty(&pool->holding)) (void)!loop_timer_set(pool->loop, t, HOLD_MAX_MS, reclaim);
}

void flow_hold(struct flow *f) {
  struct pump_pool *pool = f->pump->pool;
  if (!flow_keeps_too_much(f)) {
    list_remove(&f->holding);
    return;
  }
  if (!list_empty(&f->holding)) return;
  f->holding_since_ms = loop_now_ms(pool->loop);
  list_push_tail(&pool->holding, &f->holding);
  if (!loop_timer_is_set(&pool->reclaim)) (void)!loop_timer_set(pool->loop, &pool->reclaim, HOLD_MAX_MS, reclaim);
}
