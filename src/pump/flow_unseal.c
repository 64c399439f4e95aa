/* From the wire to the peer through the record layer: records are opened in place and their plaintexts written
   together. A partial record stays in the buffer, behind everything that was understood. An end without close_notify is
   a truncation. */
#include <string.h>

#include "loop/net.h"
#include "pump/flow.h"

/* Opens records until no full one is left, or no segment. MOVED: wants more bytes, or has segments to write. */
static enum flow_result unseal_records(struct flow *f, struct buffer *b) {
  while (b->segments < BUFFER_SEGMENTS_MAX) {
    size_t consumed = 0, n = 0;
    uint8_t *plain = NULL;
    enum sealed_result r = sealed_read(f->pump->sealed, b->bytes + b->start, b->end - b->start, &consumed, &plain, &n);
    b->start += consumed;
    switch (r) {
      case SEALED_MORE:
        f->more = false;
        return FLOW_MOVED;
      case SEALED_DATA:
        f->idle_per_s.data++;
        buffer_segment_push(b, plain, n);
        break;
      case SEALED_NOTHING:
        if (idle_records_flood(&f->idle_per_s, loop_now_ms(f->pump->pool->loop))) {
          sealed_fail(f->pump->sealed, ALERT_UNEXPECTED_MESSAGE);
          f->verdict = FLOW_VIOLATION;
          break;
        }
        if (++f->idle_records < IDLE_RECORDS_PER_TURN_MAX) break;
        f->more = true;
        return FLOW_MOVED;
      case SEALED_EOF:
        f->verdict = FLOW_CLEAN_END;
        break;
      case SEALED_PEER_ALERT:
        f->verdict = FLOW_ALERTED;
        break;
      case SEALED_FAILED:
        f->verdict = FLOW_VIOLATION;
        break;
    }
    if (f->verdict != FLOW_MOVED) {
      b->start = b->end = 0;
      f->more = true;
      return FLOW_MOVED;
    }
  }
  f->more = true;
  return FLOW_MOVED;
}

static enum flow_result unseal_fill(struct flow *f) {
  struct buffer *b = f->more ? flow_buffer(f) : flow_room(f);
  if (b == NULL) return FLOW_NO_MEMORY;
  if (f->more) return unseal_records(f, b);
  memmove(b->bytes, b->bytes + b->start, b->end - b->start);
  b->end -= b->start;
  b->start = 0;
  size_t most = flow_most(f, b->size - b->end);
  ssize_t n = wire_recv(&f->source->at, b->bytes + b->end, most);
  if (n == 0) {
    f->source->at_end = true;
    return f->source->reset ? FLOW_RESET : FLOW_TRUNCATED;
  }
  if (n < 0) return flow_of_net(n);
  flow_took(f, (size_t)n);
  f->dry = (size_t)n < most;
  b->end += (size_t)n;
  b->used = size_max(b->used, b->end);
  return unseal_records(f, b);
}

const struct flow_kind flow_kind_unseal = {.fill = unseal_fill, .drain = flow_segments_drain};
