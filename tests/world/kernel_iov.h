/* Scattered memory of a caller. */
#ifndef WORLD_KERNEL_IOV_H
#define WORLD_KERNEL_IOV_H

#include <stddef.h>
#include <sys/uio.h>

size_t iov_bytes(const struct iovec *iov, int n);    /* of all */
/* n bytes to or from it, from its byte `at` on; there is room for them. */
void iov_put(const struct iovec *iov, int iov_n, size_t at, const void *p, size_t n);
void iov_get(const struct iovec *iov, int iov_n, size_t at, void *p, size_t n);

#endif
