/* The descriptors that an agent holds, so that a forked child closes its copies. A copy in a child suppresses FIN and
   reset, so it must go as the child begins; and it must go by close() alone, since anything more would end the parent's
   stream. */
#ifndef AGENT_DESCRIPTORS_H
#define AGENT_DESCRIPTORS_H

#include <stdatomic.h>

#include "base/err.h"
#include "base/list.h"

enum { DESCRIPTOR_CHUNK = 1024, DESCRIPTOR_CHUNKS = 1024 };

/* Inode number by descriptor; 0: not ours. Written by one thread, read by a forked child at any moment, without a lock:
   at fork the writer stops between any two instructions. */
struct descriptors {
  _Atomic(_Atomic uint64_t *) chunks[DESCRIPTOR_CHUNKS];
  bool apart;                      /* the thread's are in a table of its own, of which a child has no copy: none is
                                      added any more */
  struct list watched;
};
void descriptors_init(struct descriptors *d);
void descriptors_free(struct descriptors *d);
void descriptors_add(struct descriptors *d, int fd);
void descriptors_remove(struct descriptors *d, int fd);   /* before the close, where possible; -1 is fine */
void descriptors_forget(struct descriptors *d, int fd);   /* the same for the host's thread, of one that is not ours
                                                             alone */
void descriptors_closing(void *descriptors, int fd);      /* the same, for the pool that closes it
                                                             (pump_pool_on_closing) */
/* From here on until it is freed, each child that this process forks closes its copies at once. 0 or ERR_NOMEM. */
int descriptors_watch_forks(struct descriptors *d) MUST_USE;
/* In the child: closes those that are still what they were. */
void descriptors_close_copies(struct descriptors *d);

#endif
