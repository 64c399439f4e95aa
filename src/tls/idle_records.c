#include "tls/idle_records.h"

#include "base/limits.h"

bool idle_records_flood(struct idle_records *r, uint64_t now_ms) {
  if (now_ms - r->since_ms >= 1000) *r = (struct idle_records){.since_ms = now_ms};
  return ++r->idle > IDLE_RECORDS_PER_S_MAX + r->data / DATA_RECORDS_PER_IDLE;
}
