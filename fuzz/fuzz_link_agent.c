/* An agent's end of a control link against a relay that keeps to no rule. */
#include "link_world.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int on_welcome(struct engine *e, const struct frame *f) {
  struct frame_welcome welcome;
  ASSERT(e->state == LINK_HELLO);
  (void)frame_welcome_decode(f->body, &welcome);
  return world_opens(e, 0);
}

static int on_goodbye(struct engine *e, const struct frame *f) {
  struct frame_goodbye goodbye;
  int rc = world_handled(e, frame_goodbye_decode(f->body, &goodbye));
  if (rc == 0) engine_stop(e);
  return rc;
}

static int decode(const struct frame *f) {
  union {
    struct frame_bound bound;
    struct frame_unbound unbound;
    struct frame_ticket ticket;
    struct frame_notice notice;
    struct frame_revoked revoked;
    uint64_t number;
    uint16_t count;
  } m;
  switch (f->type) {
    case FRAME_BOUND: return frame_bound_decode(f->body, &m.bound);
    case FRAME_UNBOUND: return frame_unbound_decode(f->body, &m.unbound);
    case FRAME_TICKET: return frame_ticket_decode(f->body, &m.ticket);
    case FRAME_NOTICE: return frame_notice_decode(f->body, &m.notice);
    case FRAME_REVOKED: return frame_revoked_decode(f->body, &m.revoked);
    case FRAME_WANT: return frame_want_decode(f->body, &m.count);
    default: return frame_arrived_decode(f->body, &m.number);
  }
}

static int on_other(struct engine *e, const struct frame *f) {
  ASSERT(e->state == LINK_UP);
  return world_handled(e, decode(f));
}

static const struct engine_role role = {.hello_max_bytes = FRAME_BODY_MAX_BYTES,
                                        .now_ms = world_now_ms,
                                        .heard = world_heard,
                                        .rules = {[FRAME_WELCOME] = {WHILE_HELLO, on_welcome},
                                                  [FRAME_GOODBYE] = {WHILE_HELLO | WHILE_UP, on_goodbye},
                                                  [FRAME_BOUND] = {WHILE_UP, on_other},
                                                  [FRAME_UNBOUND] = {WHILE_UP, on_other},
                                                  [FRAME_TICKET] = {WHILE_UP, on_other},
                                                  [FRAME_NOTICE] = {WHILE_UP, on_other},
                                                  [FRAME_WANT] = {WHILE_UP, on_other},
                                                  [FRAME_ARRIVED] = {WHILE_UP, on_other},
                                                  [FRAME_REVOKED] = {WHILE_UP, on_other}}};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  world_run(&role, data, size);
  return 0;
}
