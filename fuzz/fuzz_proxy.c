/* PROXY headers, read as from a socket: as many bytes as were asked for, and never one past the header. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "wire/proxy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct proxy_header h, again;
  uint8_t out[PROXY_HEADER_MAX_BYTES];
  size_t have = 0;
  for (;;) {
    uint8_t *copy = malloc(have + 1); /* of the exact size, so that a step past its end is seen */
    if (copy == NULL) return 0;
    memcpy(copy, data, have);
    int want = proxy_read(copy, have, &h);
    free(copy);
    if (want < 0) return 0;
    if (want == 0) break;
    ASSERT((size_t)want > have && want <= PROXY_HEADER_MAX_BYTES);
    if ((size_t)want > size) return 0;
    have = (size_t)want;
  }
  ASSERT(h.total == have);
  ASSERT(proxy_read(data, size, &again) == 0 && again.total == have); /* more at once makes no difference */
  size_t n = proxy_write_v2(&h.source, &h.destination, NULL, 0, out);
  ASSERT(proxy_read(out, n, &again) == 0 && again.total == n && again.local == h.local);
  return 0;
}
