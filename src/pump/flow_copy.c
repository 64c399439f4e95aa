/* Bytes as they are, through a buffer: the twin of splice, and what it falls back to. */
#include "loop/net.h"
#include "pump/flow.h"

enum flow_result flow_copy_fill(struct flow *f) {
  struct buffer *b = flow_room(f);
  if (b == NULL) return FLOW_NO_MEMORY;
  size_t most = flow_most(f, b->size);
  ssize_t n = wire_recv(&f->source->at, b->bytes, most);
  if (n > 0) {
    b->used = size_max(b->used, (size_t)n);
    flow_took(f, (size_t)n);
    f->dry = (size_t)n < most;
    buffer_segment_push(b, b->bytes, (size_t)n);
  }
  if (n == 0) f->source->at_end = true;
  return flow_of_net(n);
}

/* Writes the segments of the buffer, whoever put them there. */
enum flow_result flow_segments_drain(struct flow *f) {
  struct buffer *b = f->buffer;
  if (b == NULL) return FLOW_MOVED;
  while (buffer_has_segments(b)) {
    ssize_t n = wire_sendv(&f->sink->at, &b->segment[b->segment_at], (int)(b->segments - b->segment_at));
    if (n == NET_AGAIN) return FLOW_BLOCKED;
    if (n < 0) return FLOW_RESET;
    buffer_segments_sent(b, (size_t)n);
    flow_count(f, (size_t)n);
  }
  return FLOW_MOVED;
}

const struct flow_kind flow_kind_copy = {.fill = flow_copy_fill, .drain = flow_segments_drain};
