/* Where a user's files are (XDG Base Directory Specification): an absolute folder in the environment, else one in
   HOME. */
#ifndef BASE_HOME_H
#define BASE_HOME_H

#include "base/err.h"

/* The user's configuration, adit/config in $XDG_CONFIG_HOME or ~/.config; it need not exist. ERR_NOT_NOW without a
   home, ERR_USAGE with one that is empty, ERR_LIMIT when the path does not fit. */
int home_config_file(char *out, size_t cap, struct err *e) MUST_USE;
/* The state folder of embedded relays, adit/embedded in $XDG_STATE_HOME or ~/.local/state. */
int home_embedded_dir(char *out, size_t cap, struct err *e) MUST_USE;

#endif
