/* Short-lived threads for what cannot be done without blocking: looking up names, writing to a disk. */
#ifndef AGENT_DETACHED_H
#define AGENT_DETACHED_H

#include "base/err.h"

/* Nobody joins it; it takes no signal of the host. 0 or ERR_LIMIT. */
int detached_start(const char *name, void *(*fn)(void *), void *arg) MUST_USE;

#endif
