/* The last failure, by thread. */
#include "lib/error.h"

#include <stdarg.h>
#include <stdio.h>

static _Thread_local struct {
  int code;
  char text[ERR_TEXT_MAX];
} last;

int error_set(int code, const char *format, ...) {
  va_list args;
  va_start(args, format);
  vsnprintf(last.text, sizeof last.text, format, args);
  va_end(args);
  return last.code = code;
}

int error_from(const struct err *e) {
  int code = ADIT_ESYSTEM;
  switch (e->code) {
    case ERR_NOMEM: code = ADIT_ENOMEM; break;
    case ERR_SYNTAX: case ERR_LIMIT: case ERR_AUTH: code = ADIT_ECONFIG; break;
    case ERR_USAGE: code = ADIT_EINVAL; break;
    case ERR_CONFLICT: code = ADIT_ECONFLICT; break;
    default: break;
  }
  return error_set(code, "%s", e->text);
}

int error_code(void) {
  return last.code;
}

const char *error_text(void) {
  return last.text;
}
