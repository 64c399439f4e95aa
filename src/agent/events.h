/* What an agent has to tell its host program: a bounded queue with a descriptor that is readable while it is not
   empty. */
#ifndef AGENT_EVENTS_H
#define AGENT_EVENTS_H

#include <pthread.h>

#include "adit.h"
#include "base/err.h"

struct event_node;
struct events {
  pthread_mutex_t lock;
  struct event_node *first, *last;
  size_t n;
  int fd;
};

int events_init(struct events *q, struct err *e) MUST_USE;
void events_free(struct events *q);
/* From any thread. When the queue is full the oldest event makes room: a host that does not read wants to know the
   latest. */
void events_push(struct events *q, const struct adit_event *event);
/* Removes what concerns a tunnel that is about to be freed. */
void events_forget(struct events *q, const struct adit_tunnel *tunnel);
/* 1 and *out; 0 when none came within timeout_ms; negative ADIT_E*. */
int events_next(struct events *q, struct adit_event *out, int timeout_ms);

#endif
