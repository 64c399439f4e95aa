/* The event queue. The hard thing: the descriptor says "not empty" and must be neither readable nor silent by mistake,
   so it is only written and read under the queue's lock. Whoever waits here waits for the condition, as the descriptor
   may not be there any more. */
#include "agent/events.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/deadline.h"
#include "base/limits.h"

struct event_node {
  struct event_node *next;
  struct adit_event event;
};

int events_init(struct events *q, struct err *e) {
  int ends[2];
  *q = (struct events){.fd = -1, .far_fd = -1};
  if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return err_set_errno(e, "event descriptor");
  q->fd = descriptor_above_stdio(ends[0]);
  q->far_fd = descriptor_above_stdio(ends[1]);
  descriptor_mark(q->fd, &q->mark);
  deadline_cond_init(&q->came);
  pthread_mutex_init(&q->lock, NULL);
  if (q->fd >= 0 && q->far_fd >= 0) return 0;
  (void)err_set_errno(e, "event descriptor");
  events_free(q);
  return ERR_IO;
}

void events_free(struct events *q) {
  for (struct event_node *n = q->first, *next; n != NULL; n = next) {
    next = n->next;
    free(n);
  }
  descriptor_close(q->fd, &q->mark);
  if (q->far_fd >= 0) close(q->far_fd);
  q->fd = q->far_fd = -1;
  pthread_cond_destroy(&q->came);
  pthread_mutex_destroy(&q->lock);
}

bool events_fd_is_ours(const struct events *q) { return descriptor_is(q->fd, &q->mark); }

/* One byte is in the pipe, or none, so neither call can block. */
static void signal_set(const struct events *q, bool readable) {
  char byte = 0;
  if (readable) (void)!write(q->far_fd, &byte, 1);
  else if (descriptor_is(q->fd, &q->mark)) (void)!read(q->fd, &byte, 1);
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
  pthread_cond_signal(&q->came);
  pthread_mutex_unlock(&q->lock);
}

void events_tell(struct events *q, enum adit_event_kind kind, struct adit_tunnel *t, int error, const char *reason,
                 const char *format, ...) {
  struct adit_event event = {.kind = kind, .tunnel = t, .error = error, .reason = reason};
  va_list args;
  va_start(args, format);
  vsnprintf(event.text, sizeof event.text, format, args);
  va_end(args);
  events_push(q, &event);
}

int events_errno_of(enum refusal r) {
  switch (r) {
    case REFUSE_TOKEN_UNKNOWN:
    case REFUSE_TOKEN_EXPIRED:
    case REFUSE_TOKEN_REVOKED:
    case REFUSE_TOKEN_PROOF: return ADIT_EAUTH;
    case REFUSE_SUPERSEDED: return ADIT_ECONFLICT;
    case REFUSE_CLOSED: return ADIT_ECLOSED;
    default: return ADIT_EREFUSED;
  }
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

static bool pop(struct events *q, struct adit_event *out) {
  if (q->n == 0) return false;
  pop_first(q, out);
  if (q->n == 0) signal_set(q, false);
  return true;
}

static void unlock(void *lock) { (void)pthread_mutex_unlock(lock); }

/* A host may cancel its thread that waits here. */
int events_next(struct events *q, struct adit_event *out, int timeout_ms) {
  struct timespec deadline = deadline_after_ms(timeout_ms > 0 ? (unsigned)timeout_ms : 0);
  int waited = 0;
  bool some;
  pthread_mutex_lock(&q->lock);
  pthread_cleanup_push(unlock, &q->lock);
  some = pop(q, out);
  while (!some && timeout_ms != 0 && waited != ETIMEDOUT) {
    waited = timeout_ms < 0 ? pthread_cond_wait(&q->came, &q->lock)
                            : pthread_cond_timedwait(&q->came, &q->lock, &deadline);
    some = pop(q, out);
  }
  pthread_cleanup_pop(1);
  return some ? 1 : 0;
}
