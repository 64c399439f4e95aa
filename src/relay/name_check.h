/* Whether the relay's names lead back to it: a wrong DNS record is the commonest mistake of a new deployment. */
#ifndef RELAY_NAME_CHECK_H
#define RELAY_NAME_CHECK_H

#include "relay/context.h"

/* Looks up a random label under the domain and makes a TLS handshake with what it finds, in a detached thread; logs a
   warning that says what to do. Touches nothing of the relay after this call returns. */
void name_check_start(struct relay *r);

#endif
