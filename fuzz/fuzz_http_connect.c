/* A proxy's answer, read as from a socket: as many bytes as were asked for, and never one past its head. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "wire/http_connect.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct http_connect_answer a, again;
  for (size_t have = 0;;) {
    uint8_t *copy = malloc(have + 1); /* of the exact size, so that a step past its end is seen */
    if (copy == NULL) return 0;
    memcpy(copy, data, have);
    int want = http_connect_read(copy, have, &a);
    free(copy);
    if (want < 0) return 0;
    if (want == 0) {
      ASSERT(have >= 2 && data[have - 1] == '\n' && a.status >= 200 && a.status < 600);
      ASSERT(strlen(a.reason) < sizeof a.reason && strlen(a.scheme) < sizeof a.scheme);
      /* more at once makes no difference */
      ASSERT(http_connect_read(data, size, &again) == 0 && again.status == a.status);
      return 0;
    }
    ASSERT((size_t)want > have && want <= PROXY_HEAD_MAX_BYTES);
    if ((size_t)want > size) return 0;
    have = (size_t)want;
  }
}
