/* See the header. */
#include "base/parcel.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/limits.h"

struct parcel *parcel_new(unsigned kind) {
  struct parcel *p = calloc(1, sizeof *p);
  if (p == NULL) return NULL;
  p->kind = kind;
  buf_init(&p->state, PARCEL_MAX_BYTES);
  list_init(&p->node);
  return p;
}

int parcel_end(struct parcel *p, int rc, size_t fds_n, struct list *to) {
  p->fds_n = rc == 0 ? fds_n : 0;
  if (rc == 0) list_push_tail(to, &p->node);
  else parcel_free(p);
  return rc;
}

void parcel_free(struct parcel *p) {
  if (p == NULL) return;
  for (size_t i = 0; i < p->fds_n; i++) close(p->fds[i]);
  buf_free(&p->state);
  free(p);
}

void parcels_free(struct list *parcels) {
  LIST_FOREACH(parcels, it) {
    struct parcel *p = CONTAINER_OF(it, struct parcel, node);
    list_remove(&p->node);
    parcel_free(p);
  }
}
