/* The hard thing is the order in HELLO: what costs us little is looked at first, and nothing is made for a stranger
   before he has proven who he is. */
#include "relay/control.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/text.h"
#include "relay/bind.h"
#include "relay/bound_move.h"
#include "relay/revoke.h"
#include "relay/warm.h"

/* Who is it, and may he? The cheap questions first; the owner's record is made only after the proof. */
static enum refusal hello_check(struct link *l, const struct frame_hello *f) {
  struct relay *r = l->worker->relay;
  struct chain c;
  int64_t now_s = loop_wall_s(l->worker->loop);
  if (f->version != WIRE_VERSION) return REFUSE_VERSION;
  int rc = chain_verify_by(f->chain, f->chain_n, r->operators, r->operators_n, &c);
  if (rc == ERR_SYNTAX) return REFUSE_MALFORMED;
  if (rc == ERR_NOT_NOW) return REFUSE_TOKEN_UNKNOWN;
  if (rc != 0) return REFUSE_TOKEN_PROOF;
  if (frame_hello_verify(f, engine_exporter(&l->engine), chain_last(&c)->public_key) != 0) return REFUSE_TOKEN_PROOF;
  rc = registry_owner(r->registry, c.at, c.n, now_s, &l->owner);
  if (rc == ERR_AUTH) return REFUSE_TOKEN_REVOKED;
  if (rc == ERR_TIMEOUT) return REFUSE_TOKEN_EXPIRED;
  return rc == 0 ? REFUSE_NONE : REFUSE_INTERNAL;
}

static int on_hello(struct engine *e, const struct frame *frame_in) {
  struct link *l = CONTAINER_OF(e, struct link, engine);
  struct relay *r = l->worker->relay;
  struct frame_hello f;
  struct frame_welcome welcome = {.version = WIRE_VERSION,
                                  .instance = r->instance,
                                  .heartbeat_ms = HEARTBEAT_MS,
                                  .warm = WARM_QUIET,
                                  .flags = WELCOME_WRAPPED | WELCOME_REVOKES};
  uint8_t frame[FRAME_HEADER_BYTES + 512];
  struct writer w = writer_of(frame, sizeof frame);
  enum refusal why = frame_hello_decode(frame_in->body, &f) == 0 ? hello_check(l, &f) : REFUSE_MALFORMED;
  int rc = 0;
  if (why == REFUSE_NONE) {
    rc = engine_make_share(e, welcome.share);
    if (rc == 0) rc = engine_agree(e, f.share);
    if (rc == 0) {
      warm_init(l);
      rc = link_enter(l);
    }
    /* Passing, also for ERR_LIMIT: lost links are among those that are counted. */
    if (rc != 0) why = rc == ERR_NOMEM ? REFUSE_SHORTAGE : REFUSE_INTERNAL;
  }
  if (why != REFUSE_NONE) {
    link_end_saying(l, why,
                    rc == ERR_LIMIT
                        ? "the token has too many control links (run fewer agents with it, or try again in a minute)"
                        : "");
    return 0;
  }
  memcpy(l->software, f.software, sizeof l->software);
  strcpy(welcome.relay, r->options->domain);
  l->warm.asked = welcome.warm;
  l->warm.asked_ms = l->renewed_ms = loop_now_ms(l->worker->loop);
  char from[ADDR_TEXT_CAP], token_id[2 * TOKEN_ID_BYTES + 1];
  addr_format(&l->peer, from, sizeof from);
  hex_encode(l->owner->id, TOKEN_ID_BYTES, token_id);
  log_event(LOG_INFO, "link_up", "owner", l->owner->name, "token_id", token_id, "from", from, "software", l->software,
            NULL);
  frame_welcome_encode(&w, &welcome);
  link_send(l, &w);
  return 0;
}

static int on_bind(struct engine *e, const struct frame *frame) {
  struct frame_bind f;
  if (frame_bind_decode(frame->body, &f) != 0) return ERR_SYNTAX;
  bind_request(CONTAINER_OF(e, struct link, engine), &f);
  return 0;
}

static int on_unbind(struct engine *e, const struct frame *frame) {
  uint32_t id;
  if (frame_unbind_decode(frame->body, &id) != 0) return ERR_SYNTAX;
  bind_close(CONTAINER_OF(e, struct link, engine), id);
  return 0;
}

static int on_revoke(struct engine *e, const struct frame *frame) {
  struct frame_revoke f;
  if (frame_revoke_decode(frame->body, &f) != 0) return ERR_SYNTAX;
  revoke_request(CONTAINER_OF(e, struct link, engine), &f);
  return 0;
}

static int on_short(struct engine *e, const struct frame *frame) {
  uint16_t count;
  if (frame_short_decode(frame->body, &count) != 0) return ERR_SYNTAX;
  warm_short(CONTAINER_OF(e, struct link, engine), count);
  return 0;
}

static int on_goodbye(struct engine *e, const struct frame *frame) {
  (void)frame;
  link_down(CONTAINER_OF(e, struct link, engine));
  return 0;
}

static uint64_t control_now_ms(struct engine *e) {
  return loop_now_ms(CONTAINER_OF(e, struct link, engine)->worker->loop);
}

static const struct engine_role control_role = {.is_relay = true,
                                                .hello_max_bytes = FRAME_BEFORE_AUTH_MAX_BYTES,
                                                .now_ms = control_now_ms,
                                                .rules = {[FRAME_HELLO] = {WHILE_HELLO, on_hello},
                                                          [FRAME_BIND] = {WHILE_UP, on_bind},
                                                          [FRAME_UNBIND] = {WHILE_UP, on_unbind},
                                                          [FRAME_REVOKE] = {WHILE_UP, on_revoke},
                                                          [FRAME_SHORT] = {WHILE_UP, on_short},
                                                          [FRAME_GOODBYE] = {WHILE_UP, on_goodbye}}};

static void control_every_second(struct link *l, uint64_t now_ms) {
  if (now_ms - l->renewed_ms > (uint64_t)TICKET_RENEW_S * 1000 && bind_renew(l)) l->renewed_ms = now_ms;
  if (l->engine.state == LINK_UP) bind_tell_refused(l, now_ms);
  if (l->engine.state == LINK_UP) warm_tick(l);
}

/* Its tunnels and warm connections go with it, and what it wanted revoked and was not yet; established streams stay. */
static void control_down(struct link *l) {
  revoke_withdraw_all(l);
  bind_close_all(l);
  warm_close(l);
}

static const struct link_handlers control_handlers = {
    .role = &control_role, .every_second = control_every_second, .down = control_down};

void control_accept(struct worker *w, int fd, const struct addr *peer, struct newcomer *newcomer,
                    const struct client_hello *hello) {
  link_accept(w, fd, peer, newcomer, hello, &control_handlers);
}

/* To another process and back: the link's facts, those of its pool, its tunnels, its engine. */

enum {
  EXPORT_MAGIC = 0x61646c31,       /* "adl1" */
  EXPORT_VERSION = 1,
  EXPORT_FIXED_BYTES = 16 + LINK_EXPORT_MAX_BYTES + WARM_POOL_BYTES
};

static size_t export_bytes(const struct link *l) {
  size_t n = EXPORT_FIXED_BYTES;
  LIST_FOREACH(&l->bound, it) n += bound_export_bytes(CONTAINER_OF(it, struct bound, node));
  return n;
}

static void export_facts(const struct link *l, struct writer *w) {
  uint16_t bounds = 0;
  write_u32(w, EXPORT_MAGIC);
  write_u8(w, EXPORT_VERSION);
  link_write(l, w);
  warm_pool_write(l, w);
  LIST_FOREACH(&l->bound, it) bounds++;
  write_u16(w, bounds);
  LIST_FOREACH(&l->bound, it) bound_export(CONTAINER_OF(it, struct bound, node), w);
}

int control_export(struct link *l, struct buf *state, int *fd) {
  size_t before = state->len, n = export_bytes(l);
  if (l->engine.state != LINK_UP) return ERR_NOT_NOW;
  if (n > state->max - before) return ERR_LIMIT;
  uint8_t *at = buf_reserve(state, n);
  if (at == NULL) return ERR_NOMEM;
  struct writer w = writer_of(at, n);
  export_facts(l, &w);
  ASSERT(!w.bad);
  buf_added(state, w.len);
  revokes_hear_again(l);
  int rc = engine_export(&l->engine, state);
  if (rc != 0) {
    buf_cut(state, before);
    return rc;
  }
  *fd = l->fd;
  revoke_withdraw_all(l);
  bind_let_go(l);
  warm_close(l);
  link_let_go(l);
  return 0;
}

static int import_bounds(struct link *l, struct reader *r, struct list *bounds) {
  size_t n = read_u16(r);
  int rc = n <= LINK_TUNNELS_MAX ? 0 : ERR_SYNTAX;
  for (size_t i = 0; rc == 0 && i < n; i++) {
    struct bound *b;
    rc = bound_import(l, r, &b);
    if (rc == 0) list_push_tail(bounds, &b->node);
  }
  return rc;
}

static struct bound *next_bound(struct list *bounds) {
  struct bound *b = CONTAINER_OF(bounds->next, struct bound, node);
  list_remove(&b->node);
  return b;
}

static int import_all(struct link *l, struct reader *r, struct list *bounds) {
  warm_pool_read(l, r);
  int rc = import_bounds(l, r, bounds);
  if (rc == 0) rc = engine_import(&l->engine, l->handlers->role, r);
  if (rc == 0 && (!reader_done(r) || l->engine.keys == NULL)) rc = ERR_SYNTAX;
  return rc == 0 ? link_resume(l) : rc;
}

/* What is said of it now leaves with what is said in the next turn. The link may end meanwhile. */
static void resume_bounds(struct link *l, struct list *bounds) {
  (void)link_ref(l);
  l->in_turn = true;
  while (!list_empty(bounds)) {
    struct bound *b = next_bound(bounds);
    if (l->engine.state == LINK_UP) bind_resume(b);
    else bound_discard(b);
  }
  l->in_turn = false;
  link_unref(l);
}

int control_import(struct worker *w, const uint8_t *state, size_t n, int fd) {
  struct reader r = reader_of(state, n);
  struct list bounds;
  struct link *l;
  list_init(&bounds);
  bool known = read_u32(&r) == EXPORT_MAGIC;
  known = read_u8(&r) == EXPORT_VERSION && known;
  int rc = known ? link_read(w, fd, &control_handlers, &r, &l) : ERR_SYNTAX;
  if (rc != 0) return rc;
  rc = import_all(l, &r, &bounds);
  if (rc == 0) {
    resume_bounds(l, &bounds);
    return 0;
  }
  while (!list_empty(&bounds)) bound_discard(next_bound(&bounds));
  link_discard(l);
  return rc;
}
