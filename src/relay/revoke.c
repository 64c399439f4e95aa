/* See the header. An answer may end the link, and a link may end or move before the answer: what it has asked for then
   goes on without it, or not at all. */
#include "relay/revoke.h"

#include <stdlib.h>

#include "relay/keeper.h"

struct revoke {
  struct list node;                /* of link->revokes; in none when the link has left it to itself */
  struct link *link;               /* one reference */
  struct frame_revoke asked;
  struct revoke_request request;
};

static void answer(struct link *l, uint32_t number, enum refusal why) {
  uint8_t frame[FRAME_HEADER_BYTES + 16];
  struct writer w = writer_of(frame, sizeof frame);
  frame_revoked_encode(&w, &(struct frame_revoked){.number = number, .reason = (uint16_t)why});
  link_send(l, &w);
}

static enum refusal refusal_of(int result) {
  switch (result) {
    case 0: return REFUSE_NONE;
    case ERR_LIMIT: return REFUSE_REVOCATIONS;
    case ERR_NOMEM: return REFUSE_SHORTAGE;
    case ERR_CLOSED: return REFUSE_DRAINING;
    default: return REFUSE_STATE;
  }
}

static void leave(struct revoke *v) {
  list_remove(&v->node);
  v->link->revokes_n--;
}

static void revoke_free(struct revoke *v) {
  link_unref(v->link);
  free(v);
}

static void done(struct revoke_request *q) {
  struct revoke *v = CONTAINER_OF(q, struct revoke, request);
  bool is_wanted = !list_empty(&v->node);
  if (is_wanted) leave(v);
  if (is_wanted) answer(v->link, v->asked.number, refusal_of(q->result));
  revoke_free(v);
}

void revoke_request(struct link *l, const struct frame_revoke *f) {
  struct relay *r = l->worker->relay;
  struct revocation what;
  if (registry_revocation(r->registry, l->owner, f->id, f->expires_s, &what) != 0) {
    answer(l, f->number, REFUSE_NOT_NARROWED);
    return;
  }
  struct revoke *v = l->revokes_n < REVOKES_PER_LINK_MAX ? calloc(1, sizeof *v) : NULL;
  if (v == NULL) {
    answer(l, f->number, REFUSE_SHORTAGE);
    return;
  }
  v->link = link_ref(l);
  v->asked = *f;
  v->request.what = what;
  v->request.done = done;
  list_push_tail(&l->revokes, &v->node);
  l->revokes_n++;
  keeper_revoke(r->keeper, l->worker, &v->request);
}

void revoke_withdraw_all(struct link *l) {
  LIST_FOREACH(&l->revokes, it) {
    struct revoke *v = CONTAINER_OF(it, struct revoke, node);
    leave(v);
    if (keeper_withdraw_revoke(l->worker->relay->keeper, &v->request)) revoke_free(v);
  }
}

/* If there is no room, the agent is to ask anew. */
void revokes_hear_again(struct link *l) {
  uint8_t frame[FRAME_HEADER_BYTES + 64];
  LIST_FOREACH(&l->revokes, it) {
    const struct revoke *v = CONTAINER_OF(it, struct revoke, node);
    struct writer w = writer_of(frame, sizeof frame);
    frame_revoke_encode(&w, &v->asked);
    if (engine_hear_again(&l->engine, &w) != 0) answer(l, v->asked.number, REFUSE_SHORTAGE);
    if (l->engine.state == LINK_DOWN) return;
  }
}
