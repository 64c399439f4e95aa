/* pthread_once for what may fail: it is tried again by whoever needs it next. */
#ifndef BASE_ONCE_H
#define BASE_ONCE_H

#include <stdatomic.h>
#include <sys/types.h>

#include "base/err.h"

struct once { _Atomic bool done; _Atomic pid_t trying; };   /* zero-initialised, static */
/* Runs fn unless it has succeeded before. Threads that come meanwhile wait; 0, or what fn returned this time. */
int once_run(struct once *o, int (*fn)(void)) MUST_USE;

#endif
