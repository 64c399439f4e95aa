/* Who has come to a worker and is nobody's yet: connections from accept until they are a stream, a control link or a
   data connection. All that strangers can make a relay hold or do is bounded here.

   - Descriptors: of strangers, whom nobody pays for because they have not said whom they want or ask for a control
     link, there are so many at most.
   - Memory: beyond its share of --handshake-memory some of them are dropped for others; strangers may have half of it.
   - Each source: at the cap (relay/sources.h) a new one takes the place of the longest silent; at each worker it has
     a few whatever it has elsewhere.
   - Work: whatever costs a signature queues, is served late in the loop's turn (loop/loop.h), and by turns: one owner
     after the other, and of an owner's one source after the other. So a flood waits for itself.

   Who is dropped: of a few drawn at random the one whose source, and for tenants' visitors whose owner, has most of
   them here. That finds those who flood, and costs the same however many there are. */
#ifndef RELAY_NEWCOMERS_H
#define RELAY_NEWCOMERS_H

#include "base/list.h"
#include "loop/loop.h"
#include "relay/metrics.h"
#include "relay/sources.h"

enum newcomer_stage {
  NEWCOMER_SILENT,                 /* has not said all of what it must say first */
  NEWCOMER_QUEUED,                 /* waits to be served */
  NEWCOMER_SERVED,                 /* in handshake */
  NEWCOMER_PROVEN,                 /* waits for a data connection: not its source's fault, so it does not count there */
  NEWCOMER_STAGES
};

/* By who pays for them, and those who queue. */
enum newcomer_kind { NEWCOMER_STRANGERS, NEWCOMER_PAID, NEWCOMER_QUEUERS, NEWCOMER_KINDS };

struct newcomers;
struct newcomer {                  /* embedded in its owner; all fields private */
  unsigned magic;
  struct newcomers *all;           /* NULL when not entered */
  enum newcomer_stage stage;
  struct crowd *crowd;
  struct lane *lane;               /* NULL until it has queued */
  struct file *file;               /* while it queues */
  struct list in_crowd, in_file;
  enum newcomer_kind kind;         /* of the first two */
  size_t place[NEWCOMER_KINDS];    /* in the arrays of those of a kind */
  size_t bytes;
  void (*drop)(struct newcomer *n);
  void (*serve)(struct newcomer *n);
};

struct newcomers *newcomers_new(struct loop *l, struct sources *sources, struct metrics *metrics, size_t bytes_max,
                                size_t strangers_max, unsigned workers) MUST_USE;   /* NULL when out of memory */
void newcomers_free(struct newcomers *all);      /* none may be left; NULL is fine */

/* drop(n) is called when its place is wanted: it must end the connection and leave, and may be called while any other
   newcomer enters, grows or queues, and never for that one itself. ERR_NOMEM. */
int newcomer_enter(struct newcomers *all, struct newcomer *n, enum newcomer_kind kind, const struct source_key *source,
                   size_t bytes, void (*drop)(struct newcomer *n)) MUST_USE;
void newcomer_leave(struct newcomer *n);         /* fine when not entered */
/* What is known of `from` is `to`'s from now on; for another struct takes the connection over. */
void newcomer_pass(struct newcomer *from, struct newcomer *to, void (*drop)(struct newcomer *n));
/* It turned out to be from elsewhere (PROXY header). ERR_NOMEM: it is as it was. */
int newcomer_set_source(struct newcomer *n, const struct source_key *source) MUST_USE;
void newcomer_set_bytes(struct newcomer *n, size_t bytes);   /* the memory that stands behind it now */
/* serve(n) is called in its turn, when n is NEWCOMER_SERVED. `owner` is who pays for it from now on; NULL for those
   who ask for a control link. `signs`: to serve it costs a signature. ERR_LIMIT: it is the one to go, since more come
   than can be served; ERR_NOMEM. */
int newcomer_queue(struct newcomer *n, const void *owner, bool signs, void (*serve)(struct newcomer *n)) MUST_USE;
void newcomer_proven(struct newcomer *n);
/* Nobody is served whom that costs a signature, until it is taken back. */
void newcomers_rest(struct newcomers *all, bool rest);

#endif
