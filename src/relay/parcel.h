/* What moves in an upgrade, each thing for itself. A parcel's kind is enum carrier_kind; it is made and unpacked in the
   thread of the worker whose it is. */
#ifndef RELAY_PARCEL_H
#define RELAY_PARCEL_H

#include "base/parcel.h"
#include "relay/carrier.h"
#include "relay/worker.h"

enum { PARCEL_NUMBER_BYTES = 4 };  /* of the worker, before what was exported */

/* Each puts what it made behind the others. All of the control plane that can move now: links with their tunnels, their
   warm connections, raw ports; and visitors who wait. What is left is not up yet. */
void parcels_pack_control(struct worker *w, struct list *to);
/* At most PARCELS_PER_BATCH_MAX established streams. */
void parcels_pack_streams(struct worker *w, struct list *to);
bool parcels_are_left(struct worker *w);         /* whether there may be more to move, now or later */

/* Of what a parcel's frame says: the worker that is to unpack it, NULL: it is none. What was together at one worker is
   together again, also where there are fewer. */
struct worker *parcel_worker(struct relay *r, enum carrier_kind kind, const uint8_t *body, size_t n);
/* On success fds are taken. */
int parcel_unpack(struct worker *w, enum carrier_kind kind, const uint8_t *body, size_t n, const int *fds,
                  size_t fds_n) MUST_USE;

#endif
