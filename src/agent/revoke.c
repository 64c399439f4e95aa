/* A struct revoke belongs to whoever leaves it last: the loop, when the relay has answered, or who waits for that. */
#include "agent/revoke.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SENT_MAX = REVOKES_PER_LINK_MAX / 2 };      /* the rest waits here for answers: no relay is to refuse it */

struct revoke {
  struct list node;                /* of client->revokes, once the loop's thread has it */
  struct loop_msg msg;
  struct adit_client *client;
  uint8_t id[TOKEN_ID_BYTES];
  int64_t expires_s;
  uint32_t number;                 /* of its frame on this link; 0: it was not sent */
  /* Under the client's lock: */
  unsigned waiters;
  bool over;
  struct trouble outcome;
};

static struct revoke *revoke_of(struct list *node) { return CONTAINER_OF(node, struct revoke, node); }

/* ---- the host's thread ---- */

/* Also from loop_free, when nobody waits. */
static void arrived(struct loop *l, struct loop_msg *m) {
  struct revoke *v = CONTAINER_OF(m, struct revoke, msg);
  struct adit_client *c = v->client;
  pthread_mutex_lock(&c->lock);
  list_push_tail(&c->revokes, &v->node);
  pthread_mutex_unlock(&c->lock);
  if (l != NULL) c->on_revoke(c);
}

/* The same that is under way already, else a new one. With the lock. */
static struct revoke *revoke_join(struct adit_client *c, const uint8_t id[TOKEN_ID_BYTES], int64_t expires_s,
                                  bool *is_new) {
  *is_new = false;
  LIST_FOREACH(&c->revokes, it) {
    if (memcmp(revoke_of(it)->id, id, TOKEN_ID_BYTES) == 0) return revoke_of(it);
  }
  struct revoke *v = calloc(1, sizeof *v);
  if (v == NULL) return NULL;
  *is_new = true;
  *v = (struct revoke){.msg = {.fn = arrived}, .client = c, .expires_s = expires_s};
  memcpy(v->id, id, sizeof v->id);
  list_init(&v->node);
  return v;
}

/* With the lock. */
static void wait_until_over(struct adit_client *c, const struct revoke *v, const struct timespec *deadline) {
  int waited = 0;
  while (!v->over && waited != ETIMEDOUT && c->trouble.code != ADIT_EAUTH)
    waited = deadline == NULL ? pthread_cond_wait(&c->changed, &c->lock)
                              : pthread_cond_timedwait(&c->changed, &c->lock, deadline);
}

int revoke_wait(struct adit_client *c, const uint8_t id[TOKEN_ID_BYTES], int64_t expires_s,
                const struct timespec *deadline, struct trouble *outcome) {
  bool is_new;
  pthread_mutex_lock(&c->lock);
  struct revoke *v = revoke_join(c, id, expires_s, &is_new);
  if (v != NULL) v->waiters++;
  pthread_mutex_unlock(&c->lock);
  if (v == NULL) return ERR_NOMEM;
  if (is_new) client_post(c, &v->msg);
  pthread_mutex_lock(&c->lock);
  wait_until_over(c, v, deadline);
  bool is_over = v->over || c->trouble.code == ADIT_EAUTH;
  *outcome = v->over ? v->outcome : c->trouble;
  bool is_mine = --v->waiters == 0 && v->over;
  pthread_mutex_unlock(&c->lock);
  if (is_mine) free(v);
  return is_over ? 0 : ERR_TIMEOUT;
}

/* ---- the loop's thread ---- */

/* It is whoever waits for it who frees it then. */
static void revoke_end(struct revoke *v, int code, const char *text) {
  struct adit_client *c = v->client;
  pthread_mutex_lock(&c->lock);
  list_remove(&v->node);
  v->over = true;
  v->outcome.code = code;
  (void)snprintf(v->outcome.text, sizeof v->outcome.text, "%s", text);
  bool is_forsaken = v->waiters == 0;
  pthread_cond_broadcast(&c->changed);
  pthread_mutex_unlock(&c->lock);
  if (is_forsaken) free(v);
}

void revokes_fail(struct adit_client *c, int code, const char *text) {
  LIST_FOREACH(&c->revokes, it) revoke_end(revoke_of(it), code, text);
}

void revokes_unsend(struct adit_client *c) {
  LIST_FOREACH(&c->revokes, it) revoke_of(it)->number = 0;
}

void revokes_free(struct adit_client *c) {
  LIST_FOREACH(&c->revokes, it) free(revoke_of(it));
}

static void revoke_send(struct link *l, struct revoke *v) {
  uint8_t bytes[FRAME_HEADER_BYTES + 64];
  struct writer w = writer_of(bytes, sizeof bytes);
  struct frame_revoke f = {.number = v->number = ++l->last_revoke, .expires_s = v->expires_s};
  memcpy(f.id, v->id, sizeof f.id);
  frame_revoke_encode(&w, &f);
  engine_send(&l->engine, &w);
}

void revokes_send(struct link *l) {
  struct adit_client *c = l->client;
  char text[ERR_TEXT_MAX];
  size_t sent = 0;
  if (!l->takes_revokes) {
    (void)snprintf(text, sizeof text, "relay %.200s: its version revokes no narrowed tokens (update it, or ask its "
                   "operator to revoke the token by its id)", l->choice->name);
    revokes_fail(c, ADIT_EREFUSED, text);
    return;
  }
  LIST_FOREACH(&c->revokes, it) {
    if (sent++ == SENT_MAX) return;
    if (revoke_of(it)->number == 0) revoke_send(l, revoke_of(it));
  }
}

void revokes_answered(struct link *l, const struct frame_revoked *f) {
  struct adit_client *c = l->client;
  enum refusal why = (enum refusal)f->reason;
  char explained[ERR_TEXT_MAX], text[ERR_TEXT_MAX];
  if (why == REFUSE_DRAINING) return;    /* the next link's relay is asked */
  refusal_explain(why, f->text, explained, sizeof explained);
  (void)snprintf(text, sizeof text, "relay %.200s: %.300s", l->choice->name, explained);
  LIST_FOREACH(&c->revokes, it) {
    if (revoke_of(it)->number != f->number || f->number == 0) continue;
    revoke_end(revoke_of(it), why == REFUSE_NONE ? 0 : ADIT_EREFUSED, text);
    break;
  }
  revokes_send(l);
}
