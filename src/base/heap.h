/* Memory that was freed and that the C library still holds. For programs only: the library leaves its host's heap alone. */
#ifndef BASE_HEAP_H
#define BASE_HEAP_H

#include "base/base.h"

/* Gives it back to the system if it is much: HEAP_TRIM_MIN_BYTES, and more than what is in use. Whether it did. */
bool heap_trim(void);

#endif
