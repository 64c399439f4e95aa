/* Small files of a command's: read whole, and bounded. */
#ifndef CLI_CONFIG_FILE_H
#define CLI_CONFIG_FILE_H

#include "base/err.h"

/* Reads a whole file of at most `max` bytes into malloced memory with a NUL behind it. */
int config_read(const char *path, size_t max, char **text, size_t *n, struct err *e) MUST_USE;

#endif
