/* See the header. Beside the revocations themselves stands how many there are for each root, and for each revoker that
   is no root. */
#include "relay/revocations.h"

#include <stdlib.h>
#include <string.h>

#include "base/list.h"
#include "base/map.h"

enum { KEY_BYTES = 2 * TOKEN_ID_BYTES };

struct kept {
  struct revocation what;
  struct list node;                /* among all */
  struct list mine;                /* among its revoker's */
};

struct revocation_count {
  uint8_t id[TOKEN_ID_BYTES];
  unsigned n, by_narrowed;
  struct list made;                /* kept.mine: as a revoker */
};

struct revocations {
  struct map *by_key;              /* revoker and id -> struct kept */
  struct map *counts;              /* id of a root or revoker -> struct revocation_count */
  struct list all;                 /* kept.node, those first that were not looked at for the longest time */
};

struct revocations *revocations_new(void) {
  struct revocations *s = calloc(1, sizeof *s);
  if (s == NULL) return NULL;
  list_init(&s->all);
  s->by_key = map_new(KEY_BYTES);
  s->counts = map_new(TOKEN_ID_BYTES);
  if (s->by_key != NULL && s->counts != NULL) return s;
  revocations_free(s);
  return NULL;
}

void revocations_free(struct revocations *s) {
  if (s == NULL) return;
  LIST_FOREACH(&s->all, it) revocations_remove(s, &CONTAINER_OF(it, struct kept, node)->what);
  map_free(s->by_key);
  map_free(s->counts);
  free(s);
}

static void make_key(uint8_t key[KEY_BYTES], const uint8_t revoker[TOKEN_ID_BYTES], const uint8_t id[TOKEN_ID_BYTES]) {
  memcpy(key, revoker, TOKEN_ID_BYTES);
  memcpy(key + TOKEN_ID_BYTES, id, TOKEN_ID_BYTES);
}

static struct kept *find(const struct revocations *s, const uint8_t revoker[TOKEN_ID_BYTES],
                         const uint8_t id[TOKEN_ID_BYTES]) {
  uint8_t key[KEY_BYTES];
  make_key(key, revoker, id);
  return map_get(s->by_key, key);
}

const struct revocation *revocations_find(const struct revocations *s, const uint8_t revoker[TOKEN_ID_BYTES],
                                          const uint8_t id[TOKEN_ID_BYTES]) {
  const struct kept *k = find(s, revoker, id);
  return k != NULL ? &k->what : NULL;
}

size_t revocations_count(const struct revocations *s) { return map_count(s->by_key); }

/* Counts */

static bool is_by_root(const struct revocation *r) { return memcmp(r->root, r->revoker, TOKEN_ID_BYTES) == 0; }

static struct revocation_count *count_of(struct revocations *s, const uint8_t id[TOKEN_ID_BYTES]) {
  struct revocation_count *t = map_get(s->counts, id);
  if (t != NULL) return t;
  t = calloc(1, sizeof *t);
  if (t == NULL) return NULL;
  memcpy(t->id, id, sizeof t->id);
  list_init(&t->made);
  if (map_put(s->counts, id, t) == 0) return t;
  free(t);
  return NULL;
}

static void count_drop_if_empty(struct revocations *s, struct revocation_count *t) {
  if (t == NULL || t->n > 0) return;
  (void)map_remove(s->counts, t->id);
  free(t);
}

static void drop_if_empty(struct revocations *s, struct revocation_count *root,
                          struct revocation_count *revoker) {
  if (revoker != root) count_drop_if_empty(s, revoker);
  count_drop_if_empty(s, root);
}

bool revocations_have_room(const struct revocations *s, const struct revocation *r) {
  const struct revocation_count *root = map_get(s->counts, r->root), *revoker = map_get(s->counts, r->revoker);
  if (root == NULL || find(s, r->revoker, r->id) != NULL) return true;
  if (root->n >= NARROWED_REVOKED_PER_TOKEN_MAX) return false;
  return is_by_root(r) || (root->by_narrowed < NARROWED_REVOKED_BY_NARROWED_MAX &&
                           (revoker == NULL || revoker->n < NARROWED_REVOKED_PER_NARROWED_MAX));
}

static void count_change(const struct revocation *r, struct revocation_count *root, struct revocation_count *revoker,
                         int by) {
  root->n += (unsigned)by;
  if (is_by_root(r)) return;
  root->by_narrowed += (unsigned)by;
  revoker->n += (unsigned)by;
}

/* Putting and removing */

static void kept_remove(struct revocations *s, struct kept *k) {
  uint8_t key[KEY_BYTES];
  struct revocation_count *root = map_get(s->counts, k->what.root), *revoker = map_get(s->counts, k->what.revoker);
  make_key(key, k->what.revoker, k->what.id);
  (void)map_remove(s->by_key, key);
  list_remove(&k->node);
  list_remove(&k->mine);
  count_change(&k->what, root, revoker, -1);
  drop_if_empty(s, root, revoker);
  free(k);
}

void revocations_remove(struct revocations *s, const struct revocation *r) {
  struct kept *k = find(s, r->revoker, r->id);
  if (k != NULL) kept_remove(s, k);
}

static int put_new(struct revocations *s, const struct revocation *r, struct revocation_count *root,
                   struct revocation_count *revoker) {
  uint8_t key[KEY_BYTES];
  struct kept *k = malloc(sizeof *k);
  if (k == NULL) return ERR_NOMEM;
  k->what = *r;
  make_key(key, r->revoker, r->id);
  if (map_put(s->by_key, key, k) != 0) {
    free(k);
    return ERR_NOMEM;
  }
  list_push_tail(&s->all, &k->node);
  list_push_tail(&revoker->made, &k->mine);
  count_change(&k->what, root, revoker, 1);
  return 0;
}

int revocations_put(struct revocations *s, const struct revocation *r) {
  struct kept *before = find(s, r->revoker, r->id);
  if (before != NULL) {
    before->what.expires_s = r->expires_s;
    return 0;
  }
  struct revocation_count *root = count_of(s, r->root), *revoker = count_of(s, r->revoker);
  int rc = root != NULL && revoker != NULL ? put_new(s, r, root, revoker) : ERR_NOMEM;
  if (rc != 0) drop_if_empty(s, root, revoker);
  return rc;
}

/* Only of the same root: nobody else's go because somebody has named him. The count goes with the last of them. */
void revocations_remove_below(struct revocations *s, const struct revocation *r) {
  const struct revocation_count *t;
  while (is_by_root(r) && (t = map_get(s->counts, r->id)) != NULL && !list_empty(&t->made)) {
    struct kept *first = CONTAINER_OF(t->made.next, struct kept, mine);
    if (memcmp(first->what.root, r->root, TOKEN_ID_BYTES) != 0) return;
    kept_remove(s, first);
  }
}

void revocations_expire(struct revocations *s, int64_t until_s, size_t steps) {
  for (; steps > 0 && !list_empty(&s->all); steps--) {
    struct kept *k = CONTAINER_OF(s->all.next, struct kept, node);
    list_remove(&k->node);
    list_push_tail(&s->all, &k->node);
    if (k->what.expires_s != 0 && k->what.expires_s <= until_s) kept_remove(s, k);
  }
}
