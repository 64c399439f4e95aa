/* Bytes as they are, through a pipe, without passing through this process. The hard thing: EAGAIN from splice says
   nothing about which end would block, nor that the socket is drained while the pipe holds bytes. So the pipe is empty
   before every read, never holds more than a buffer would, and the descriptors are waited for level-triggered. */
#include "loop/net.h"
#include "pump/flow.h"

enum {
  SPLICE_SHORT_BYTES = 1 << 16,                  /* a read shorter than this took all that was there, most likely */
  SPLICE_LEAN_BYTES = 16384
};

static enum flow_result splice_fill(struct flow *f) {
  if (f->pipe == NULL) f->pipe = pool_pipe_take(f->pump->pool);
  if (f->pipe == NULL) return flow_copy_fill(f);
  size_t most = flow_most(f, pool_is_lean(f->pump->pool) ? SPLICE_LEAN_BYTES : PIPE_BYTES);
  ssize_t n = net_splice(f->source->at.fd, f->pipe->write_fd, most, false);
  /* Before a byte of urgent data splice says so for ever, while epoll calls the socket readable: it tells of it
     again. */
  if (n == NET_AGAIN) return f->spent > 0 && f->pump->phase == PUMP_RUNS ? FLOW_BLOCKED : flow_copy_fill(f);
  if (n > 0) {
    f->piped = (size_t)n;
    flow_took(f, (size_t)n);
    f->dry = (size_t)n < size_min(most, SPLICE_SHORT_BYTES);
  }
  if (n == 0) f->source->at_end = true;
  return flow_of_net(n);
}

static enum flow_result splice_drain(struct flow *f) {
  enum flow_result r = flow_segments_drain(f);
  if (r != FLOW_MOVED) return r;
  while (f->piped > 0) {
    ssize_t n = net_splice(f->pipe->read_fd, f->sink->at.fd, f->piped, false);
    if (n == NET_AGAIN) return FLOW_BLOCKED;
    if (n <= 0) return FLOW_RESET;
    f->piped -= (size_t)n;
    flow_count(f, (size_t)n);
  }
  return FLOW_MOVED;
}

const struct flow_kind flow_kind_splice = {.fill = splice_fill, .drain = splice_drain};
