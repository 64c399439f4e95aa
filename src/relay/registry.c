/* Owners, tunnels and links of a relay. The hard thing is lifetime: a visitor on another worker may hold a tunnel after
   it has been closed or replaced, so tunnels and owners go when their last reference goes, while the maps say what is
   current. */
#include "relay/registry.h"

#include <stdlib.h>
#include <string.h>

#include "base/map.h"

struct registry {
  pthread_mutex_t lock;
  struct map *owners;              /* id -> struct owner, without a reference of its own */
  struct map *revoked;             /* id -> itself */
  struct map *tunnels;             /* label -> struct tunnel, one reference */
  struct map *links;               /* link id -> struct worker */
  struct roster all_owners, all_tunnels;         /* those of the maps */
  uint64_t serial;                 /* the last that was given */
};

int registry_new(struct relay *r, struct registry **out) {
  struct registry *g = calloc(1, sizeof *g);
  if (g == NULL) return ERR_NOMEM;
  (void)r;
  pthread_mutex_init(&g->lock, NULL);
  roster_init(&g->all_owners);
  roster_init(&g->all_tunnels);
  g->owners = map_new(TOKEN_ID_BYTES);
  g->revoked = map_new(TOKEN_ID_BYTES);
  g->tunnels = map_new(LABEL_CHARS);
  g->links = map_new(LINK_ID_BYTES);
  if (g->owners == NULL || g->revoked == NULL || g->tunnels == NULL || g->links == NULL) {
    registry_free(g);
    return ERR_NOMEM;
  }
  *out = g;
  return 0;
}

void registry_free(struct registry *g) {
  if (g == NULL) return;
  map_free(g->owners);
  map_free(g->revoked);
  map_free(g->tunnels);
  map_free(g->links);
  pthread_mutex_destroy(&g->lock);
  free(g);
}

/* Owners */

struct owner *owner_ref(struct owner *o) {
  (void)__atomic_add_fetch(&o->refs, 1, __ATOMIC_RELAXED);
  return o;
}

static void owner_unref_locked(struct registry *g, struct owner *o) {
  if (__atomic_sub_fetch(&o->refs, 1, __ATOMIC_ACQ_REL) > 0) return;
  (void)map_remove(g->owners, o->id);
  roster_remove(&o->place);
  free(o);
}

/* The count falls to zero only under the lock, so that a look-up cannot revive an owner that is being freed. */
void registry_owner_unref(struct registry *g, struct owner *o) {
  if (o == NULL) return;
  pthread_mutex_lock(&g->lock);
  owner_unref_locked(g, o);
  pthread_mutex_unlock(&g->lock);
}

static int owner_add(struct registry *g, const struct certificate *c, struct owner **out) {
  struct owner *o = calloc(1, sizeof *o);
  if (o == NULL) return ERR_NOMEM;
  memcpy(o->id, c->id, sizeof o->id);
  memcpy(o->name, c->name, sizeof o->name);
  o->max_tunnels = c->max_tunnels;
  o->expires_s = c->expires_s;
  o->limits = c->limits;
  if (c->limits.max_bytes_per_s != 0) o->rate = rate_of(c->limits.max_bytes_per_s);
  if (map_put(g->owners, o->id, o) != 0) {
    free(o);
    return ERR_NOMEM;
  }
  roster_add(&g->all_owners, &o->place);
  *out = o;
  return 0;
}

int registry_owner(struct registry *g, const struct certificate *c, int64_t now_s, struct owner **out) {
  int rc = 0;
  pthread_mutex_lock(&g->lock);
  struct owner *o = map_get(g->owners, c->id);
  if (map_get(g->revoked, c->id) != NULL) {
    rc = ERR_AUTH;
  } else if (c->expires_s != 0 && c->expires_s <= now_s) {
    rc = ERR_TIMEOUT;
  } else if (o == NULL) {
    rc = owner_add(g, c, &o);
  }
  if (rc == 0) {
    __atomic_store_n(&o->ended, false, __ATOMIC_RELAXED); /* it had expired by a clock that was set back since */
    *out = owner_ref(o);
  }
  pthread_mutex_unlock(&g->lock);
  return rc;
}

int registry_revoke(struct registry *g, const uint8_t id[TOKEN_ID_BYTES]) {
  pthread_mutex_lock(&g->lock);
  int rc = map_get(g->revoked, id) != NULL ? 0 : map_put(g->revoked, id, g);
  pthread_mutex_unlock(&g->lock);
  return rc;
}

/* Some steps of the walk; false at its end. */
static bool mark_some(struct registry *g, struct roster_walk *w, int64_t now_s, bool *any) {
  bool more = true;
  pthread_mutex_lock(&g->lock);
  for (int i = 0; more && i < REGISTRY_STEPS_MAX; i++) {
    struct roster_entry *e;
    more = roster_walk_step(w, &e);
    struct owner *o = e != NULL ? CONTAINER_OF(e, struct owner, place) : NULL;
    if (o == NULL || owner_has_ended(o)) continue;
    if (map_get(g->revoked, o->id) == NULL && (o->expires_s == 0 || o->expires_s > now_s)) continue;
    __atomic_store_n(&o->ended, true, __ATOMIC_RELAXED);
    *any = true;
  }
  pthread_mutex_unlock(&g->lock);
  return more;
}

bool registry_mark_ended(struct registry *g, int64_t now_s) {
  struct roster_walk w;
  bool any = false;
  pthread_mutex_lock(&g->lock);
  roster_walk_begin(&g->all_owners, &w);
  pthread_mutex_unlock(&g->lock);
  while (mark_some(g, &w, now_s, &any)) {
  }
  pthread_mutex_lock(&g->lock);
  roster_walk_end(&w);
  pthread_mutex_unlock(&g->lock);
  return any;
}

bool registry_owner_certifies(struct registry *g, struct owner *o, uint64_t now_ms) {
  pthread_mutex_lock(&g->lock);
  if (now_ms >= o->certificates_since_ms + CERTS_EXACT_PERIOD_MS) {
    o->certificates_since_ms = now_ms;
    o->certificates = 0;
  }
  bool may = o->certificates < CERTS_EXACT_PER_OWNER_MAX;
  if (may) o->certificates++;
  pthread_mutex_unlock(&g->lock);
  return may;
}

/* Tunnels */

struct tunnel *tunnel_ref(struct tunnel *t) {
  (void)__atomic_add_fetch(&t->refs, 1, __ATOMIC_RELAXED);
  return t;
}

int tunnel_set_admission(struct tunnel *t, const struct cidr *allow, size_t allow_n, const struct cidr *deny, size_t deny_n) {
  if (allow_n + deny_n == 0) return 0;
  t->admission = calloc(allow_n + deny_n, sizeof *t->admission);
  if (t->admission == NULL) return ERR_NOMEM;
  memcpy(t->admission, allow, allow_n * sizeof *allow);
  memcpy(t->admission + allow_n, deny, deny_n * sizeof *deny);
  t->allow_n = allow_n;
  t->deny_n = deny_n;
  return 0;
}

bool tunnel_admits(const struct tunnel *t, const struct addr *visitor) {
  if (t->allow_n > 0 && !cidrs_contain(t->admission, t->allow_n, visitor)) return false;
  return t->deny_n == 0 || !cidrs_contain(t->admission + t->allow_n, t->deny_n, visitor);
}

static void tunnel_unref_locked(struct registry *g, struct tunnel *t) {
  if (__atomic_sub_fetch(&t->refs, 1, __ATOMIC_ACQ_REL) > 0) return;
  owner_unref_locked(g, t->owner);
  free(t->admission);
  free(t);
}

void tunnel_unref(struct registry *g, struct tunnel *t) {
  if (t == NULL) return;
  pthread_mutex_lock(&g->lock);
  tunnel_unref_locked(g, t);
  pthread_mutex_unlock(&g->lock);
}

static int put_locked(struct registry *g, struct tunnel *t, struct tunnel **replaced) {
  struct tunnel *old = map_get(g->tunnels, t->label);
  if (old != NULL && old->incarnation > t->incarnation) return ERR_CONFLICT;
  if (old == NULL && t->owner->tunnels >= t->owner->max_tunnels) return ERR_LIMIT;
  if (map_put(g->tunnels, t->label, t) != 0) return ERR_NOMEM;
  (void)tunnel_ref(t);
  t->serial = ++g->serial;
  *replaced = old;                 /* the map's reference passes to the caller */
  if (old != NULL) {
    roster_replace(&old->place, &t->place);
  } else {
    roster_add(&g->all_tunnels, &t->place);
    t->owner->tunnels++;
  }
  return 0;
}

int registry_put(struct registry *g, struct tunnel *t, struct tunnel **replaced) {
  *replaced = NULL;
  pthread_mutex_lock(&g->lock);
  int rc = put_locked(g, t, replaced);
  pthread_mutex_unlock(&g->lock);
  return rc;
}

void registry_remove(struct registry *g, struct tunnel *t) {
  pthread_mutex_lock(&g->lock);
  if (map_get(g->tunnels, t->label) == t) {
    (void)map_remove(g->tunnels, t->label);
    roster_remove(&t->place);
    t->owner->tunnels--;
    tunnel_unref_locked(g, t);
  }
  pthread_mutex_unlock(&g->lock);
}

struct tunnel *registry_find(struct registry *g, const char *label) {
  pthread_mutex_lock(&g->lock);
  struct tunnel *t = map_get(g->tunnels, label);
  if (t != NULL) (void)tunnel_ref(t);
  pthread_mutex_unlock(&g->lock);
  return t;
}

/* Links */

int registry_link_put(struct registry *g, struct owner *o, const uint8_t id[LINK_ID_BYTES], struct worker *w) {
  pthread_mutex_lock(&g->lock);
  int rc = 0;
  if (map_get(g->links, id) != NULL) rc = ERR_CONFLICT;
  else if (o->links >= o->max_tunnels + LINKS_SPARE_PER_TOKEN) rc = ERR_LIMIT;
  if (rc == 0) rc = map_put(g->links, id, w);
  if (rc == 0) o->links++;
  pthread_mutex_unlock(&g->lock);
  return rc;
}

struct worker *registry_link_find(struct registry *g, const uint8_t id[LINK_ID_BYTES]) {
  pthread_mutex_lock(&g->lock);
  struct worker *w = map_get(g->links, id);
  pthread_mutex_unlock(&g->lock);
  return w;
}

void registry_link_remove(struct registry *g, struct owner *o, const uint8_t id[LINK_ID_BYTES]) {
  pthread_mutex_lock(&g->lock);
  if (map_remove(g->links, id) != NULL) o->links--;
  pthread_mutex_unlock(&g->lock);
}

/* Walking */

void registry_walk_begin(struct registry *g, struct registry_walk *w) {
  pthread_mutex_lock(&g->lock);
  roster_walk_begin(&g->all_tunnels, &w->tunnels);
  pthread_mutex_unlock(&g->lock);
}

static bool walk_some(struct registry *g, struct registry_walk *w, struct tunnel *out[REGISTRY_STEPS_MAX], size_t *n) {
  bool more = true;
  pthread_mutex_lock(&g->lock);
  for (int i = 0; more && i < REGISTRY_STEPS_MAX; i++) {
    struct roster_entry *e;
    more = roster_walk_step(&w->tunnels, &e);
    if (e != NULL) out[(*n)++] = tunnel_ref(CONTAINER_OF(e, struct tunnel, place));
  }
  pthread_mutex_unlock(&g->lock);
  return more;
}

size_t registry_walk_next(struct registry *g, struct registry_walk *w, struct tunnel *out[REGISTRY_STEPS_MAX]) {
  size_t n = 0;
  while (walk_some(g, w, out, &n) && n == 0) {   /* as many other walks stood there */
  }
  return n;
}

void registry_walk_end(struct registry *g, struct registry_walk *w) {
  pthread_mutex_lock(&g->lock);
  roster_walk_end(&w->tunnels);
  pthread_mutex_unlock(&g->lock);
}
