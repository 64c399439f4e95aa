/* See environment.h. */
#include "base/environment.h"

int environment_check(const char *name, const char *value, struct err *e) {
  if (value == NULL || value[0] != '\0') return 0;
  return err_set(e, ERR_USAGE,
                 "%s: it is set but empty, as of a secret or setting that is missing (set it, or unset it)", name);
}
