/* What a relay has counted, of any bytes. */
#include "relay/registry.h"
#include "relay/totals.h"
#include "relay/worker.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static struct worker worker;
  struct relay relay = {.workers = &worker, .workers_n = 1};
  int rc = registry_new(&relay, &relay.registry);
  ASSERT(rc == 0);
  rc = totals_import(&relay, data, size);
  ASSERT(rc == 0 || rc == ERR_SYNTAX);
  registry_free(relay.registry);
  return 0;
}
