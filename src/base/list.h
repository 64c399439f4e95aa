/* Intrusive doubly linked list. An unlinked node points at itself. */
#ifndef BASE_LIST_H
#define BASE_LIST_H

#include "base/base.h"

struct list { struct list *next, *prev; };

static inline void list_init(struct list *l) { l->next = l->prev = l; }
static inline bool list_empty(const struct list *l) { return l->next == l; }
static inline void list_push_tail(struct list *head, struct list *n) {
  n->prev = head->prev; n->next = head; head->prev->next = n; head->prev = n;
}
static inline void list_push_head(struct list *head, struct list *n) {
  n->next = head->next; n->prev = head; head->next->prev = n; head->next = n;
}
static inline void list_remove(struct list *n) {
  n->prev->next = n->next; n->next->prev = n->prev; list_init(n);
}
/* n, which is in no list, comes where old was, if anywhere. */
static inline void list_replace(struct list *n, struct list *old) {
  list_init(n);
  if (list_empty(old)) return;
  list_push_head(old, n);
  list_remove(old);
}
/* To the end of `to`; `from` is empty then. */
static inline void list_move_all(struct list *to, struct list *from) {
  if (list_empty(from)) return;
  from->next->prev = to->prev; to->prev->next = from->next;
  from->prev->next = to; to->prev = from->prev;
  list_init(from);
}
#define LIST_FOREACH(head, it)                                                   \
  for (struct list *it = (head)->next, *it##_next = it->next; it != (head);      \
       it = it##_next, it##_next = it->next)

#endif
