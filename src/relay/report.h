/* What a relay tells through its admin port. */
#ifndef RELAY_REPORT_H
#define RELAY_REPORT_H

#include "relay/admin.h"
#include "relay/context.h"

/* Both as long as the relay's workers are there. */
struct admin_source report_source(struct relay *r);
struct metrics report_sum(const struct relay *r);          /* of all workers */

#endif
