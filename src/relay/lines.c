/* Lines of owners. Those in which somebody waits stand in a list; who is served first comes from the first of them,
   which then goes to the end. A line lives as long as somebody stands in it. */
#include "relay/lines.h"

#include <stdlib.h>
#include <string.h>

#include "base/map.h"

struct line {
  struct list node;                /* in `waiting`, while anybody stands in it */
  struct list members;
  uint8_t owner[TOKEN_ID_BYTES];
};

struct lines {
  struct list waiting;             /* struct line: the next to be served first */
  struct map *by_owner;            /* id -> struct line */
  struct line common;              /* of those for whom there was no memory */
};

static void line_init(struct line *l) {
  list_init(&l->node);
  list_init(&l->members);
}

struct lines *lines_new(void) {
  struct lines *s = calloc(1, sizeof *s);
  if (s == NULL) return NULL;
  list_init(&s->waiting);
  line_init(&s->common);
  s->by_owner = map_new(TOKEN_ID_BYTES);
  if (s->by_owner != NULL) return s;
  free(s);
  return NULL;
}

void lines_free(struct lines *s) {
  if (s == NULL) return;
  while (lines_next(s) != NULL) {
  }
  map_free(s->by_owner);
  free(s);
}

static struct line *line_of(struct lines *s, const uint8_t owner[TOKEN_ID_BYTES]) {
  struct line *l = map_get(s->by_owner, owner);
  if (l != NULL) return l;
  l = calloc(1, sizeof *l);
  if (l == NULL) return &s->common;
  line_init(l);
  memcpy(l->owner, owner, sizeof l->owner);
  if (map_put(s->by_owner, owner, l) == 0) return l;
  free(l);
  return &s->common;
}

void lines_join(struct lines *s, const uint8_t owner[TOKEN_ID_BYTES], struct in_line *who) {
  who->line = line_of(s, owner);
  if (list_empty(&who->line->members)) list_push_tail(&s->waiting, &who->line->node);
  list_push_tail(&who->line->members, &who->node);
}

bool lines_leave(struct lines *s, struct in_line *who) {
  struct line *l = who->line;
  if (l == NULL) return false;
  who->line = NULL;
  list_remove(&who->node);
  if (!list_empty(&l->members)) return true;
  list_remove(&l->node);
  if (l != &s->common) {
    (void)map_remove(s->by_owner, l->owner);
    free(l);
  }
  return true;
}

bool lines_wait(const struct lines *s) { return !list_empty(&s->waiting); }

struct in_line *lines_next(struct lines *s) {
  if (!lines_wait(s)) return NULL;
  struct line *l = CONTAINER_OF(s->waiting.next, struct line, node);
  struct in_line *who = CONTAINER_OF(l->members.next, struct in_line, node);
  list_remove(&l->node);
  list_push_tail(&s->waiting, &l->node);
  (void)lines_leave(s, who);
  return who;
}
