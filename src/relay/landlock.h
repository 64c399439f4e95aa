/* The files of a serving relay, as far as the kernel has Landlock. */
#ifndef RELAY_LANDLOCK_H
#define RELAY_LANDLOCK_H

#include "relay/rights.h"

/* Bounds the calling thread, and those that it starts, for good. The text says what holds, or why it does not.
   no_new_privs must be set. */
void landlock_restrict(const struct rights_paths *paths, char *text, size_t cap);

#endif
