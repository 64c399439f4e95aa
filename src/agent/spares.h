/* Descriptors that are held for what must find one: a data connection may be given a visitor at any moment, whose app
   is dialled then. Whoever finds none has one of these closed and tries again. */
#ifndef AGENT_SPARES_H
#define AGENT_SPARES_H

#include "agent/descriptors.h"
#include "base/limits.h"

struct spares {                    /* zero: none */
  int fds[WARM_MAX];
  size_t n;
};
/* From here on there are n at least. ERR_LIMIT: there are no more descriptors, and those that there are stay. */
int spares_keep(struct spares *s, struct descriptors *d, size_t n) MUST_USE;
void spares_trim(struct spares *s, struct descriptors *d, size_t n);     /* n at the most */
bool spares_give(struct spares *s, struct descriptors *d);     /* one is free now; false: there was none */

#endif
