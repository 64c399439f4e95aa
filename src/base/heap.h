/* Memory that was freed and that the C library still holds. For programs only: the library leaves its host's heap
   alone. */
#ifndef BASE_HEAP_H
#define BASE_HEAP_H

#include "base/base.h"

struct heap_watch { size_t free_min_bytes; };    /* all zero at first */

/* Gives it back to the system when HEAP_TRIM_MIN_BYTES have been freed since it was last seen to be little, or given
   back. Whether it did. To be called now and then. */
bool heap_trim(struct heap_watch *w);

#endif
