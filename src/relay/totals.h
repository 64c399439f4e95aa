/* What a relay has counted since its start, for the process that goes on with it: the counters of /metrics, and what
   has passed for each token. */
#ifndef RELAY_TOTALS_H
#define RELAY_TOTALS_H

#include "base/buf.h"
#include "relay/context.h"

enum { TOTALS_EXPORT_MAX_BYTES = 8 << 20 };
int totals_export(struct relay *r, struct buf *state) MUST_USE;  /* ERR_LIMIT, ERR_NOMEM: state is what it was */
/* What was exported so is not counted here any more: then what is counted since can be exported as well. */
void totals_forget(struct relay *r, const uint8_t *state, size_t n);
/* Of any bytes. All is added to what is counted here, and of malformed bytes nothing: ERR_SYNTAX; ERR_NOMEM. From any
   thread. */
int totals_import(struct relay *r, const uint8_t *state, size_t n) MUST_USE;

#endif
