/* How many records without data a peer may send. A KeyUpdate is 27 bytes for its sender and several key derivations for
   us. One in some megabytes is what it is for (RFC 8446 5.5); whoever sends thousands in a second wants our time. */
#ifndef TLS_IDLE_RECORDS_H
#define TLS_IDLE_RECORDS_H

#include "base/base.h"

struct idle_records {              /* one reading side; zero-initialise */
  uint64_t since_ms;               /* for so long these are counted */
  unsigned idle, data;             /* data: counted by the reader */
};
/* Counts one without data. True: too many in this second. */
bool idle_records_flood(struct idle_records *r, uint64_t now_ms);

#endif
