/* The rights of a relay: which files it is still to open by name, and the words for what it may do. */
#ifndef RELAY_CONFINE_H
#define RELAY_CONFINE_H

#include "relay/context.h"
#include "relay/key_process.h"

/* All that is listened on is bound, and no thread has been started. */
int confine_relay(struct relay *r, struct err *e) MUST_USE;
/* The key process, before its first thread; the text says what holds. */
void confine_keys(const struct key_process_options *o, char *text, size_t cap);

#endif
