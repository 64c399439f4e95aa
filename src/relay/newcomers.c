/* Crowds (of a source), lanes (of an owner, one for what costs a signature and one for the rest), files (of a source
   within a lane: where they stand in line), and an array of all for drawing lots. All counts are of this worker; only
   the cap of a source is the whole relay's. */
#include "relay/newcomers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/map.h"
#include "base/shortage.h"

enum { NEWCOMER_MAGIC = 0x6e657763, LOTS = 4, ARRAY_FIRST = 64 };

struct crowd {
  struct source_key source;
  size_t count, counting;          /* all; those who count at the source */
  struct list stages[NEWCOMER_STAGES];           /* each with the longest there first */
};

struct lane_key { const void *owner; uintptr_t signs; };   /* without padding */
struct lane {
  struct lane_key key;
  size_t count;                    /* files and those who were served as well */
  struct list node;                /* among the lanes with files */
  struct list files;
};

struct file_key { struct lane *lane; struct crowd *crowd; };
struct file {
  struct file_key key;
  struct list node;
  struct list waiting;
};

struct array {
  struct newcomer **at;
  size_t count, room;
};

struct newcomers {
  struct loop *loop;
  struct sources *sources;
  struct metrics *metrics;
  struct map *crowds;              /* source_key -> struct crowd */
  struct map *lanes_by_key;        /* lane_key -> struct lane */
  struct map *files;               /* file_key -> struct file */
  struct list lanes[2];            /* those without signatures, and those with; each with whose turn it is first */
  unsigned turn;                   /* which of both is next */
  struct array arrays[NEWCOMER_KINDS];           /* to draw lots from */
  size_t strangers_max, spare_per_source;
  size_t bytes[NEWCOMER_QUEUERS], bytes_max;     /* of strangers and of those who are paid for */
  struct loop_deferred serving;
  bool serving_set, resting;
};

struct newcomers *newcomers_new(struct loop *l, struct sources *sources, struct metrics *metrics, size_t bytes_max,
                                size_t strangers_max, unsigned workers) {
  struct newcomers *all = calloc(1, sizeof *all);
  if (all == NULL) return NULL;
  all->loop = l;
  all->sources = sources;
  all->metrics = metrics;
  all->bytes_max = bytes_max;
  all->strangers_max = strangers_max;
  all->spare_per_source = size_max(HANDSHAKES_PER_SOURCE_SPARE / workers, HANDSHAKES_PER_SOURCE_SPARE_MIN);
  list_init(&all->lanes[0]);
  list_init(&all->lanes[1]);
  all->crowds = map_new(sizeof(struct source_key));
  all->lanes_by_key = map_new(sizeof(struct lane_key));
  all->files = map_new(sizeof(struct file_key));
  if (all->crowds != NULL && all->lanes_by_key != NULL && all->files != NULL) return all;
  newcomers_free(all);
  return NULL;
}

void newcomers_free(struct newcomers *all) {
  if (all == NULL) return;
  for (int i = 0; i < NEWCOMER_KINDS; i++) {
    ASSERT(all->arrays[i].count == 0);
    free(all->arrays[i].at);
  }
  map_free(all->crowds);
  map_free(all->lanes_by_key);
  map_free(all->files);
  free(all);
}

/* Crowds, lanes and files come with their first member and go with their last */

static struct crowd *crowd_of(struct newcomers *all, const struct source_key *source) {
  struct crowd *c = map_get(all->crowds, source);
  if (c != NULL) return c;
  c = calloc(1, sizeof *c);
  if (c == NULL) return NULL;
  c->source = *source;
  for (int i = 0; i < NEWCOMER_STAGES; i++) list_init(&c->stages[i]);
  if (map_put(all->crowds, source, c) == 0) return c;
  free(c);
  return NULL;
}

static void crowd_release(struct newcomers *all, struct crowd *c) {
  if (c->count > 0) return;
  (void)map_remove(all->crowds, &c->source);
  free(c);
}

static struct lane *lane_of(struct newcomers *all, const void *owner, bool signs) {
  const struct lane_key key = {.owner = owner, .signs = signs};
  struct lane *lane = map_get(all->lanes_by_key, &key);
  if (lane != NULL) return lane;
  lane = calloc(1, sizeof *lane);
  if (lane == NULL) return NULL;
  lane->key = key;
  list_init(&lane->node);
  list_init(&lane->files);
  if (map_put(all->lanes_by_key, &key, lane) == 0) return lane;
  free(lane);
  return NULL;
}

static void lane_release(struct newcomers *all, struct lane *lane) {
  if (lane->count > 0) return;
  (void)map_remove(all->lanes_by_key, &lane->key);
  free(lane);
}

/* The last of its lane, and the lane with it, if it is new: whoever comes waits for all who are there. */
static struct file *file_of(struct newcomers *all, struct lane *lane, struct crowd *crowd) {
  struct file_key key = {.lane = lane, .crowd = crowd};
  struct file *f = map_get(all->files, &key);
  if (f != NULL) return f;
  f = calloc(1, sizeof *f);
  if (f == NULL) return NULL;
  f->key = key;
  list_init(&f->waiting);
  if (map_put(all->files, &key, f) != 0) {
    free(f);
    return NULL;
  }
  if (list_empty(&lane->files)) list_push_tail(&all->lanes[lane->key.signs], &lane->node);
  list_push_tail(&lane->files, &f->node);
  return f;
}

static void file_release(struct newcomers *all, struct file *f) {
  if (!list_empty(&f->waiting)) return;
  list_remove(&f->node);
  if (list_empty(&f->key.lane->files)) list_remove(&f->key.lane->node);
  (void)map_remove(all->files, &f->key);
  free(f);
}

/* Who goes */

static bool counts_at_source(enum newcomer_stage stage) { return stage != NEWCOMER_PROVEN; }

/* Those who ask for a link have no owner yet to tell them apart by. */
static size_t weight_of(const struct newcomer *n) {
  return n->crowd->count * (n->lane != NULL && n->lane->key.owner != NULL ? n->lane->count : 1);
}

/* Of LOTS that are drawn the heaviest, and never `not_this`; NULL when there is nobody else. */
static struct newcomer *draw(struct newcomers *all, enum newcomer_kind kind, const struct newcomer *not_this) {
  const struct array *a = &all->arrays[kind];
  uint16_t lots[LOTS];
  struct newcomer *heaviest = NULL;
  loop_random(all->loop, lots, sizeof lots);
  for (int i = 0; i < LOTS && a->count > 0; i++) {
    size_t at = (size_t)lots[i] * a->count >> 16;
    struct newcomer *n = a->at[at] != not_this ? a->at[at] : a->at[(at + 1) % a->count];
    if (n != not_this && (heaviest == NULL || weight_of(n) > weight_of(heaviest))) heaviest = n;
  }
  return heaviest;
}

static struct newcomer *longest_there(struct crowd *c) {
  for (int stage = 0; counts_at_source((enum newcomer_stage)stage); stage++) {
    if (!list_empty(&c->stages[stage])) return CONTAINER_OF(c->stages[stage].next, struct newcomer, in_crowd);
  }
  return NULL;
}

static size_t bytes_of_all(const struct newcomers *all) {
  return all->bytes[NEWCOMER_STRANGERS] + all->bytes[NEWCOMER_PAID];
}

static void keep_to_memory(struct newcomers *all, const struct newcomer *for_whom) {
  while (bytes_of_all(all) > all->bytes_max) {
    enum newcomer_kind more = all->bytes[NEWCOMER_STRANGERS] > all->bytes_max / 2 ? NEWCOMER_STRANGERS : NEWCOMER_PAID;
    struct newcomer *n = draw(all, more, for_whom);
    if (n == NULL) return;
    METRIC_ADD(all->metrics, newcomers_dropped_memory_total, 1);
    n->drop(n);
  }
}

static void keep_strangers_few(struct newcomers *all, const struct newcomer *for_whom) {
  if (all->arrays[NEWCOMER_STRANGERS].count <= all->strangers_max) return;
  struct newcomer *n = draw(all, NEWCOMER_STRANGERS, for_whom);
  if (n == NULL) return;
  METRIC_ADD(all->metrics, newcomers_dropped_descriptors_total, 1);
  (void)shortage_note(EMFILE);
  n->drop(n);
}

/* The source's place in the whole relay; at the cap, that of one of its own at this worker. Where it has few here it
   has more, beyond the cap: nobody is shut out by those behind his address whom he cannot replace, and his own, as the
   data connections of an agent that has been asked for many, do not replace each other. */
static int take_source(struct newcomers *all, const struct source_key *source) {
  int rc = sources_enter(all->sources, source);
  if (rc != ERR_LIMIT) return rc;
  struct crowd *c = map_get(all->crowds, source);
  bool replaces = c != NULL && c->counting >= all->spare_per_source;
  rc = sources_enter_over_cap(all->sources, source);
  if (rc != 0 || !replaces) return rc;
  METRIC_ADD(all->metrics, handshakes_over_cap_total, 1);
  struct newcomer *n = longest_there(c);
  n->drop(n);
  return 0;
}

/* Coming, changing, going */

static int array_add(struct newcomers *all, enum newcomer_kind kind, struct newcomer *n) {
  struct array *a = &all->arrays[kind];
  if (a->count == a->room) {
    size_t room = size_max(ARRAY_FIRST, a->room * 2);
    struct newcomer **at = realloc(a->at, room * sizeof(struct newcomer *));
    if (at == NULL) return ERR_NOMEM;
    a->at = at;
    a->room = room;
  }
  n->place[kind] = a->count;
  a->at[a->count++] = n;
  return 0;
}

static void array_remove(struct newcomers *all, enum newcomer_kind kind, const struct newcomer *n) {
  struct array *a = &all->arrays[kind];
  struct newcomer *last = a->at[--a->count];
  a->at[n->place[kind]] = last;
  last->place[kind] = n->place[kind];
}

static void enter_crowd(struct newcomer *n, struct crowd *c) {
  n->crowd = c;
  c->count++;
  if (counts_at_source(n->stage)) c->counting++;
  list_push_tail(&c->stages[n->stage], &n->in_crowd);
}

static void leave_crowd(struct newcomer *n) {
  list_remove(&n->in_crowd);
  n->crowd->count--;
  if (counts_at_source(n->stage)) n->crowd->counting--;
  crowd_release(n->all, n->crowd);
}

int newcomer_enter(struct newcomers *all, struct newcomer *n, enum newcomer_kind kind, const struct source_key *source,
                   size_t bytes, void (*drop)(struct newcomer *n)) {
  memset(n, 0, sizeof *n);
  int rc = take_source(all, source);
  if (rc != 0) return rc;
  struct crowd *c = crowd_of(all, source);
  if (c == NULL || array_add(all, kind, n) != 0) {
    if (c != NULL) crowd_release(all, c);
    sources_leave(all->sources, source);
    return ERR_NOMEM;
  }
  n->magic = NEWCOMER_MAGIC;
  n->all = all;
  n->kind = kind;
  n->drop = drop;
  list_init(&n->in_file);
  enter_crowd(n, c);
  keep_strangers_few(all, n);
  newcomer_set_bytes(n, bytes);
  return 0;
}

static void leave_file(struct newcomer *n) {
  if (n->file == NULL) return;
  list_remove(&n->in_file);
  file_release(n->all, n->file);
  n->file = NULL;
  array_remove(n->all, NEWCOMER_QUEUERS, n);
}

void newcomer_leave(struct newcomer *n) {
  struct newcomers *all = n->all;
  if (all == NULL) return;
  CHECK_MAGIC(n, NEWCOMER_MAGIC);
  leave_file(n);
  if (n->lane != NULL) {
    n->lane->count--;
    lane_release(all, n->lane);
  }
  if (counts_at_source(n->stage)) sources_leave(all->sources, &n->crowd->source);
  leave_crowd(n);
  array_remove(all, n->kind, n);
  all->bytes[n->kind] -= n->bytes;
  n->magic = 0;
  n->all = NULL;
}

void newcomer_pass(struct newcomer *from, struct newcomer *to, void (*drop)(struct newcomer *n)) {
  CHECK_MAGIC(from, NEWCOMER_MAGIC);
  ASSERT(from->file == NULL);
  *to = *from;
  to->drop = drop;
  list_init(&to->in_file);
  list_push_head(&from->in_crowd, &to->in_crowd);  /* the same place in line */
  list_remove(&from->in_crowd);
  to->all->arrays[to->kind].at[to->place[to->kind]] = to;
  from->magic = 0;
  from->all = NULL;
}

int newcomer_set_source(struct newcomer *n, const struct source_key *source) {
  CHECK_MAGIC(n, NEWCOMER_MAGIC);
  ASSERT(n->file == NULL);
  if (memcmp(source, &n->crowd->source, sizeof *source) == 0) return 0;
  int rc = take_source(n->all, source);
  if (rc != 0) return rc;
  struct crowd *c = crowd_of(n->all, source);
  if (c == NULL) {
    sources_leave(n->all->sources, source);
    return ERR_NOMEM;
  }
  sources_leave(n->all->sources, &n->crowd->source);
  c->count++;                      /* stays, also when it is the one that is left */
  leave_crowd(n);
  c->count--;
  enter_crowd(n, c);
  return 0;
}

static void set_stage(struct newcomer *n, enum newcomer_stage stage) {
  n->stage = stage;
  list_remove(&n->in_crowd);
  list_push_tail(&n->crowd->stages[stage], &n->in_crowd);
}

void newcomer_set_bytes(struct newcomer *n, size_t bytes) {
  CHECK_MAGIC(n, NEWCOMER_MAGIC);
  n->all->bytes[n->kind] += bytes - n->bytes;
  n->bytes = bytes;
  keep_to_memory(n->all, n);
}

void newcomer_proven(struct newcomer *n) {
  CHECK_MAGIC(n, NEWCOMER_MAGIC);
  ASSERT(n->stage == NEWCOMER_SERVED);
  sources_leave(n->all->sources, &n->crowd->source);
  n->crowd->counting--;
  set_stage(n, NEWCOMER_PROVEN);
}

/* Turns */

static void serve_next(struct loop_deferred *d);

/* NULL: nobody, or nobody who may be. */
static struct lane *lane_next(struct newcomers *all) {
  for (unsigned tried = 0; tried < ARRAY_LEN(all->lanes); tried++) {
    unsigned i = all->turn++ % ARRAY_LEN(all->lanes);
    if (list_empty(&all->lanes[i]) || (i == 1 && all->resting)) continue;
    return CONTAINER_OF(all->lanes[i].next, struct lane, node);
  }
  return NULL;
}

static void plan_to_serve(struct newcomers *all) {
  if (all->serving_set || (list_empty(&all->lanes[0]) && (all->resting || list_empty(&all->lanes[1])))) return;
  all->serving_set = true;
  loop_call_late(all->loop, &all->serving, serve_next);
}

static void serve_next(struct loop_deferred *d) {
  struct newcomers *all = CONTAINER_OF(d, struct newcomers, serving);
  all->serving_set = false;
  struct lane *lane = lane_next(all);
  if (lane == NULL) return;
  struct file *f = CONTAINER_OF(lane->files.next, struct file, node);
  struct newcomer *n = CONTAINER_OF(f->waiting.next, struct newcomer, in_file);
  list_remove(&f->node);
  list_push_tail(&lane->files, &f->node);
  list_remove(&lane->node);
  list_push_tail(&all->lanes[lane->key.signs], &lane->node);
  leave_file(n);
  set_stage(n, NEWCOMER_SERVED);
  plan_to_serve(all);
  n->serve(n);
}

void newcomers_rest(struct newcomers *all, bool rest) {
  all->resting = rest;
  if (!rest) plan_to_serve(all);
}

/* From here on it is not a stranger any more. */
static int pay_for(struct newcomer *n) {
  struct newcomers *all = n->all;
  if (n->kind == NEWCOMER_PAID) return 0;
  if (array_add(all, NEWCOMER_PAID, n) != 0) return ERR_NOMEM;
  array_remove(all, NEWCOMER_STRANGERS, n);
  all->bytes[NEWCOMER_STRANGERS] -= n->bytes;
  all->bytes[NEWCOMER_PAID] += n->bytes;
  n->kind = NEWCOMER_PAID;
  return 0;
}

int newcomer_queue(struct newcomer *n, const void *owner, bool signs, void (*serve)(struct newcomer *n)) {
  struct newcomers *all = n->all;
  CHECK_MAGIC(n, NEWCOMER_MAGIC);
  ASSERT(n->lane == NULL && n->stage == NEWCOMER_SILENT);
  struct lane *lane = lane_of(all, owner, signs);
  if (lane == NULL) return ERR_NOMEM;
  n->lane = lane;
  lane->count++;
  if (owner != NULL && pay_for(n) != 0) return ERR_NOMEM;
  struct file *f = file_of(all, lane, n->crowd);
  if (f == NULL) return ERR_NOMEM;
  if (array_add(all, NEWCOMER_QUEUERS, n) != 0) {
    file_release(all, f);
    return ERR_NOMEM;
  }
  n->file = f;
  n->serve = serve;
  list_push_tail(&f->waiting, &n->in_file);
  set_stage(n, NEWCOMER_QUEUED);
  plan_to_serve(all);
  if (all->arrays[NEWCOMER_QUEUERS].count <= NEWCOMERS_QUEUED_PER_WORKER_MAX) return 0;
  METRIC_ADD(all->metrics, newcomers_dropped_load_total, 1);
  struct newcomer *victim = draw(all, NEWCOMER_QUEUERS, NULL);
  if (victim == n) return ERR_LIMIT;
  victim->drop(victim);
  return 0;
}
