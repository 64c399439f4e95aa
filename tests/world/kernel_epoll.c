/* epoll as Linux has it (fs/eventpoll.c): what may be ready stands in a queue, and is asked when it is fetched. What is
   level-triggered and was ready goes to the queue's end; what is not any more leaves it. An edge puts it there whatever
   it was told of before. A set can be in another. */
#include "kernel_epoll.h"

#include <errno.h>
#include <fcntl.h>

struct epoll_item {
  struct list of_file;             /* its watches, of which there are few */
  struct list of_set;
  struct list ready;               /* in the set's queue, or alone */
  struct epoll_set *set;
  struct file *file;
  int fd;
  struct epoll_event event;
};

struct epoll_set {
  struct file file;
  struct list items, ready;
};

static const uint32_t EPOLL_PRIVATE = EPOLLET | EPOLLONESHOT | EPOLLEXCLUSIVE | EPOLLWAKEUP;

static struct epoll_set *set_of(struct file *f);

static uint32_t item_poll(const struct epoll_item *i) { return i->file->kind->poll(i->file) & i->event.events; }

static void item_queue(struct epoll_item *i) {
  struct epoll_set *s = i->set;
  if (!list_empty(&i->ready)) return;
  list_push_tail(&s->ready, &i->ready);
  file_changed(&s->file, EPOLLIN);
}

void epoll_told(struct file *f, uint32_t events) {
  LIST_FOREACH(&f->watches, it) {
    struct epoll_item *i = CONTAINER_OF(it, struct epoll_item, of_file);
    if ((i->event.events & ~EPOLL_PRIVATE) == 0) continue;       /* one shot, and it was */
    if (events == 0 || (events & i->event.events) != 0) item_queue(i);
  }
}

static void item_free(struct epoll_item *i) {
  list_remove(&i->of_file);
  list_remove(&i->of_set);
  list_remove(&i->ready);
  world_free(i);
}

void epoll_forget(struct file *f) {
  LIST_FOREACH(&f->watches, it) item_free(CONTAINER_OF(it, struct epoll_item, of_file));
}

static uint32_t epoll_poll(struct file *f) {
  struct epoll_set *s = set_of(f);
  LIST_FOREACH(&s->ready, it) {
    if (item_poll(CONTAINER_OF(it, struct epoll_item, ready)) != 0) return EPOLLIN | EPOLLRDNORM;
    list_remove(it);
  }
  return 0;
}

static void epoll_end(struct file *f) {
  struct epoll_set *s = set_of(f);
  LIST_FOREACH(&s->items, it) item_free(CONTAINER_OF(it, struct epoll_item, of_set));
  file_finish(f);
  world_free(s);
}

static const struct file_kind epoll_kind = {.name = "epoll", .mode = 0600, .poll = epoll_poll, .end = epoll_end};

static struct epoll_set *set_of(struct file *f) { return CONTAINER_OF(f, struct epoll_set, file); }

bool epoll_is(const struct file *f) { return f->kind == &epoll_kind; }

struct file *epoll_new(void) {
  struct epoll_set *s = world_alloc(sizeof *s);
  file_begin(&s->file, &epoll_kind, O_RDWR);
  list_init(&s->items);
  list_init(&s->ready);
  return &s->file;
}

/* Changing */

static struct epoll_item *item_find(const struct epoll_set *s, int fd, struct file *f) {
  LIST_FOREACH(&f->watches, it) {
    struct epoll_item *i = CONTAINER_OF(it, struct epoll_item, of_file);
    if (i->set == s && i->fd == fd) return i;
  }
  return NULL;
}

static void item_look(struct epoll_item *i) {
  if (item_poll(i) != 0) item_queue(i);
}

static void item_set(struct epoll_item *i, const struct epoll_event *event) {
  i->event = *event;
  i->event.events |= EPOLLERR | EPOLLHUP;
  item_look(i);
}

static void item_add(struct epoll_set *s, int fd, struct file *f, const struct epoll_event *event) {
  struct epoll_item *i = world_alloc(sizeof *i);
  *i = (struct epoll_item){.set = s, .file = f, .fd = fd};
  list_init(&i->ready);
  list_push_tail(&f->watches, &i->of_file);
  list_push_tail(&s->items, &i->of_set);
  item_set(i, event);
}

int epoll_change(struct file *set, int op, int fd, struct file *f, const struct epoll_event *event) {
  if (!epoll_is(set) || set == f) return -EINVAL;
  if (f->kind->poll == NULL) return -EPERM;
  struct epoll_set *s = set_of(set);
  struct epoll_item *i = item_find(s, fd, f);
  switch (op) {
    case EPOLL_CTL_ADD:
      if (i != NULL) return -EEXIST;
      item_add(s, fd, f, event);
      return 0;
    case EPOLL_CTL_MOD:
      if (i == NULL) return -ENOENT;
      item_set(i, event);
      return 0;
    case EPOLL_CTL_DEL:
      if (i == NULL) return -ENOENT;
      item_free(i);
      return 0;
    default: return -EINVAL;
  }
}

/* Fetching */

static bool item_take(struct epoll_item *i, struct epoll_event *out) {
  uint32_t events = item_poll(i);
  list_remove(&i->ready);
  if (events == 0) return false;
  *out = (struct epoll_event){.events = events, .data = i->event.data};
  if ((i->event.events & EPOLLONESHOT) != 0) i->event.events &= EPOLL_PRIVATE;
  else if ((i->event.events & EPOLLET) == 0) list_push_tail(&i->set->ready, &i->ready);
  return true;
}

int epoll_take(struct file *set, struct epoll_event *out, int max) {
  struct epoll_set *s = set_of(set);
  struct list queue;
  int n = 0;
  if (!epoll_is(set) || max <= 0) return -EINVAL;
  list_init(&queue);
  list_move_all(&queue, &s->ready);          /* those that go to its end are not fetched twice */
  while (!list_empty(&queue) && n < max) {
    if (item_take(CONTAINER_OF(queue.next, struct epoll_item, ready), &out[n])) n++;
  }
  list_move_all(&queue, &s->ready);          /* what is left comes first */
  list_move_all(&s->ready, &queue);
  return n;
}
