/* Secrets: wiping, comparing, and memory that a core dump leaves out. */
#ifndef BASE_SECRET_H
#define BASE_SECRET_H

#include "base/base.h"

void wipe(void *p, size_t n);                                  /* not optimised away */
bool equal_ct(const void *a, const void *b, size_t n) MUST_USE; /* constant time */

/* Zeroed memory from MADV_DONTDUMP pages shared by many objects; thread-safe. secret_free wipes.
   size is at most 4096. NULL when out of memory. */
void *secret_alloc(size_t size) MUST_USE;
void secret_free(void *p, size_t size);

#endif
