/* Configuration files: no text makes the parser read or write outside of it, and what it reports are settings. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "base/settings.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static int check(void *user, const char *key, const char *value, unsigned line, struct err *e) {
  (void)user;
  (void)e;
  ASSERT(line > 0 && key[0] >= 'a' && key[0] <= 'z' && value[0] != 0);
  ASSERT(strchr(key, '=') == NULL && strchr(value, '\n') == NULL);
  return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
  struct err e;
  char *text = malloc(n + 1);
  if (text == NULL) return 0;
  memcpy(text, data, n);
  text[n] = 0;
  (void)!settings_parse(text, n, check, NULL, &e);
  free(text);
  return 0;
}
