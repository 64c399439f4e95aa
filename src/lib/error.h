/* The calling thread's last failure, behind adit_error and adit_errno_last. The only state that the library has outside
   its objects. */
#ifndef LIB_ERROR_H
#define LIB_ERROR_H

#include "adit.h"
#include "base/err.h"

int error_set(int code, const char *format, ...) PRINTF_LIKE(2, 3);   /* returns code */
int error_from(const struct err *e);             /* the ERR_* as an ADIT_E*; returns that */
int error_code(void);
const char *error_text(void);                    /* "" when nothing failed yet */

#endif
