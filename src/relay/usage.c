/* Usage by token. Those whose owners are gone rest in the order in which they went; the first of them makes room. */
#include "relay/usage.h"

#include <stdlib.h>
#include <string.h>

#include "base/map.h"

struct usages {
  struct map *by_id;
  struct roster all;
  struct list resting;
  size_t resting_n;
};

struct usage usage_now(const struct usage *r) {
  struct usage now = {.streams_now = __atomic_load_n(&r->streams_now, __ATOMIC_RELAXED),
                      .streams_total = __atomic_load_n(&r->streams_total, __ATOMIC_RELAXED),
                      .bytes_from_visitors = __atomic_load_n(&r->bytes_from_visitors, __ATOMIC_RELAXED),
                      .bytes_to_visitors = __atomic_load_n(&r->bytes_to_visitors, __ATOMIC_RELAXED)};
  memcpy(now.id, r->id, sizeof now.id);
  memcpy(now.name, r->name, sizeof now.name);
  return now;
}

struct usages *usages_new(void) {
  struct usages *u = calloc(1, sizeof *u);
  if (u == NULL) return NULL;
  u->by_id = map_new(TOKEN_ID_BYTES);
  roster_init(&u->all);
  list_init(&u->resting);
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

static void wake(struct usages *u, struct usage *r) {
  if (!list_empty(&r->resting)) u->resting_n--;
  list_remove(&r->resting);
}

static void forget(struct usages *u, struct usage *r) {
  wake(u, r);
  (void)map_remove(u->by_id, r->id);
  roster_remove(&r->place);
  free(r);
}

struct usage *usages_enter(struct usages *u, const uint8_t id[TOKEN_ID_BYTES], const char *name) {
  struct usage *r = map_get(u->by_id, id);
  if (r != NULL) {
    wake(u, r);
    return r;
  }
  r = calloc(1, sizeof *r);
  if (r == NULL) return NULL;
  list_init(&r->resting);
  memcpy(r->id, id, sizeof r->id);
  memcpy(r->name, name, strnlen(name, TOKEN_NAME_MAX_CHARS));
  if (map_put(u->by_id, r->id, r) != 0) {
    free(r);
    return NULL;
  }
  roster_add(&u->all, &r->place);
  return r;
}

void usages_leave(struct usages *u, struct usage *r) {
  list_push_tail(&u->resting, &r->resting);
  if (++u->resting_n > USAGES_KEPT_MAX) forget(u, CONTAINER_OF(u->resting.next, struct usage, resting));
}

struct roster *usages_all(struct usages *u) { return &u->all; }
