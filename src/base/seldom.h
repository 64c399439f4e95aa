/* What could be said a thousand times a second and is worth saying now and then, such as a warning about what strangers
   do. A value: all zero is ready, and every thread may ask the same one. */
#ifndef BASE_SELDOM_H
#define BASE_SELDOM_H

#include "base/base.h"

struct seldom { uint64_t not_before_ms, left_out; };       /* private; atomic */

/* Whether it is time to say it: at most once in every_ms. Then *left_out is how often it was not since the last
   time. */
bool seldom_due(struct seldom *s, uint64_t now_ms, uint64_t every_ms, uint64_t *left_out);

#endif
