/* Memory that is refused to simulated threads. */
#ifndef WORLD_HEAP_FAILURES_H
#define WORLD_HEAP_FAILURES_H

#include <stdint.h>

void heap_failures(uint64_t one_in);       /* one allocation in so many, by seed; 0: none */

#endif
