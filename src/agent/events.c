/* The event queue. The hard thing: the descriptor says "not empty" and must be neither readable nor silent by mistake,
   so it is only written and read under the queue's lock. */
#include "agent/events.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/limits.h"

struct event_node {
  struct event_node *next;
  struct adit_event event;
};

int events_init(struct events *q, struct err *e) {
  *q = (struct events){.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  if (q->fd < 0) return err_set_errno(e, "event descriptor");
  pthread_mutex_init(&q->lock, NULL);
  return 0;
}

void events_free(struct events *q) {
  for (struct event_node *n = q->first, *next; n != NULL; n = next) {
    next = n->next;
    free(n);
  }
  if (q->fd >= 0) close(q->fd);
  pthread_mutex_destroy(&q->lock);
}

static void signal_set(struct events *q, bool readable) {
  uint64_t one = 1;
  ssize_t r = readable ? write(q->fd, &one, sizeof one) : read(q->fd, &one, sizeof one);
  (void)r;  /* the counter is 0 or 1 under the lock, so neither can block */
}

static void pop_first(struct events *q, struct adit_event *out) {
  struct event_node *n = q->first;
  q->first = n->next;
  if (q->first == NULL) q->last = NULL;
  q->n--;
  if (out != NULL) *out = n->event;
  free(n);
}

void events_push(struct events *q, const struct adit_event *event) {
  struct event_node *n = malloc(sizeof *n);
  if (n == NULL) return;
  n->next = NULL;
  n->event = *event;
  pthread_mutex_lock(&q->lock);
  bool was_empty = q->n == 0;
  if (q->n == AGENT_EVENTS_MAX) pop_first(q, NULL);
  if (q->last != NULL) q->last->next = n;
  else q->first = n;
  q->last = n;
  q->n++;
  if (was_empty) signal_set(q, true);
  pthread_mutex_unlock(&q->lock);
}

void events_forget(struct events *q, const struct adit_tunnel *tunnel) {
  pthread_mutex_lock(&q->lock);
  bool was_empty = q->n == 0;
  struct event_node **at = &q->first;
  q->last = NULL;
  while (*at != NULL) {
    struct event_node *n = *at;
    if (n->event.tunnel == tunnel) {
      *at = n->next;
      q->n--;
      free(n);
    } else {
      q->last = n;
      at = &n->next;
    }
  }
  if (!was_empty && q->n == 0) signal_set(q, false);
  pthread_mutex_unlock(&q->lock);
}

static bool try_pop(struct events *q, struct adit_event *out) {
  pthread_mutex_lock(&q->lock);
  bool some = q->n > 0;
  if (some) {
    pop_first(q, out);
    if (q->n == 0) signal_set(q, false);
  }
  pthread_mutex_unlock(&q->lock);
  return some;
}

static int64_t clock_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int events_next(struct events *q, struct adit_event *out, int timeout_ms) {
  int64_t deadline = timeout_ms > 0 ? clock_ms() + timeout_ms : 0;
  for (;;) {
    if (try_pop(q, out)) return 1;
    if (timeout_ms == 0) return 0;
    int64_t left = -1;
    if (timeout_ms > 0 && (left = deadline - clock_ms()) <= 0) return 0;
    struct pollfd p = {.fd = q->fd, .events = POLLIN};
    if (poll(&p, 1, (int)left) < 0 && errno != EINTR) return ADIT_ESYSTEM;
  }
}
