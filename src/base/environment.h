/* Variables of the environment that somebody has set on purpose. */
#ifndef BASE_ENVIRONMENT_H
#define BASE_ENVIRONMENT_H

#include "base/err.h"

/* 0 for a variable's value, or for NULL, as of one that is not set. ERR_USAGE for one that is set but empty: that is a
   secret that is missing, or a setting that was lost on its way, and to go on as if there had been none could be the
   opposite of what was meant. */
int environment_check(const char *name, const char *value, struct err *e) MUST_USE;

#endif
