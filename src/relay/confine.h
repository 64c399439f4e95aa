/* The rights of a relay: which files it is still to open by name, and the words for what it may do. */
#ifndef RELAY_CONFINE_H
#define RELAY_CONFINE_H

#include "relay/context.h"

/* All that is listened on is bound, and no thread has been started. */
int confine_relay(struct relay *r, struct err *e) MUST_USE;

#endif
