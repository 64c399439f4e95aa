/* Times for pthread_cond_timedwait, on the monotonic clock. */
#ifndef BASE_DEADLINE_H
#define BASE_DEADLINE_H

#include <pthread.h>
#include <time.h>

struct timespec deadline_after_ms(unsigned ms);
void deadline_cond_init(pthread_cond_t *c);   /* one that waits by it */

#endif
