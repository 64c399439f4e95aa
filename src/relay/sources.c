/* The table of sources. Every connection enters and leaves it once, so it is in parts, each with a lock of its own:
   workers rarely meet in one, and hold it for a look-up only. */
#include "relay/sources.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/limits.h"
#include "base/map.h"

enum { SOURCES_PARTS = 16 };

struct part {
  pthread_mutex_t lock;
  struct map *counts;              /* source_key -> count */
};

struct sources { struct part parts[SOURCES_PARTS]; };

struct sources *sources_new(void) {
  struct sources *s = calloc(1, sizeof *s);
  if (s == NULL) return NULL;
  bool complete = true;
  for (int i = 0; i < SOURCES_PARTS; i++) {
    pthread_mutex_init(&s->parts[i].lock, NULL);
    s->parts[i].counts = map_new(sizeof(struct source_key));
    complete = complete && s->parts[i].counts != NULL;
  }
  if (complete) return s;
  sources_free(s);
  return NULL;
}

void sources_free(struct sources *s) {
  if (s == NULL) return;
  for (int i = 0; i < SOURCES_PARTS; i++) {
    map_free(s->parts[i].counts);
    pthread_mutex_destroy(&s->parts[i].lock);
  }
  free(s);
}

/* Who chooses his addresses so that they fall into one part wins nothing: within it the map's hash is keyed. */
static struct part *part_of(struct sources *s, const struct source_key *key) {
  uint8_t sum = 0;
  for (size_t i = 0; i < sizeof key->bytes; i++) sum ^= key->bytes[i];
  return &s->parts[(sum ^ sum >> 4) % SOURCES_PARTS];
}

static int enter(struct sources *s, const struct source_key *key, uintptr_t max) {
  struct part *p = part_of(s, key);
  pthread_mutex_lock(&p->lock);
  uintptr_t count = (uintptr_t)map_get(p->counts, key);
  int rc = ERR_LIMIT;
  if (count < max)
    rc = map_put(p->counts, key, (void *)(count + 1)); /* NOLINT(performance-no-int-to-ptr): the map holds a count */
  pthread_mutex_unlock(&p->lock);
  return rc;
}

int sources_enter(struct sources *s, const struct source_key *key) { return enter(s, key, HANDSHAKES_PER_SOURCE_MAX); }

int sources_enter_over_cap(struct sources *s, const struct source_key *key) { return enter(s, key, UINTPTR_MAX); }

void sources_leave(struct sources *s, const struct source_key *key) {
  struct part *p = part_of(s, key);
  pthread_mutex_lock(&p->lock);
  uintptr_t count = (uintptr_t)map_get(p->counts, key);
  ASSERT(count > 0);
  if (count == 1) {
    (void)map_remove(p->counts, key);
  } else {
    int rc = map_put(p->counts, key, (void *)(count - 1)); /* NOLINT(performance-no-int-to-ptr) */
    ASSERT(rc == 0);               /* the key is there: nothing is allocated */
  }
  pthread_mutex_unlock(&p->lock);
}
