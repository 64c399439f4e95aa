/* What a relay tells through its admin port. */
#ifndef RELAY_REPORT_H
#define RELAY_REPORT_H

#include "relay/admin.h"
#include "relay/context.h"

struct admin_source report_source(struct relay *r);        /* as long as the relay's workers are there */

#endif
