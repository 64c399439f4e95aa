/* The same end of a connection, as another process would have it. */
#ifndef TESTS_SEALED_MOVED_H
#define TESTS_SEALED_MOVED_H

#include "base/secret.h"
#include "tls/sealed.h"

static inline struct sealed *sealed_moved(struct sealed *s) {
  uint8_t state[SEALED_EXPORT_MAX_BYTES];
  struct writer w = writer_of(state, sizeof state);
  sealed_export(s, &w);
  assert_false(w.bad);
  struct reader r = reader_of(state, w.len);
  struct sealed *moved = NULL;
  assert_int_equal(sealed_import(&r, &moved), 0);
  assert_true(reader_done(&r));
  wipe(state, sizeof state);
  return moved;
}

#endif
