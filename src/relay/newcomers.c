/* Crowds (of a source), lanes (of an owner), files (of a source within a lane: where they stand in line), and an array of
   all for drawing lots. All counts are of this worker; only the cap of a source is the whole relay's. */
#include "relay/newcomers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/map.h"
#include "base/shortage.h"

enum { NEWCOMER_MAGIC = 0x6e657763, LOTS = 16, LOTS_COMPARED = 4, ARRAY_FIRST = 64 };

struct crowd {
  struct source_key source;
  size_t count;
  struct list stages[NEWCOMER_STAGES];           /* each with the longest there first */
};

struct lane {
  const void *owner;
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

struct newcomers {
  struct loop *loop;
  struct sources *sources;
  struct metrics *metrics;
  struct map *crowds;              /* source_key -> struct crowd */
  struct map *lanes_by_owner;      /* owner's address -> struct lane */
  struct map *files;               /* file_key -> struct file */
  struct list lanes;               /* whose turn it is first */
  struct newcomer **array;
  size_t count, room, queued;
  size_t strangers, strangers_max;
  size_t bytes, bytes_max;
  struct loop_deferred serving;
  bool serving_set;
};

struct newcomers *newcomers_new(struct loop *l, struct sources *sources, struct metrics *metrics, size_t bytes_max,
                                size_t strangers_max) {
  struct newcomers *all = calloc(1, sizeof *all);
  if (all == NULL) return NULL;
  all->loop = l;
  all->sources = sources;
  all->metrics = metrics;
  all->bytes_max = bytes_max;
  all->strangers_max = strangers_max;
  list_init(&all->lanes);
  all->crowds = map_new(sizeof(struct source_key));
  all->lanes_by_owner = map_new(sizeof(void *));
  all->files = map_new(sizeof(struct file_key));
  if (all->crowds != NULL && all->lanes_by_owner != NULL && all->files != NULL) return all;
  newcomers_free(all);
  return NULL;
}

void newcomers_free(struct newcomers *all) {
  if (all == NULL) return;
  ASSERT(all->count == 0);
  map_free(all->crowds);
  map_free(all->lanes_by_owner);
  map_free(all->files);
  free(all->array);
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

static struct lane *lane_of(struct newcomers *all, const void *owner) {
  struct lane *lane = map_get(all->lanes_by_owner, &owner);
  if (lane != NULL) return lane;
  lane = calloc(1, sizeof *lane);
  if (lane == NULL) return NULL;
  lane->owner = owner;
  list_init(&lane->node);
  list_init(&lane->files);
  if (map_put(all->lanes_by_owner, &owner, lane) == 0) return lane;
  free(lane);
  return NULL;
}

static void lane_release(struct newcomers *all, struct lane *lane) {
  if (lane->count > 0) return;
  (void)map_remove(all->lanes_by_owner, &lane->owner);
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
  if (list_empty(&lane->files)) list_push_tail(&all->lanes, &lane->node);
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

static bool is_anybody(const struct newcomer *n) { return n != NULL; }
static bool is_queued(const struct newcomer *n) { return n->stage == NEWCOMER_QUEUED; }
static bool is_stranger(const struct newcomer *n) { return n->lane == NULL || n->lane->owner == NULL; }

static size_t weight_of(const struct newcomer *n) {
  return n->crowd->count * (n->lane != NULL ? n->lane->count : 1);
}

/* Of some that are drawn, and are meant, the heaviest, and never `not_this`; NULL when none of them will do. */
static struct newcomer *draw(struct newcomers *all, const struct newcomer *not_this,
                             bool (*is_meant)(const struct newcomer *n)) {
  uint16_t lots[LOTS];
  struct newcomer *heaviest = NULL;
  loop_random(all->loop, lots, sizeof lots);
  for (int i = 0, compared = 0; i < LOTS && compared < LOTS_COMPARED; i++) {
    struct newcomer *n = all->array[(size_t)lots[i] * all->count >> 16];
    if (n == not_this || !is_meant(n)) continue;
    if (heaviest == NULL || weight_of(n) > weight_of(heaviest)) heaviest = n;
    compared++;
  }
  return heaviest;
}

static struct newcomer *longest_there(struct crowd *c) {
  for (int stage = 0; counts_at_source((enum newcomer_stage)stage); stage++) {
    if (!list_empty(&c->stages[stage])) return CONTAINER_OF(c->stages[stage].next, struct newcomer, in_crowd);
  }
  return NULL;
}

static void keep_to_memory(struct newcomers *all, const struct newcomer *for_whom) {
  while (all->bytes > all->bytes_max && all->count > 1) {
    struct newcomer *n = draw(all, for_whom, is_anybody);
    if (n == NULL) continue;       /* drew that one itself each time: there are others */
    METRIC_ADD(all->metrics, newcomers_dropped_memory_total, 1);
    n->drop(n);
  }
}

static void keep_strangers_few(struct newcomers *all, const struct newcomer *for_whom) {
  if (all->strangers <= all->strangers_max) return;
  struct newcomer *n = draw(all, for_whom, is_stranger);
  METRIC_ADD(all->metrics, newcomers_dropped_descriptors_total, 1);
  shortage_note(EMFILE);
  if (n != NULL) n->drop(n);
}

/* The source's place in the whole relay; at the cap, that of one of its own at this worker. */
static int take_source(struct newcomers *all, const struct source_key *source) {
  int rc = sources_enter(all->sources, source);
  if (rc != ERR_LIMIT) return rc;
  METRIC_ADD(all->metrics, handshakes_over_cap_total, 1);
  struct crowd *c = map_get(all->crowds, source);
  struct newcomer *n = c != NULL ? longest_there(c) : NULL;
  if (n == NULL) return ERR_LIMIT;
  rc = sources_replace(all->sources, source);
  if (rc == 0) n->drop(n);
  return rc;
}

/* Coming, changing, going */

static int array_add(struct newcomers *all, struct newcomer *n) {
  if (all->count == all->room) {
    size_t room = size_max(ARRAY_FIRST, all->room * 2);
    struct newcomer **array = realloc(all->array, room * sizeof(struct newcomer *));
    if (array == NULL) return ERR_NOMEM;
    all->array = array;
    all->room = room;
  }
  n->place = all->count;
  all->array[all->count++] = n;
  return 0;
}

static void array_remove(struct newcomers *all, const struct newcomer *n) {
  struct newcomer *last = all->array[--all->count];
  all->array[n->place] = last;
  last->place = n->place;
}

static void enter_crowd(struct newcomer *n, struct crowd *c) {
  n->crowd = c;
  c->count++;
  list_push_tail(&c->stages[n->stage], &n->in_crowd);
}

static void leave_crowd(struct newcomer *n) {
  list_remove(&n->in_crowd);
  n->crowd->count--;
  crowd_release(n->all, n->crowd);
}

int newcomer_enter(struct newcomers *all, struct newcomer *n, const struct source_key *source, size_t bytes,
                   void (*drop)(struct newcomer *n)) {
  memset(n, 0, sizeof *n);
  int rc = take_source(all, source);
  if (rc != 0) return rc;
  struct crowd *c = crowd_of(all, source);
  if (c == NULL || array_add(all, n) != 0) {
    if (c != NULL) crowd_release(all, c);
    sources_leave(all->sources, source);
    return ERR_NOMEM;
  }
  n->magic = NEWCOMER_MAGIC;
  n->all = all;
  n->drop = drop;
  list_init(&n->in_file);
  enter_crowd(n, c);
  all->strangers++;
  keep_strangers_few(all, n);
  newcomer_set_bytes(n, bytes);
  return 0;
}

static void leave_file(struct newcomer *n) {
  if (n->file == NULL) return;
  list_remove(&n->in_file);
  file_release(n->all, n->file);
  n->file = NULL;
  n->all->queued--;
}

void newcomer_leave(struct newcomer *n) {
  struct newcomers *all = n->all;
  if (all == NULL) return;
  CHECK_MAGIC(n, NEWCOMER_MAGIC);
  leave_file(n);
  if (is_stranger(n)) all->strangers--;
  if (n->lane != NULL) {
    n->lane->count--;
    lane_release(all, n->lane);
  }
  if (counts_at_source(n->stage)) sources_leave(all->sources, &n->crowd->source);
  leave_crowd(n);
  array_remove(all, n);
  all->bytes -= n->bytes;
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
  to->all->array[to->place] = to;
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
  n->all->bytes += bytes - n->bytes;
  n->bytes = bytes;
  keep_to_memory(n->all, n);
}

void newcomer_proven(struct newcomer *n) {
  CHECK_MAGIC(n, NEWCOMER_MAGIC);
  ASSERT(n->stage == NEWCOMER_SERVED);
  sources_leave(n->all->sources, &n->crowd->source);
  set_stage(n, NEWCOMER_PROVEN);
}

/* Turns */

static void serve_next(struct loop_deferred *d);

static void plan_to_serve(struct newcomers *all) {
  if (all->serving_set || all->queued == 0) return;
  all->serving_set = true;
  loop_call_late(all->loop, &all->serving, serve_next);
}

static void serve_next(struct loop_deferred *d) {
  struct newcomers *all = CONTAINER_OF(d, struct newcomers, serving);
  all->serving_set = false;
  if (all->queued == 0) return;
  struct lane *lane = CONTAINER_OF(all->lanes.next, struct lane, node);
  struct file *f = CONTAINER_OF(lane->files.next, struct file, node);
  struct newcomer *n = CONTAINER_OF(f->waiting.next, struct newcomer, in_file);
  list_remove(&f->node);
  list_push_tail(&lane->files, &f->node);
  list_remove(&lane->node);
  list_push_tail(&all->lanes, &lane->node);
  leave_file(n);
  set_stage(n, NEWCOMER_SERVED);
  plan_to_serve(all);
  n->serve(n);
}

int newcomer_queue(struct newcomer *n, const void *owner, void (*serve)(struct newcomer *n)) {
  struct newcomers *all = n->all;
  CHECK_MAGIC(n, NEWCOMER_MAGIC);
  ASSERT(n->lane == NULL && n->stage == NEWCOMER_SILENT);
  struct lane *lane = lane_of(all, owner);
  struct file *f = lane != NULL ? file_of(all, lane, n->crowd) : NULL;
  if (f == NULL) {
    if (lane != NULL) lane_release(all, lane);
    return ERR_NOMEM;
  }
  lane->count++;
  if (owner != NULL) all->strangers--;
  n->lane = lane;
  n->file = f;
  n->serve = serve;
  list_push_tail(&f->waiting, &n->in_file);
  all->queued++;
  set_stage(n, NEWCOMER_QUEUED);
  plan_to_serve(all);
  if (all->queued <= NEWCOMERS_QUEUED_PER_WORKER_MAX) return 0;
  METRIC_ADD(all->metrics, newcomers_dropped_load_total, 1);
  struct newcomer *victim = draw(all, NULL, is_queued);
  if (victim == NULL || victim == n) return ERR_LIMIT;
  victim->drop(victim);
  return 0;
}
