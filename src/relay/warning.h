/* What a relay warns its operator of, whoever causes it and however often: each kind is logged at most once in
   WARNING_EVERY_MS, with the number of times that it was left out meanwhile. */
#ifndef RELAY_WARNING_H
#define RELAY_WARNING_H

#include "base/addr.h"
#include "base/seldom.h"

struct warnings {                  /* all zero at first; every thread may use it */
  struct seldom shortage, state, unread, proxy_unexpected, proxy_missing, not_signed;
};

/* Descriptors, or memory for them, have run out: a listener for shortage_listen. */
void warning_shortage(void *warnings, int error);
/* A peer sent a PROXY header that it is not expected to send; or none, or a malformed one, where one is expected. */
void warning_proxy_unexpected(struct warnings *w, const struct addr *peer);
void warning_proxy_missing(struct warnings *w, const struct addr *peer);
/* The key process does not sign in time. */
void warning_unsigned(struct warnings *w);
/* The state cannot be written, so no raw port is given. */
void warning_state(struct warnings *w, const char *error);
/* The state cannot be read, so a revocation may not be heard of. */
void warning_state_unread(struct warnings *w, const char *error);

#endif
