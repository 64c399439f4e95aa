/* See home.h. */
#include "base/home.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/environment.h"

static int home_path(const char *variable, const char *in_home, const char *name, const char *what, char *out,
                     size_t cap, struct err *e) {
  const char *base = getenv(variable), *home = getenv("HOME");
  int n;
  if (base != NULL && base[0] == '/') n = snprintf(out, cap, "%s/%s", base, name);
  else if (environment_check("HOME", home, e) != 0) return ERR_USAGE;
  else if (home != NULL && home[0] == '/') n = snprintf(out, cap, "%s/%s/%s", home, in_home, name);
  else return err_set(e, ERR_NOT_NOW, "%s: no home folder (set HOME or %s)", what, variable);
  if (n < 0 || (size_t)n >= cap)
    return err_set(e, ERR_LIMIT, "%s: the home folder's path is too long (set %s to a shorter one)", what, variable);
  return 0;
}

int home_config_file(char *out, size_t cap, struct err *e) {
  return home_path("XDG_CONFIG_HOME", ".config", "adit/config", "configuration", out, cap, e);
}

int home_embedded_dir(char *out, size_t cap, struct err *e) {
  return home_path("XDG_STATE_HOME", ".local/state", "adit/embedded", "state folder", out, cap, e);
}
