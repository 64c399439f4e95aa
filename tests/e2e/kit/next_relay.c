/* A relay of the next release, as far as an upgrade can tell: it knows format 2, in which links and warm connections
   say something more at their end, and hands over in format 1 to who knows no other. With FORMAT_OLDEST 2 it is of the
   release behind that, which has forgotten format 1. The linker has the relay call these for its own. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "relay/control.h"
#include "relay/formats.h"
#include "relay/warm.h"

enum { NEXT_FORMAT = 2, VERSION_AT = 4, MORE_BYTES = 4 };
static const uint8_t more[MORE_BYTES] = {'m', 'o', 'r', 'e'};

typedef int export_fn(struct link *l, struct buf *state, int *fd);
typedef int import_fn(struct worker *w, const uint8_t *state, size_t n, int fd);
export_fn __real_control_export, __wrap_control_export, __real_warm_export, __wrap_warm_export;
import_fn __real_control_import, __wrap_control_import, __real_warm_import, __wrap_warm_import;
struct formats __wrap_formats_known(void);

struct formats __wrap_formats_known(void) { return (struct formats){FORMAT_OLDEST, NEXT_FORMAT}; }

static int export_with_more(export_fn *export, struct link *l, struct buf *state, int *fd) {
  bool says_more = l->worker->relay->handover_format >= NEXT_FORMAT;
  size_t from = state->len;
  int rc = export(l, state, fd);
  if (rc != 0 || !says_more) return rc;
  buf_data(state)[from + VERSION_AT] = NEXT_FORMAT;
  rc = buf_append(state, more, sizeof more);
  ASSERT(rc == 0);
  return rc;
}

/* From an earlier release there is nothing more, and what that would say is as it was before there was such a thing. */
static int import_with_more(import_fn *import, const char *what, struct worker *w, const uint8_t *state, size_t n,
                            int fd) {
  bool says_more = n > VERSION_AT && state[VERSION_AT] == NEXT_FORMAT;
  log_event(LOG_INFO, says_more ? "with_more" : "without_more", "what", what, NULL);
  if (!says_more) return import(w, state, n, fd);
  ASSERT(n > VERSION_AT + MORE_BYTES && memcmp(state + n - MORE_BYTES, more, MORE_BYTES) == 0);
  n -= MORE_BYTES;
  uint8_t *rest = malloc(n);
  ASSERT(rest != NULL);
  memcpy(rest, state, n);
  rest[VERSION_AT] = 1;            /* as the release before knows it */
  int rc = import(w, rest, n, fd);
  free(rest);
  return rc;
}

int __wrap_control_export(struct link *l, struct buf *state, int *fd) {
  return export_with_more(__real_control_export, l, state, fd);
}

int __wrap_warm_export(struct link *l, struct buf *state, int *fd) {
  return export_with_more(__real_warm_export, l, state, fd);
}

int __wrap_control_import(struct worker *w, const uint8_t *state, size_t n, int fd) {
  return import_with_more(__real_control_import, "link", w, state, n, fd);
}

int __wrap_warm_import(struct worker *w, const uint8_t *state, size_t n, int fd) {
  return import_with_more(__real_warm_import, "warm", w, state, n, fd);
}
