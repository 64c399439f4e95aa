/* Address blocks on the wire: family u8 (4 or 6), bits u8, and as many bytes as an address has; a list is their
   number, u8, and they. */
#ifndef WIRE_CIDR_H
#define WIRE_CIDR_H

#include "base/addr.h"
#include "base/cursor.h"

void cidrs_write(struct writer *w, const struct cidr *list, size_t n);
/* Sets r->bad where one is no block, or there are more than max. */
void cidrs_read(struct reader *r, struct cidr *list, size_t max, size_t *n);

#endif
