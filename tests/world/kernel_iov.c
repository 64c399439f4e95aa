#include "kernel_iov.h"

#include <string.h>

#include "base/base.h"

size_t iov_bytes(const struct iovec *iov, int n) {
  size_t sum = 0;
  for (int i = 0; i < n; i++) sum += iov[i].iov_len;
  return sum;
}

void iov_put(const struct iovec *iov, int iov_n, size_t at, const void *p, size_t n) {
  const char *from = p;
  for (int i = 0; i < iov_n && n > 0; i++) {
    size_t passed = size_min(at, iov[i].iov_len), some = size_min(n, iov[i].iov_len - passed);
    if (some > 0) memcpy((char *)iov[i].iov_base + passed, from, some);
    at -= passed;
    from += some;
    n -= some;
  }
  ASSERT(n == 0);
}

void iov_get(const struct iovec *iov, int iov_n, size_t at, void *p, size_t n) {
  char *to = p;
  for (int i = 0; i < iov_n && n > 0; i++) {
    size_t passed = size_min(at, iov[i].iov_len), some = size_min(n, iov[i].iov_len - passed);
    if (some > 0) memcpy(to, (const char *)iov[i].iov_base + passed, some);
    at -= passed;
    to += some;
    n -= some;
  }
  ASSERT(n == 0);
}
