/* Options that begin with their size. */
#include "lib/sized.h"

#include <string.h>

enum { SIZE_MAX_BYTES = 4096 };

int sized_take(const void *given, size_t least, void *out, size_t n, const char *init, struct err *e) {
  const unsigned char *bytes = given;
  size_t size;
  memcpy(&size, given, sizeof size);
  if (size < least || size > SIZE_MAX_BYTES) return err_set(e, ERR_USAGE, "options: wrong size (start from %s)", init);
  memcpy(out, given, size_min(size, n));
  for (size_t i = n; i < size; i++)
    if (bytes[i] != 0) return err_set(e, ERR_USAGE, "options: this library does not know one of them (update libadit)");
  return 0;
}
