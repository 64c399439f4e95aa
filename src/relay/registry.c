/* Owners, tunnels and links of a relay. The hard thing is lifetime: a visitor on another worker may hold a tunnel after
   it has been closed or replaced, so tunnels and owners go when their last reference goes, while the maps say what is
   current. */
#include "relay/registry.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/map.h"

struct registry {
  pthread_mutex_t lock;
  struct map *owners;              /* id -> struct owner, without a reference of its own */
  struct map *revoked;             /* id -> itself */
  struct revocations *narrowed;    /* those of them that the holders of their parents have revoked */
  struct map *programs;            /* id -> itself */
  uint8_t programs_prefix[PROGRAM_PREFIX_BYTES];
  bool has_programs;               /* or had */
  struct map *tunnels;             /* label -> struct tunnel, one reference */
  struct map *links;               /* link id -> struct worker */
  struct usages *usages;
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
  g->narrowed = revocations_new();
  g->programs = map_new(TOKEN_ID_BYTES);
  g->tunnels = map_new(LABEL_CHARS);
  g->links = map_new(LINK_ID_BYTES);
  g->usages = usages_new();
  if (g->owners == NULL || g->revoked == NULL || g->narrowed == NULL || g->programs == NULL || g->tunnels == NULL ||
      g->links == NULL || g->usages == NULL) {
    registry_free(g);
    return ERR_NOMEM;
  }
  *out = g;
  return 0;
}

static void tunnel_unref_locked(struct registry *g, struct tunnel *t);

/* Those that have gone to another process, whose names were still good here. */
static void let_tunnels_go(struct registry *g) {
  size_t at = 0;
  const void *label;
  void *t;
  while (g->tunnels != NULL && map_next(g->tunnels, &at, &label, &t)) tunnel_unref_locked(g, t);
}

void registry_free(struct registry *g) {
  if (g == NULL) return;
  let_tunnels_go(g);
  map_free(g->owners);
  map_free(g->revoked);
  revocations_free(g->narrowed);
  map_free(g->programs);
  map_free(g->tunnels);
  map_free(g->links);
  usages_free(g->usages);
  pthread_mutex_destroy(&g->lock);
  free(g);
}

/* Owners */

struct owner *owner_ref(struct owner *o) {
  (void)__atomic_add_fetch(&o->refs, 1, __ATOMIC_RELAXED);
  return o;
}

/* With the last child goes the parent, if nobody else is here with it. */
static void owner_unref_locked(struct registry *g, struct owner *o) {
  while (o != NULL && __atomic_sub_fetch(&o->refs, 1, __ATOMIC_ACQ_REL) == 0) {
    struct owner *parent = o->parent;
    (void)map_remove(g->owners, o->id);
    roster_remove(&o->place);
    usages_leave(g->usages, o->usage);
    free(o);
    o = parent;
  }
}

/* The count falls to zero only under the lock, so that a look-up cannot revive an owner that is being freed. */
void registry_owner_unref(struct registry *g, struct owner *o) {
  if (o == NULL) return;
  pthread_mutex_lock(&g->lock);
  owner_unref_locked(g, o);
  pthread_mutex_unlock(&g->lock);
}

static void owner_set_name(struct owner *o, const char *name) {
  const char *before = o->parent != NULL ? o->parent->name : "";
  int n = snprintf(o->name, sizeof o->name, "%s%s%s", before, before[0] != 0 && name[0] != 0 ? "/" : "", name);
  ASSERT(n >= 0 && (size_t)n < sizeof o->name);
}

/* Takes the reference to its parent. */
static struct owner *owner_new(const struct certificate *c, struct owner *parent, struct usage *usage) {
  struct owner *o = calloc(1, sizeof *o);
  if (o == NULL) return NULL;
  o->usage = usage;
  o->refs = 1;
  o->parent = parent;
  o->root = parent != NULL ? parent->root : o;
  memcpy(o->id, c->id, sizeof o->id);
  owner_set_name(o, c->name);
  memcpy(usage->name, o->name, sizeof usage->name);
  o->max_tunnels = c->max_tunnels;
  o->expires_s = c->expires_s;
  o->no_raw = c->no_raw;
  memcpy(o->allow, c->allow, sizeof o->allow);
  o->allow_n = c->allow_n;
  o->account = (struct account){.parent = parent != NULL ? &parent->account : NULL, .limits = c->limits};
  o->rate = parent != NULL ? parent->rate : NULL;
  if (c->limits.max_bytes_per_s == 0) return o;
  o->own_rate = rate_within(c->limits.max_bytes_per_s, o->rate);
  o->rate = &o->own_rate;
  return o;
}

/* From an owner, or nobody, to that of a certificate narrowed from his: with a reference, for the one that was had. */
static int owner_step(struct registry *g, const struct certificate *c, struct owner **o) {
  struct owner *parent = *o, *next = map_get(g->owners, c->id);
  if (next != NULL) {
    __atomic_store_n(&next->ended, false, __ATOMIC_RELAXED); /* it had expired by a clock that was set back since */
    *o = owner_ref(next);
    owner_unref_locked(g, parent);
    return 0;
  }
  struct usage *usage = usages_enter(g->usages, c->id, parent != NULL ? parent->usage : NULL);
  next = usage != NULL ? owner_new(c, parent, usage) : NULL;
  if (next == NULL || map_put(g->owners, next->id, next) != 0) {
    if (usage != NULL) usages_leave(g->usages, usage);
    free(next);
    return ERR_NOMEM;
  }
  roster_add(&g->all_owners, &next->place);
  *o = next;
  return 0;
}

static bool has_lost_its_right(const struct registry *g, const uint8_t id[TOKEN_ID_BYTES]) {
  if (map_get(g->revoked, id) != NULL) return true;
  return g->has_programs && memcmp(id, g->programs_prefix, PROGRAM_PREFIX_BYTES) == 0 &&
         map_get(g->programs, id) == NULL;
}

/* By the holder of one before it. */
static bool is_revoked_in(const struct registry *g, const struct certificate *chain, size_t at) {
  for (size_t i = 0; i < at; i++) {
    if (revocations_find(g->narrowed, chain[i].id, chain[at].id) != NULL) return true;
  }
  return false;
}

static int owner_walk(struct registry *g, const struct certificate *chain, size_t n, struct owner **out) {
  struct owner *o = NULL;
  int rc = 0;
  for (size_t i = 0; i < n && rc == 0; i++) rc = owner_step(g, &chain[i], &o);
  if (rc == 0) *out = o;
  else owner_unref_locked(g, o);
  return rc;
}

int registry_owner(struct registry *g, const struct certificate *chain, size_t n, int64_t now_s, struct owner **out) {
  int rc = 0;
  pthread_mutex_lock(&g->lock);
  for (size_t i = 0; i < n && rc == 0; i++) {
    if (has_lost_its_right(g, chain[i].id) || is_revoked_in(g, chain, i)) rc = ERR_AUTH;
    else if (chain[i].expires_s != 0 && chain[i].expires_s <= now_s) rc = ERR_TIMEOUT;
  }
  if (rc == 0) rc = owner_walk(g, chain, n, out);
  pthread_mutex_unlock(&g->lock);
  return rc;
}

int registry_owner_moved(struct registry *g, const struct certificate *chain, size_t n, struct owner **out) {
  pthread_mutex_lock(&g->lock);
  int rc = owner_walk(g, chain, n, out);
  pthread_mutex_unlock(&g->lock);
  return rc;
}

int registry_revoke(struct registry *g, const uint8_t id[TOKEN_ID_BYTES]) {
  pthread_mutex_lock(&g->lock);
  int rc = map_get(g->revoked, id) != NULL ? 0 : map_put(g->revoked, id, g);
  pthread_mutex_unlock(&g->lock);
  return rc;
}

/* Narrowed ones */

static bool is_narrowed_from(const struct owner *o, const struct owner *from) {
  while (o != NULL && o != from) o = o->parent;
  return o != NULL;
}

static size_t depth_of(const struct owner *o) { return o == NULL ? 0 : 1 + depth_of(o->parent); }

int registry_revocation(struct registry *g, const struct owner *by, const uint8_t id[TOKEN_ID_BYTES], int64_t expires_s,
                        struct revocation *out) {
  pthread_mutex_lock(&g->lock);
  const struct owner *child = map_get(g->owners, id);
  bool is_his = depth_of(by) < CHAIN_MAX && child != by && (child == NULL || is_narrowed_from(child, by));
  if (child != NULL) expires_s = child->expires_s;
  pthread_mutex_unlock(&g->lock);
  if (!is_his) return ERR_CONFLICT;
  if (by->expires_s != 0 && (expires_s == 0 || expires_s > by->expires_s)) expires_s = by->expires_s;
  *out = (struct revocation){.expires_s = expires_s};
  memcpy(out->root, by->root->id, sizeof out->root);
  memcpy(out->revoker, by->id, sizeof out->revoker);
  memcpy(out->id, id, sizeof out->id);
  return 0;
}

int registry_revoke_narrowed(struct registry *g, const struct revocation *r, struct revocation *before) {
  *before = (struct revocation){.expires_s = 0};
  pthread_mutex_lock(&g->lock);
  const struct revocation *there = revocations_find(g->narrowed, r->revoker, r->id);
  if (there != NULL) *before = *there;
  int rc = revocations_have_room(g->narrowed, r) ? revocations_put(g->narrowed, r) : ERR_LIMIT;
  pthread_mutex_unlock(&g->lock);
  return rc;
}

void registry_revoke_undo(struct registry *g, const struct revocation *r, const struct revocation *before) {
  bool was_there = memcmp(before->id, r->id, sizeof r->id) == 0;
  pthread_mutex_lock(&g->lock);
  int rc = 0;
  if (!was_there) revocations_remove(g->narrowed, r);
  else rc = revocations_put(g->narrowed, before);
  ASSERT(rc == 0);                 /* what is there takes no more memory */
  pthread_mutex_unlock(&g->lock);
}

int registry_revocation_load(struct registry *g, const struct revocation *r) {
  pthread_mutex_lock(&g->lock);
  int rc = revocations_put(g->narrowed, r);
  pthread_mutex_unlock(&g->lock);
  return rc;
}

bool registry_revoke_done(struct registry *g, const struct revocation *r) {
  pthread_mutex_lock(&g->lock);
  revocations_remove_below(g->narrowed, r);
  const struct owner *o = map_get(g->owners, r->id);
  bool is_here = o != NULL && !owner_has_ended(o);
  pthread_mutex_unlock(&g->lock);
  return is_here;
}

void registry_revocations_expire(struct registry *g, int64_t until_s) {
  pthread_mutex_lock(&g->lock);
  size_t left = revocations_count(g->narrowed);
  pthread_mutex_unlock(&g->lock);
  for (; left > 0; left -= size_min(left, REGISTRY_STEPS_MAX)) {
    pthread_mutex_lock(&g->lock);
    revocations_expire(g->narrowed, until_s, REGISTRY_STEPS_MAX);
    pthread_mutex_unlock(&g->lock);
  }
}

int registry_admit(struct registry *g, const uint8_t id[TOKEN_ID_BYTES]) {
  pthread_mutex_lock(&g->lock);
  memcpy(g->programs_prefix, id, PROGRAM_PREFIX_BYTES);
  g->has_programs = true;
  int rc = map_put(g->programs, id, g) == 0 ? 0 : ERR_NOMEM;
  pthread_mutex_unlock(&g->lock);
  return rc;
}

void registry_dismiss(struct registry *g, const uint8_t id[TOKEN_ID_BYTES]) {
  pthread_mutex_lock(&g->lock);
  (void)map_remove(g->programs, id);
  pthread_mutex_unlock(&g->lock);
}

static bool is_revoked(const struct registry *g, const struct owner *o) {
  for (; o != NULL; o = o->parent) {
    if (has_lost_its_right(g, o->id)) return true;
    for (const struct owner *by = o->parent; by != NULL; by = by->parent) {
      if (revocations_find(g->narrowed, by->id, o->id) != NULL) return true;
    }
  }
  return false;
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
    if (!is_revoked(g, o) && (o->expires_s == 0 || o->expires_s > now_s)) continue;
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

int tunnel_set_admission(struct tunnel *t, const struct cidr *allow, size_t allow_n, const struct cidr *deny,
                         size_t deny_n) {
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
  const struct owner *o = t->owner;
  if (o->allow_n > 0 && !cidrs_contain(o->allow, o->allow_n, visitor)) return false;
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

static bool tunnels_fit(const struct owner *o) {
  for (; o != NULL; o = o->parent) {
    if (o->tunnels >= o->max_tunnels) return false;
  }
  return true;
}

static void tunnels_add(struct owner *o) {
  for (; o != NULL; o = o->parent) o->tunnels++;
}

static void tunnels_remove(struct owner *o) {
  for (; o != NULL; o = o->parent) o->tunnels--;
}

/* A label's next tunnel may be of another of its root's tokens: the one that goes leaves its place first. */
static int put_locked(struct registry *g, struct tunnel *t, struct tunnel **replaced) {
  struct tunnel *old = map_get(g->tunnels, t->label);
  if (old != NULL && old->incarnation > t->incarnation) return ERR_CONFLICT;
  if (old != NULL) tunnels_remove(old->owner);
  int rc = !tunnels_fit(t->owner) ? ERR_LIMIT : map_put(g->tunnels, t->label, t) != 0 ? ERR_NOMEM : 0;
  if (rc != 0) {
    if (old != NULL) tunnels_add(old->owner);
    return rc;
  }
  tunnels_add(t->owner);
  (void)tunnel_ref(t);
  *replaced = old;                 /* the map's reference passes to the caller */
  if (old != NULL) roster_replace(&old->place, &t->place);
  else roster_add(&g->all_tunnels, &t->place);
  return 0;
}

int registry_put(struct registry *g, struct tunnel *t, struct tunnel **replaced) {
  *replaced = NULL;
  pthread_mutex_lock(&g->lock);
  t->serial = ++g->serial;
  int rc = put_locked(g, t, replaced);
  pthread_mutex_unlock(&g->lock);
  return rc;
}

static void serial_reach(struct registry *g, uint64_t serial) {
  if (serial > g->serial) g->serial = serial;
}

int registry_put_moved(struct registry *g, struct tunnel *t, struct tunnel **replaced) {
  *replaced = NULL;
  pthread_mutex_lock(&g->lock);
  const struct tunnel *old = map_get(g->tunnels, t->label);
  int rc = old != NULL && old->serial > t->serial ? ERR_CONFLICT : put_locked(g, t, replaced);
  if (rc == 0) serial_reach(g, t->serial);
  pthread_mutex_unlock(&g->lock);
  return rc;
}

uint64_t registry_serial(struct registry *g) {
  pthread_mutex_lock(&g->lock);
  uint64_t serial = g->serial;
  pthread_mutex_unlock(&g->lock);
  return serial;
}

void registry_serial_reach(struct registry *g, uint64_t serial) {
  pthread_mutex_lock(&g->lock);
  serial_reach(g, serial);
  pthread_mutex_unlock(&g->lock);
}

void registry_remove(struct registry *g, struct tunnel *t) {
  pthread_mutex_lock(&g->lock);
  if (map_get(g->tunnels, t->label) == t) {
    (void)map_remove(g->tunnels, t->label);
    roster_remove(&t->place);
    tunnels_remove(t->owner);
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

/* Origins */

void origin_enter(struct origin *o, struct tunnel *t) {
  *o = (struct origin){.owner = owner_ref(t->owner), .serial = t->serial};
  memcpy(o->label, t->label, sizeof o->label);
  (void)__atomic_add_fetch(&t->streams_now, 1, __ATOMIC_RELAXED);
  (void)__atomic_add_fetch(&t->streams_total, 1, __ATOMIC_RELAXED);
  usage_stream_begins(t->owner->usage);
}

static struct tunnel *origin_find_locked(struct registry *g, const struct origin *o) {
  struct tunnel *t = map_get(g->tunnels, o->label);
  return t != NULL && t->serial == o->serial ? t : NULL;
}

void origin_resume(struct registry *g, struct origin *o) {
  pthread_mutex_lock(&g->lock);
  struct tunnel *t = origin_find_locked(g, o);
  if (t != NULL) (void)__atomic_add_fetch(&t->streams_now, 1, __ATOMIC_RELAXED);
  else o->serial = 0;              /* it closed meanwhile: a later one of that label has nothing to do with it */
  usage_stream_resumes(o->owner->usage);
  pthread_mutex_unlock(&g->lock);
}

struct tunnel *origin_tunnel(struct registry *g, const struct origin *o) {
  pthread_mutex_lock(&g->lock);
  struct tunnel *t = origin_find_locked(g, o);
  if (t != NULL) (void)tunnel_ref(t);
  pthread_mutex_unlock(&g->lock);
  return t;
}

void origin_leave(struct registry *g, struct origin *o) {
  pthread_mutex_lock(&g->lock);
  struct tunnel *t = origin_find_locked(g, o);
  if (t != NULL) (void)__atomic_sub_fetch(&t->streams_now, 1, __ATOMIC_RELAXED);
  usage_stream_ends(o->owner->usage);
  owner_unref_locked(g, o->owner);
  pthread_mutex_unlock(&g->lock);
  o->owner = NULL;
}

/* Links */

static bool links_fit(const struct owner *o) {
  for (; o != NULL; o = o->parent) {
    if (o->links >= o->max_tunnels + LINKS_SPARE_PER_TOKEN) return false;
  }
  return true;
}

int registry_link_put(struct registry *g, struct owner *o, const uint8_t id[LINK_ID_BYTES], struct worker *w) {
  pthread_mutex_lock(&g->lock);
  int rc = 0;
  if (map_get(g->links, id) != NULL) rc = ERR_CONFLICT;
  else if (!links_fit(o)) rc = ERR_LIMIT;
  if (rc == 0) rc = map_put(g->links, id, w);
  for (; rc == 0 && o != NULL; o = o->parent) o->links++;
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
  bool was = map_remove(g->links, id) != NULL;
  for (; was && o != NULL; o = o->parent) o->links--;
  pthread_mutex_unlock(&g->lock);
}

/* Walking */

void registry_walk_begin(struct registry *g, struct registry_walk *w) {
  pthread_mutex_lock(&g->lock);
  roster_walk_begin(&g->all_tunnels, &w->tunnels);
  roster_walk_begin(usages_tokens(g->usages), &w->tokens);
  roster_walk_begin(usages_narrowed(g->usages), &w->narrowed);
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

static bool usages_some(struct registry *g, struct roster_walk *w, struct usage out[REGISTRY_STEPS_MAX], size_t *n) {
  bool more = true;
  pthread_mutex_lock(&g->lock);
  for (int i = 0; more && i < REGISTRY_STEPS_MAX; i++) {
    struct roster_entry *e;
    more = roster_walk_step(w, &e);
    if (e != NULL) out[(*n)++] = usage_now(CONTAINER_OF(e, struct usage, place));
  }
  pthread_mutex_unlock(&g->lock);
  return more;
}

size_t registry_walk_usages(struct registry *g, struct roster_walk *w, struct usage out[REGISTRY_STEPS_MAX]) {
  size_t n = 0;
  while (usages_some(g, w, out, &n) && n == 0) {
  }
  return n;
}

void registry_walk_end(struct registry *g, struct registry_walk *w) {
  pthread_mutex_lock(&g->lock);
  roster_walk_end(&w->tunnels);
  roster_walk_end(&w->tokens);
  roster_walk_end(&w->narrowed);
  pthread_mutex_unlock(&g->lock);
}

int registry_add_usage(struct registry *g, const struct usage *counted) {
  pthread_mutex_lock(&g->lock);
  int rc = usages_add(g->usages, counted);
  pthread_mutex_unlock(&g->lock);
  return rc;
}

int registry_take_usage(struct registry *g, const struct usage *counted) {
  pthread_mutex_lock(&g->lock);
  usages_take(g->usages, counted);
  pthread_mutex_unlock(&g->lock);
  return 0;
}
