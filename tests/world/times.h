/* The clocks of a host, and the world's. */
#ifndef WORLD_TIMES_H
#define WORLD_TIMES_H

#include <time.h>

#include "world.h"

/* The world's wall clock began then, whatever the real one shows: 2027-01-15, so that certificates are of one time. */
#define WORLD_BEGINNING_S INT64_C(1800000000)

uint64_t time_of_world(clockid_t clock, const struct timespec *t);   /* of a time of the current task's host */

#endif
