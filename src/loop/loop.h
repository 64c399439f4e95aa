/* One event loop, one thread: descriptors (epoll, level-triggered), timers, messages from other threads, and memory
   that is freed at the end of the turn. Protocol code reaches sockets (loop/net.h), the clock and randomness only
   through here, so that all of it can run against a simulated world.

   A turn: 1 wait, 2 read the clock, 3 run due timers, 4 run messages (at most LOOP_MESSAGES_PER_TURN_MAX, but all
   once it was stopped), 5 deliver descriptor events, 6 deliver those of bulk descriptors, 7 those of late ones and run
   late calls, 8 run deferred frees.

   Bulk is what moves many bytes at once. Its events wait in a queue while all others are served, and no more of it is
   done in a turn than a share of bytes. So whoever has a short message waits for one share, however many bulk streams
   there are. The share is large, as that is cheaper, until somebody else has an event.

   Late is what yields to everything else: it has LOOP_LATE_TURN_US of a turn in which no other descriptor had an
   event, and otherwise a share of the time that those took, one part in LOOP_LATE_PART. So newcomers, however many,
   cannot hold up what is established, and are not shut out by it either.

   Events carry a generation: an event for a descriptor that was removed (and perhaps added again) since is dropped. All
   calls but loop_post and loop_stop belong to the loop's own thread (or to any one thread while it does not run). */
#ifndef LOOP_LOOP_H
#define LOOP_LOOP_H

#include <sys/epoll.h>

#include "base/err.h"
#include "base/list.h"

struct loop;

struct loop *loop_new(struct err *e) MUST_USE;
void loop_free(struct loop *l);                  /* runs the deferred frees and drops messages that never ran */
void loop_run(struct loop *l);                   /* until loop_stop */
/* One turn, waiting at most max_wait_ms (-1: as long as it takes). Returns false after loop_stop. */
bool loop_turn(struct loop *l, int max_wait_ms);
void loop_stop(struct loop *l);                  /* from any thread */
/* Called by the loop's thread before and after each wait: for a lock that is to be held while handlers run. */
void loop_set_wait_hooks(struct loop *l, void (*begins)(void), void (*ended)(void));
int loop_epoll_fd(const struct loop *l);         /* readable when a turn has something to do, timers excepted */

uint64_t loop_now_ms(const struct loop *l);      /* monotonic, fixed during a turn */
int64_t loop_wall_s(const struct loop *l);       /* seconds since 1970 */
void loop_random(struct loop *l, void *p, size_t n);

struct loop_io;
typedef void loop_io_fn(struct loop_io *io, uint32_t events); /* EPOLLIN, EPOLLOUT, EPOLLRDHUP, EPOLLHUP, EPOLLERR */
struct loop_io {                                 /* embedded in its owner; all fields private */
  struct loop *loop;                             /* NULL when not added */
  loop_io_fn *fn;
  int fd;
  uint32_t events;
  uint32_t generation;
  bool late;
  uint32_t told;                                 /* of what, while it is queued */
  struct list queued;                            /* among the bulk ones */
  uint64_t bulk_until_ms;
};
int loop_io_add(struct loop *l, struct loop_io *io, int fd, uint32_t events, loop_io_fn *fn) MUST_USE;
int loop_io_add_late(struct loop *l, struct loop_io *io, int fd, uint32_t events, loop_io_fn *fn) MUST_USE;
/* The same for a descriptor that the loop may have for `from` already, which is as if removed then, also on failure:
   NULL and one that was not added are fine. It costs nothing where both are late or neither is, and wait for the same
   events; and io may be told of what from has seen to. */
int loop_io_take(struct loop *l, struct loop_io *io, int fd, uint32_t events, loop_io_fn *fn,
                 struct loop_io *from) MUST_USE;
int loop_io_take_late(struct loop *l, struct loop_io *io, int fd, uint32_t events, loop_io_fn *fn,
                      struct loop_io *from) MUST_USE;
/* Changes what is waited for; events == 0 takes the descriptor out of the epoll set (HUP and ERR cannot be masked).
   Cheap when nothing changes. A failure to put it back (ENOMEM) is reported as an EPOLLERR event in the next turn. */
void loop_io_set(struct loop_io *io, uint32_t events);
void loop_io_set_bulk(struct loop_io *io, uint64_t for_ms);    /* from now on; costs nothing; not for late ones */
/* For a handler that moves bytes: how many at most. */
size_t loop_share(const struct loop *l);
/* It has moved n, and could go on: one that is bulk then does before any other that is, until it has had
   LOOP_SHARE_BYTES. What goes to the same receiver without a pause is cheaper than what takes turns. */
void loop_spend(struct loop *l, size_t n, bool could_go_on);
void loop_io_del(struct loop_io *io);            /* fine when not added; does not close the descriptor */
/* For a late handler that could do more: whether its part of this turn is not over yet. What waits in the kernel is
   told of again. */
bool loop_late_may_go_on(const struct loop *l);

struct loop_timer;
typedef void loop_timer_fn(struct loop_timer *t);
struct loop_timer {                              /* embedded in its owner; zero-initialise; all fields private */
  struct loop *loop;
  loop_timer_fn *fn;
  uint64_t at_ms;
  size_t slot;                                   /* place in the heap, plus one; 0 when not set */
};
/* sets or moves; one shot; ERR_NOMEM */
int loop_timer_set(struct loop *l, struct loop_timer *t, uint64_t delay_ms, loop_timer_fn *fn);
void loop_timer_stop(struct loop_timer *t);      /* fine when not set */
bool loop_timer_is_set(const struct loop_timer *t);

/* Calls fn(d) at the end of this turn, to free what this turn's events may still refer to. Never fails: the owner
   embeds d. */
struct loop_deferred { struct loop_deferred *next; void (*fn)(struct loop_deferred *d); };
void loop_defer(struct loop *l, struct loop_deferred *d, void (*fn)(struct loop_deferred *d));

/* Calls fn(d) in the late part of a turn; first come, first served. Never fails: the owner embeds d, and sets it once
   at a time. */
void loop_call_late(struct loop *l, struct loop_deferred *d, void (*fn)(struct loop_deferred *d));

/* A message to a loop, from any thread; in order per sender. fn runs in the loop's thread and owns the message from
   then on. When the loop is freed before it ran, fn is called with l == NULL so that it can release what it holds. */
struct loop_msg { struct loop_msg *next; void (*fn)(struct loop *l, struct loop_msg *m); };
void loop_post(struct loop *l, struct loop_msg *m);
/* The same from a thread with another descriptor table, in which the loop's numbers mean something else: the caller
   then makes the loop turn, by a descriptor that it waits for. Whoever reads that calls loop_rouse afterwards: what
   he has taken in may have been for a message that came after this turn's messages had run. */
void loop_post_unwoken(struct loop *l, struct loop_msg *m);
void loop_rouse(struct loop *l);

#endif
