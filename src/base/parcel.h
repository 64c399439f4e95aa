/* Something that goes from one process or program to another: bytes, and the descriptors that go with them. */
#ifndef BASE_PARCEL_H
#define BASE_PARCEL_H

#include "base/buf.h"
#include "base/list.h"

enum { PARCEL_FDS_MAX = 2 };
struct parcel {
  struct list node;
  unsigned kind;                   /* what it is, in the numbers of whoever made it */
  struct buf state;                /* PARCEL_MAX_BYTES at most; may have keys: wiped when freed */
  int fds[PARCEL_FDS_MAX];         /* ours until they are sent, or taken */
  size_t fds_n;
};
struct parcel *parcel_new(unsigned kind);        /* NULL: out of memory */
/* What came of filling it: 0 puts it behind the others, with so many descriptors; else it is freed. Returns rc. */
int parcel_end(struct parcel *p, int rc, size_t fds_n, struct list *to);
void parcel_free(struct parcel *p);              /* closes its descriptors; NULL is fine */
void parcels_free(struct list *parcels);

#endif
