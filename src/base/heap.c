/* A burst leaves its memory in the arenas of all threads, a page here and a page there, and free() gives back the end
   of the heap only. glibc counts as free what it has given back already, so what counts is by how much that number
   has grown. Other C libraries have no such arenas, and no call for it. */
#include "base/heap.h"

#include <malloc.h>

#include "base/limits.h"

#ifdef __GLIBC__
static size_t heap_free_bytes(void) {
#if __GLIBC_PREREQ(2, 33)
  return mallinfo2().fordblks;
#else
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
  return (unsigned)mallinfo().fordblks;      /* without what is above 4 GiB */
#endif
}
#endif

bool heap_trim(struct heap_watch *w) {
#ifdef __GLIBC__
  size_t now_bytes = heap_free_bytes();
  if (now_bytes < w->free_min_bytes) w->free_min_bytes = now_bytes;
  if (now_bytes - w->free_min_bytes < HEAP_TRIM_MIN_BYTES) return false;
  (void)malloc_trim(0);
  w->free_min_bytes = heap_free_bytes();
  return true;
#else
  (void)w;
  return false;
#endif
}
