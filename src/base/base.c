/* The one place where the program ends itself: an assertion that did not hold. It writes with write(2) alone, because
   nothing else can be trusted any more; and not where that would keep it from ending. */
#include "base/base.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void assert_failed(const char *cond, const char *file, int line) {
  char text[512];
  int n = snprintf(text, sizeof text, "adit: internal error: assertion \"%s\" failed at %s:%d\n", cond, file, line);
  struct pollfd ready = {.fd = STDERR_FILENO, .events = POLLOUT};
  if (n > 0 && poll(&ready, 1, 0) == 1) (void)!write(STDERR_FILENO, text, size_min((size_t)n, sizeof text - 1));
  abort();
}
