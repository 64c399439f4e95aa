/* Usage by token. A record whose owner is gone rests, in a list by the time when the owner went; where there are too
   many the one that has rested longest is forgotten. The record of a token is never forgotten before those of the
   tokens that were narrowed from it. */
#include "relay/usage.h"

#include <stdlib.h>
#include <string.h>

#include "base/map.h"

struct usages {
  struct map *by_id;
  struct roster tokens, narrowed;
  struct resting resting_tokens, resting_narrowed;
};

static uint64_t bytes_now(const struct tally *t) { return __atomic_load_n(&t->bytes, __ATOMIC_RELAXED); }

struct usage usage_now(const struct usage *r) {
  struct usage now = {.streams_now = __atomic_load_n(&r->streams_now, __ATOMIC_RELAXED),
                      .streams_total = __atomic_load_n(&r->streams_total, __ATOMIC_RELAXED),
                      .from_visitors.bytes = bytes_now(&r->from_visitors),
                      .to_visitors.bytes = bytes_now(&r->to_visitors)};
  memcpy(now.id, r->id, sizeof now.id);
  memcpy(now.root_id, r->root_id, sizeof now.root_id);
  memcpy(now.name, r->name, sizeof now.name);
  return now;
}

void usage_stream_begins(struct usage *r) {
  for (; r != NULL; r = r->parent) {
    (void)__atomic_add_fetch(&r->streams_now, 1, __ATOMIC_RELAXED);
    (void)__atomic_add_fetch(&r->streams_total, 1, __ATOMIC_RELAXED);
  }
}

void usage_stream_resumes(struct usage *r) {
  for (; r != NULL; r = r->parent) (void)__atomic_add_fetch(&r->streams_now, 1, __ATOMIC_RELAXED);
}

void usage_stream_ends(struct usage *r) {
  for (; r != NULL; r = r->parent) (void)__atomic_sub_fetch(&r->streams_now, 1, __ATOMIC_RELAXED);
}

struct usages *usages_new(void) {
  struct usages *u = calloc(1, sizeof *u);
  if (u == NULL) return NULL;
  u->by_id = map_new(TOKEN_ID_BYTES);
  roster_init(&u->tokens);
  roster_init(&u->narrowed);
  list_init(&u->resting_tokens.list);
  list_init(&u->resting_narrowed.list);
  if (u->by_id != NULL) return u;
  free(u);
  return NULL;
}

void usages_free(struct usages *u) {
  size_t at = 0;
  const void *id;
  void *record;
  if (u == NULL) return;
  while (map_next(u->by_id, &at, &id, &record)) free(record);
  map_free(u->by_id);
  free(u);
}

/* Resting */

static void rest(struct resting *among, struct list *node) {
  list_push_tail(&among->list, node);
  among->n++;
}

static void wake_from(struct resting *among, struct list *node) {
  if (!list_empty(node)) among->n--;
  list_remove(node);
}

static void wake(struct usages *u, struct usage *r) {
  bool is_root = r->root == r;
  wake_from(is_root ? &u->resting_tokens : &u->resting_narrowed, &r->resting);
  if (is_root) return;
  wake_from(&r->root->narrowed, &r->resting_of_root);
  wake_from(&r->parent->narrowed, &r->resting_of_parent);
}

static void forget_one(struct usages *u, struct usage *r) {
  wake(u, r);
  (void)map_remove(u->by_id, r->id);
  roster_remove(&r->place);
  free(r);
}

static struct usage *first_of_root(const struct usage *root) {
  return CONTAINER_OF(root->narrowed.list.next, struct usage, resting_of_root);
}

static struct usage *first_of_parent(const struct usage *parent) {
  return CONTAINER_OF(parent->narrowed.list.next, struct usage, resting_of_parent);
}

/* First all that were narrowed from the root that has rested longest, then itself. All of these rest: an owner of one
   would keep that of the root here. Only some at a time, since visitors wait for the lock; the next owner who goes
   makes more room. */
static void make_room(struct usages *u) {
  for (int i = 0; i < REGISTRY_STEPS_MAX / 2 && u->resting_tokens.n > USAGES_KEPT_MAX; i++) {
    struct usage *root = CONTAINER_OF(u->resting_tokens.list.next, struct usage, resting);
    forget_one(u, root->narrowed.n > 0 ? first_of_root(root) : root);
  }
}

static void rest_narrowed(struct usages *u, struct usage *r) {
  rest(&u->resting_narrowed, &r->resting);
  rest(&r->root->narrowed, &r->resting_of_root);
  if (r->parent != r->root) rest(&r->parent->narrowed, &r->resting_of_parent);
  if (r->parent != r->root && r->parent->narrowed.n > NARROWED_KEPT_PER_NARROWED_MAX)
    forget_one(u, first_of_parent(r->parent));
  else if (r->root->narrowed.n > NARROWED_KEPT_PER_TOKEN_MAX) forget_one(u, first_of_root(r->root));
  else if (u->resting_narrowed.n > NARROWED_KEPT_MAX)
    forget_one(u, CONTAINER_OF(u->resting_narrowed.list.next, struct usage, resting));
}

static void rest_token(struct usages *u, struct usage *r) {
  rest(&u->resting_tokens, &r->resting);
  make_room(u);
}

/* Coming and going */

static struct usage *usage_new(struct usages *u, const uint8_t id[TOKEN_ID_BYTES]) {
  struct usage *r = calloc(1, sizeof *r);
  if (r == NULL) return NULL;
  list_init(&r->resting);
  list_init(&r->resting_of_root);
  list_init(&r->resting_of_parent);
  list_init(&r->narrowed.list);
  memcpy(r->id, id, sizeof r->id);
  if (map_put(u->by_id, r->id, r) == 0) return r;
  free(r);
  return NULL;
}

struct usage *usages_enter(struct usages *u, const uint8_t id[TOKEN_ID_BYTES], struct usage *parent) {
  struct usage *r = map_get(u->by_id, id);
  if (r != NULL) {
    wake(u, r);
  } else {
    if ((r = usage_new(u, id)) == NULL) return NULL;
    roster_add(parent != NULL ? &u->narrowed : &u->tokens, &r->place);
  }
  r->parent = parent;              /* another record than before, if that was forgotten since */
  r->root = parent != NULL ? parent->root : r;
  memcpy(r->root_id, r->root->id, sizeof r->root_id);
  r->from_visitors.part_of = parent != NULL ? &parent->from_visitors : NULL;
  r->to_visitors.part_of = parent != NULL ? &parent->to_visitors : NULL;
  return r;
}

void usages_leave(struct usages *u, struct usage *r) {
  if (r->root == r) rest_token(u, r);
  else rest_narrowed(u, r);
}

static void add_to(uint64_t *total, uint64_t n) { (void)__atomic_add_fetch(total, n, __ATOMIC_RELAXED); }

int usages_add(struct usages *u, const struct usage *counted) {
  struct usage *r = map_get(u->by_id, counted->id), *root = map_get(u->by_id, counted->root_id);
  bool is_root = memcmp(counted->id, counted->root_id, sizeof counted->id) == 0;
  if (r == NULL && !is_root && (root == NULL || root->root != root)) return 0;
  bool is_new = r == NULL;
  if (is_new) {
    r = usages_enter(u, counted->id, is_root ? NULL : root);
    if (r == NULL) return ERR_NOMEM;
    memcpy(r->name, counted->name, sizeof r->name);
  }
  add_to(&r->streams_total, counted->streams_total);
  add_to(&r->from_visitors.bytes, counted->from_visitors.bytes);
  add_to(&r->to_visitors.bytes, counted->to_visitors.bytes);
  if (is_new) usages_leave(u, r);  /* may forget it at once */
  return 0;
}

static void take_from(uint64_t *total, uint64_t n) { (void)__atomic_sub_fetch(total, n, __ATOMIC_RELAXED); }

void usages_take(struct usages *u, const struct usage *counted) {
  struct usage *r = map_get(u->by_id, counted->id);
  if (r == NULL) return;
  take_from(&r->streams_total, counted->streams_total);
  take_from(&r->from_visitors.bytes, counted->from_visitors.bytes);
  take_from(&r->to_visitors.bytes, counted->to_visitors.bytes);
}

struct roster *usages_tokens(struct usages *u) { return &u->tokens; }
struct roster *usages_narrowed(struct usages *u) { return &u->narrowed; }
