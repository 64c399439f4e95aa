/* What was recorded of what relays hand over: a file a parcel, without the number of its worker. */
#ifndef TESTS_RECORDED_H
#define TESTS_RECORDED_H

#include <stdio.h>

#include "cm.h"

#include "base/buf.h"

/* In place of what was in there. */
static inline void recorded_read(const char *name, struct buf *out) {
  char path[300];
  snprintf(path, sizeof path, FORMATS "/format_1/%s", name);
  FILE *file = fopen(path, "rb");
  if (file == NULL) fail_msg("%s: not there", path);
  buf_cut(out, 0);
  uint8_t *room = buf_reserve(out, out->max);
  assert_non_null(room);
  size_t n = fread(room, 1, out->max, file);
  assert_true(n > 0);
  buf_added(out, n);
  fclose(file);
}

#endif
