/* Configuration files: lines of `key = value`, comments on lines that begin with '#'. Bounded: a file of at most
   CONFIG_FILE_MAX_BYTES, no NUL bytes, keys of lower-case letters, digits and hyphens. */
#ifndef BASE_SETTINGS_H
#define BASE_SETTINGS_H

#include "base/err.h"

/* Takes text apart in place: key and value are NUL-terminated inside text, which has room for a NUL at text[n]. Calls
   `each` for every setting in order and stops when that returns an error. Errors begin with the line's number: "line 3:
   ...". */
int settings_parse(char *text, size_t n,
                   int (*each)(void *user, const char *key, const char *value, unsigned line, struct err *e),
                   void *user, struct err *e) MUST_USE;

#endif
