/* The part of `adit login` that does no I/O. */
#ifndef CLI_LOGIN_H
#define CLI_LOGIN_H

#include "base/base.h"

struct login_settings {            /* what is to stand in a configuration; NULL: no token, the old authorities, the old
                                      proxy */
  const char *token, *ca, *proxy;
  const char *const *relays;
  size_t relays_n;
};

/* A configuration with its token and the relays that went with it replaced by these, and with its ca and proxy
   replaced, too, if there are new ones. Everything else is kept as it is. Malloced and NUL-terminated, or NULL when out
   of memory; it holds a secret. */
char *login_rewrite(const char *old, size_t n, const struct login_settings *new) MUST_USE;

#endif
