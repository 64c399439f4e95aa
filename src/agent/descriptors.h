/* The descriptors that an agent holds, so that a forked child can close its copies. A copy in a child suppresses FIN and reset
   (wire.md 6), so it must go; and it must go by close() alone, since anything more would end the parent's stream. */
#ifndef AGENT_DESCRIPTORS_H
#define AGENT_DESCRIPTORS_H

#include <stdatomic.h>

#include "base/base.h"

enum { DESCRIPTOR_CHUNK = 1024, DESCRIPTOR_CHUNKS = 1024 };

/* Inode number by descriptor; 0: not ours. Written by one thread, read by a forked child at any moment, without a lock: at fork
   the writer stops between any two instructions. */
struct descriptors {
  _Atomic(_Atomic uint64_t *) chunks[DESCRIPTOR_CHUNKS];
};
void descriptors_init(struct descriptors *d);
void descriptors_free(struct descriptors *d);
void descriptors_add(struct descriptors *d, int fd);
void descriptors_remove(struct descriptors *d, int fd);   /* before the close, where possible; -1 is fine */
/* In the child: closes those that are still what they were. */
void descriptors_close_copies(struct descriptors *d);

#endif
