/* Error texts. A text that does not fit is cut; a caller's errno survives every call here. */
#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/shortage.h"

int err_set(struct err *e, int code, const char *format, ...) {
  if (e == NULL) return code;
  int saved = errno;
  e->code = code;
  va_list ap;
  va_start(ap, format);
  vsnprintf(e->text, sizeof e->text, format, ap);
  va_end(ap);
  errno = saved;
  return code;
}

/* remedy may be NULL. */
static int set_errno(struct err *e, int error, const char *remedy, const char *format, va_list ap) PRINTF_LIKE(4, 0);
static int set_errno(struct err *e, int error, const char *remedy, const char *format, va_list ap) {
  if (shortage_note(error)) remedy = shortage_remedy(error);
  if (e == NULL) return ERR_IO;
  e->code = ERR_IO;
  vsnprintf(e->text, sizeof e->text, format, ap);
  size_t n = strlen(e->text);
  char reason[128];
  snprintf(e->text + n, sizeof e->text - n, remedy != NULL ? ": %s (%s)" : ": %s",
           strerror_r(error, reason, sizeof reason), remedy);
  return ERR_IO;
}

int err_set_errno(struct err *e, const char *format, ...) {
  int saved = errno;
  va_list ap;
  va_start(ap, format);
  int code = set_errno(e, saved, NULL, format, ap);
  va_end(ap);
  errno = saved;
  return code;
}

int err_set_errno_remedy(struct err *e, const char *remedy, const char *format, ...) {
  int saved = errno;
  va_list ap;
  va_start(ap, format);
  int code = set_errno(e, saved, remedy, format, ap);
  va_end(ap);
  errno = saved;
  return code;
}

int err_prefix(struct err *e, const char *format, ...) {
  if (e == NULL) return ERR_IO;
  int saved = errno;
  char before[ERR_TEXT_MAX];
  memcpy(before, e->text, sizeof before);
  va_list ap;
  va_start(ap, format);
  vsnprintf(e->text, sizeof e->text, format, ap);
  va_end(ap);
  size_t n = strlen(e->text);
  snprintf(e->text + n, sizeof e->text - n, ": %s", before);
  errno = saved;
  return e->code;
}

const char *err_name(int code) {
  static const char *const names[] = {"none", "nomem", "io",      "syntax",   "limit",      "auth", "crypto",
                                      "not_now", "usage", "closed", "timeout",  "conflict",   "unsupported"};
  if (code > 0 || -code >= (int)ARRAY_LEN(names)) return "unknown";
  return names[-code];
}
