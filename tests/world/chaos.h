/* What happens to those who use the network: weather that changes, connections that are reset or stall on the way,
   hosts that do not reach each other for a while; now and then the first of them, the relay's, has too little memory,
   or all have too few descriptors. All by seed. */
#ifndef WORLD_CHAOS_H
#define WORLD_CHAOS_H

#include <stddef.h>

#include "world.h"

enum { CHAOS_HOSTS_MAX = 4 };

/* From now on, among these hosts, until chaos_end: then the weather is fine, and all that had stalled goes on. */
void chaos_begin(struct host *const *hosts, size_t n);
/* Whether there was too little of anything at any time since then. */
bool chaos_short_since(uint64_t since_ns);
void chaos_end(void);

#endif
