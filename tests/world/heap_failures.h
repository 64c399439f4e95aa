/* Memory that is refused to simulated threads. */
#ifndef WORLD_HEAP_FAILURES_H
#define WORLD_HEAP_FAILURES_H

#include <stdint.h>

struct host;
/* One allocation in so many of the processes of that host, by seed; 0: none, of nobody. */
void heap_failures(const struct host *of_host, uint64_t one_in);

#endif
