/* A relay's own name, as users give it. */
#ifndef CLI_DOMAIN_H
#define CLI_DOMAIN_H

#include "base/err.h"

/* 0, or ERR_USAGE and why not: it has at least two labels and no capital letters, since names on the wire are compared
   in lower case, and the name is stored, signed into tokens and pinned as it is written. */
int domain_check(const char *name, struct err *e) MUST_USE;

#endif
