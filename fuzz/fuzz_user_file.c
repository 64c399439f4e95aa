/* The user's configuration: no text makes the parser read or write outside of it, and each value it gives is one
   line's. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "lib/user_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check(const char *value) {
  ASSERT(value == NULL || (value[0] != '\0' && strchr(value, '\n') == NULL));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
  struct user_file f;
  struct err e = {0};
  char *copy = malloc(n + 1);      /* the exact size, so that a read beyond it is seen */
  if (copy == NULL) return 0;
  memcpy(copy, data, n);
  copy[n] = 0;
  int r = user_file_parse(copy, n, &f, &e);
  free(copy);
  ASSERT(r == 0 || e.text[0] != '\0');
  if (r != 0) return 0;
  check(f.token);
  check(f.ca);
  ASSERT(f.relays_n <= ARRAY_LEN(f.relays));
  for (size_t i = 0; i < f.relays_n; i++) check(f.relays[i]);
  user_file_free(&f);
  return 0;
}
