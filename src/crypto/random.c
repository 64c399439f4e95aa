/* Randomness comes from the kernel: it needs no seeding, survives fork and is the same before and after sandboxing. */
#include <errno.h>
#include <sys/random.h>

#include "crypto/crypto.h"

int random_bytes(void *p, size_t n) {
  uint8_t *at = p;
  while (n > 0) {
    ssize_t got = getrandom(at, n, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return ERR_CRYPTO;
    at += got;
    n -= (size_t)got;
  }
  return 0;
}
