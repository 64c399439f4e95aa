/* The answer of a relay's admin port: a cursor never leaves the text, whatever it is. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "cli/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void walk(struct json value, unsigned depth) {
  const char *at = NULL;
  char text[64];
  struct json key, inner;
  json_text(value, text, sizeof text);
  ASSERT(strlen(text) < sizeof text);
  (void)json_u64(value);
  (void)json_member(value, "metrics");
  while (depth < JSON_DEPTH_MAX && json_next(value, &at, &key, &inner)) {
    ASSERT(inner.at >= value.at && inner.end <= value.end && inner.at < inner.end);
    json_text(key, text, sizeof text);
    walk(inner, depth + 1);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
  char *text = malloc(n == 0 ? 1 : n);   /* without a NUL behind it, so that an overrun is found */
  if (text == NULL) return 0;
  memcpy(text, data, n);
  walk(json_of(text, n), 0);
  free(text);
  return 0;
}
