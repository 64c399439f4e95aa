/* The part of `adit login` that does no I/O. */
#ifndef CLI_LOGIN_H
#define CLI_LOGIN_H

#include "base/base.h"

/* A configuration with its token replaced by this one and without the relays that went with the old one; with ca (may
   be NULL) replaced, too. Everything else is kept as it is. Malloced and NUL-terminated, or NULL when out of memory; it
   holds a secret. */
char *login_rewrite(const char *old, size_t n, const char *token, const char *ca) MUST_USE;

#endif
