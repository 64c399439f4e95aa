/* Options that begin with their size, so that they may grow. */
#ifndef LIB_SIZED_H
#define LIB_SIZED_H

#include "base/err.h"

/* Copies what was given over n bytes of defaults. `least` is the smallest size that ever was; of a caller compiled
   against a later header, what we do not know must be zero. ERR_USAGE; `init` names the macro to start from. */
int sized_take(const void *given, size_t least, void *out, size_t n, const char *init, struct err *e) MUST_USE;

#endif
