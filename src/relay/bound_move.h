/* A tunnel of a link as bytes, and back: what its agent asked for, what it was given, and what it has counted. */
#ifndef RELAY_BOUND_MOVE_H
#define RELAY_BOUND_MOVE_H

#include "relay/bind.h"

size_t bound_export_bytes(const struct bound *b);        /* so many are enough */
void bound_export(const struct bound *b, struct writer *w);
/* One of that link, with a tunnel that has no place in the registry yet. Of any bytes: ERR_SYNTAX, ERR_NOMEM. */
int bound_import(struct link *l, struct reader *r, struct bound **out) MUST_USE;
void bound_discard(struct bound *b);             /* of one that was given no place */

#endif
