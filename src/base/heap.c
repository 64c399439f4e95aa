/* A burst leaves its memory in the arenas of all threads, a page here and a page there, and free() gives back the end of the heap
   only. Other C libraries than glibc have no such arenas, and no call for it. */
#include "base/heap.h"

#include <malloc.h>

#include "base/limits.h"

bool heap_trim(void) {
#ifdef __GLIBC__
  struct mallinfo2 m = mallinfo2();
  return m.fordblks >= HEAP_TRIM_MIN_BYTES && m.fordblks > m.uordblks && malloc_trim(0) == 1;
#else
  return false;
#endif
}
