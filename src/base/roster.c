/* A walk stands in the list itself, by a mark before the next entry and one behind the last: so it needs to be told of
   no change. */
#include "base/roster.h"

void roster_init(struct roster *r) { list_init(&r->entries); }

void roster_add(struct roster *r, struct roster_entry *e) {
  e->is_mark = false;
  list_push_tail(&r->entries, &e->node);
}

void roster_replace(struct roster_entry *old, struct roster_entry *e) {
  e->is_mark = false;
  list_push_tail(&old->node, &e->node);          /* before it */
  list_remove(&old->node);
}

void roster_remove(struct roster_entry *e) { list_remove(&e->node); }

void roster_walk_begin(struct roster *r, struct roster_walk *w) {
  w->at.is_mark = w->end.is_mark = true;
  list_push_head(&r->entries, &w->at.node);
  list_push_tail(&r->entries, &w->end.node);
}

bool roster_walk_step(struct roster_walk *w, struct roster_entry **e) {
  struct list *next = w->at.node.next;
  *e = NULL;
  if (next == &w->end.node) return false;
  struct roster_entry *met = CONTAINER_OF(next, struct roster_entry, node);
  list_remove(&w->at.node);
  list_push_head(next, &w->at.node);             /* behind it */
  if (!met->is_mark) *e = met;
  return true;
}

void roster_walk_end(struct roster_walk *w) {
  list_remove(&w->at.node);
  list_remove(&w->end.node);
}
