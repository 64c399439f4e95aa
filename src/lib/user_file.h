/* The user's configuration file, "key = value" a line: token, relay, ca, proxy. Keys that the library does not know are
   left to others. */
#ifndef LIB_USER_FILE_H
#define LIB_USER_FILE_H

#include "base/err.h"

struct user_file { /* malloced strings or NULL; of several lines of one key the last counts, relays all */
  char *token, *ca, *proxy;
  char *relays[16];
  size_t relays_n;
};
/* No I/O. As settings_parse (base/settings.h) it takes text apart in place, with room for a NUL at text[n]. */
int user_file_parse(char *text, size_t n, struct user_file *out, struct err *e) MUST_USE;
/* The file of $XDG_CONFIG_HOME or ~/.config; none is no error. */
int user_file_load(struct user_file *out, struct err *e) MUST_USE;
void user_file_free(struct user_file *f);        /* wipes token and proxy */

#endif
