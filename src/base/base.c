/* The one place where the program ends itself: an assertion that did not hold. It writes with write(2) alone, because
   nothing else can be trusted any more. */
#include "base/base.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void assert_failed(const char *cond, const char *file, int line) {
  char text[512];
  int n = snprintf(text, sizeof text, "adit: internal error: assertion \"%s\" failed at %s:%d\n", cond, file, line);
  if (n > 0) {
    ssize_t ignored = write(STDERR_FILENO, text, size_min((size_t)n, sizeof text - 1));
    (void)ignored;
  }
  abort();
}
