/* What an agent has to tell its host program: a bounded queue with a descriptor that is readable while it is not empty.
   That is a pipe's end, which the client's thread has under the same number in its own table (agent/own_table.h); of
   the host's nothing is believed, he may have closed it and be using its number for something else. */
#ifndef AGENT_EVENTS_H
#define AGENT_EVENTS_H

#include <pthread.h>

#include "adit.h"
#include "agent/own_table.h"
#include "base/err.h"
#include "wire/frame.h"

struct event_node;
struct events {
  pthread_mutex_t lock;
  pthread_cond_t came;
  struct event_node *first, *last;
  size_t n;
  int fd, far_fd;                  /* the pipe's end to read, and that to write, which is the client's thread's */
  struct descriptor_mark mark;     /* of fd */
};

int events_init(struct events *q, struct err *e) MUST_USE;
void events_free(struct events *q);          /* fd may have been closed by the host */
bool events_fd_is_ours(const struct events *q);   /* from a host's thread */
/* From the client's thread. When the queue is full the oldest event makes room: a host that does not read wants to know
   the latest. */
void events_push(struct events *q, const struct adit_event *event);
void events_tell(struct events *q, enum adit_event_kind kind, struct adit_tunnel *t, int error, const char *reason,
                 const char *format, ...) PRINTF_LIKE(6, 7);
int events_errno_of(enum refusal r);         /* enum adit_errno, as which a host hears of it */
/* Removes what concerns a tunnel that is about to be freed. */
void events_forget(struct events *q, const struct adit_tunnel *tunnel);
/* From a host's thread: 1 and *out, or 0 when none came within timeout_ms (-1: as long as it takes). */
int events_next(struct events *q, struct adit_event *out, int timeout_ms);

#endif
