/* From the peer to the wire through the record layer: plaintext is read straight into record-sized slots and sealed
   where it lies, so that one write carries several records. Records that are owed (an answer to KeyUpdate, our own,
   alerts) go before the next data, also between two slots. */
#include "loop/net.h"
#include "pump/flow.h"

enum { SLOTS_MAX = 16 };

struct slots {                     /* of the flow's buffer, each with room for its record's framing */
  struct iovec at[SLOTS_MAX];
  size_t n, fragment;
};

enum flow_result flow_owed_fill(struct flow *f) {
  struct sealed *s = f->pump->sealed;
  if (!sealed_owes(s)) return FLOW_CLEAN_END;
  struct buffer *b = flow_buffer(f);
  if (b == NULL) return FLOW_NO_MEMORY;
  ASSERT(b->owed_n + SEALED_OWED_MAX <= sizeof b->owed);
  size_t n = sealed_write_owed(s, b->owed + b->owed_n);
  if (n == 0) return FLOW_CLEAN_END;
  buffer_segment_push(b, b->owed + b->owed_n, n);
  b->owed_n += n;
  return FLOW_MOVED;
}

/* n bytes lie in slots of `fragment` bytes, all full but the last. */
static enum flow_result seal_slots(struct flow *f, size_t n, size_t fragment) {
  struct buffer *b = f->buffer;
  uint8_t *record = b->bytes;
  size_t overhead = sealed_overhead(f->pump->sealed);
  f->plain_held = n;
  b->used = size_max(b->used, size_min(b->size, n + (n / fragment + 1) * overhead));
  while (n > 0) {
    size_t part = size_min(n, fragment);
    if (flow_owed_fill(f) == FLOW_NO_MEMORY) return FLOW_NO_MEMORY;
    if (sealed_write(f->pump->sealed, record, part) != 0) return FLOW_NO_MEMORY;
    buffer_segment_push(b, record, part + overhead);
    record += part + overhead;
    n -= part;
  }
  return FLOW_MOVED;
}

/* CLEAN_END: none was owed, and data may be written, into the slots. After our fatal alert none may: the other
   direction has read a violation, and tells of it only when its sink has taken what came before. */
static enum flow_result seal_begin(struct flow *f, struct slots *s) {
  enum flow_result r = flow_owed_fill(f);
  if (r != FLOW_CLEAN_END) return r;
  if (sealed_write_ended(f->pump->sealed)) return FLOW_VIOLATION;
  struct buffer *b = flow_room(f);
  if (b == NULL) return FLOW_NO_MEMORY;
  s->fragment = sealed_fragment_max(f->pump->sealed);
  size_t slot = s->fragment + sealed_overhead(f->pump->sealed);
  s->n = size_min(SLOTS_MAX, b->size / slot);
  for (size_t i = 0; i < s->n; i++) {
    s->at[i].iov_base = b->bytes + i * slot + sealed_lead(f->pump->sealed);
    s->at[i].iov_len = s->fragment;
  }
  return FLOW_CLEAN_END;
}

/* Leaves room for no more than `most` bytes; returns for how many there is. */
static size_t slots_shorten(struct slots *s, size_t most) {
  size_t room = 0, n = 0;
  for (; n < s->n && room < most; n++) {
    s->at[n].iov_len = size_min(s->at[n].iov_len, most - room);
    room += s->at[n].iov_len;
  }
  s->n = n;
  return room;
}

static enum flow_result seal_fill(struct flow *f) {
  struct slots slots;
  enum flow_result r = seal_begin(f, &slots);
  if (r != FLOW_CLEAN_END) return r;
  size_t most = slots_shorten(&slots, flow_most(f, SIZE_MAX));
  ssize_t n = net_readv(f->source->at.fd, slots.at, (int)slots.n);
  if (n == 0) f->source->at_end = true;
  if (n <= 0) return flow_of_net(n);
  flow_took(f, (size_t)n);
  f->dry = (size_t)n < most;
  return seal_slots(f, (size_t)n, slots.fragment);
}

static enum flow_result seal_drain(struct flow *f) {
  struct buffer *b = f->buffer;
  if (b == NULL) return FLOW_MOVED;
  while (buffer_has_segments(b)) {
    ssize_t n = wire_sendv(&f->sink->at, &b->segment[b->segment_at], (int)(b->segments - b->segment_at));
    if (n == NET_AGAIN) return FLOW_BLOCKED;
    if (n < 0) return FLOW_RESET;
    flow_wrote(f);
    buffer_segments_sent(b, (size_t)n);
  }
  flow_count(f, f->plain_held);
  f->plain_held = 0;
  return FLOW_MOVED;
}

static enum flow_result seal_finish(struct flow *f) {
  if (!f->source_done) {
    f->source_done = true;
    sealed_close(f->pump->sealed);
  }
  return flow_owed_fill(f);
}

const struct flow_kind flow_kind_seal = {.fill = seal_fill, .drain = seal_drain, .finish = seal_finish};
