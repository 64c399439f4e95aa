/* A relay's end of a control link against an agent that keeps to no rule. */
#include "link_world.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int on_hello(struct engine *e, const struct frame *f) {
  struct frame_hello hello;
  ASSERT(e->state == LINK_HELLO && f->total <= FRAME_HEADER_BYTES + FRAME_BEFORE_AUTH_MAX_BYTES);
  (void)frame_hello_decode(f->body, &hello);     /* a link is to come up without a token, too */
  return world_opens(e, 0);
}

static int on_bind(struct engine *e, const struct frame *f) {
  struct frame_bind bind;
  ASSERT(e->state == LINK_UP);
  return world_handled(e, frame_bind_decode(f->body, &bind));
}

static int on_unbind(struct engine *e, const struct frame *f) {
  uint32_t id;
  ASSERT(e->state == LINK_UP);
  return world_handled(e, frame_unbind_decode(f->body, &id));
}

static int on_revoke(struct engine *e, const struct frame *f) {
  struct frame_revoke revoke;
  ASSERT(e->state == LINK_UP);
  return world_handled(e, frame_revoke_decode(f->body, &revoke));
}

static int on_goodbye(struct engine *e, const struct frame *f) {
  (void)f;
  ASSERT(e->state == LINK_UP);
  engine_stop(e);
  return 0;
}

static const struct engine_role role = {.is_relay = true,
                                        .hello_max_bytes = FRAME_BEFORE_AUTH_MAX_BYTES,
                                        .now_ms = world_now_ms,
                                        .heard = world_heard,
                                        .rules = {[FRAME_HELLO] = {WHILE_HELLO, on_hello},
                                                  [FRAME_BIND] = {WHILE_UP, on_bind},
                                                  [FRAME_UNBIND] = {WHILE_UP, on_unbind},
                                                  [FRAME_REVOKE] = {WHILE_UP, on_revoke},
                                                  [FRAME_GOODBYE] = {WHILE_UP, on_goodbye}}};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  world_run(&role, data, size);
  return 0;
}
