/* What every public call checks first, and what those that wait do. */
#ifndef LIB_HANDLE_H
#define LIB_HANDLE_H

#include "agent/client.h"
#include "agent/tunnel.h"

/* 0; or the error of a NULL or foreign pointer, or ADIT_EFORKED in a child, which closes its copies of our descriptors
   here. */
int handle_check_client(const struct adit_client *c) MUST_USE;
int handle_check_tunnel(const struct adit_tunnel *t) MUST_USE;
/* Under the client's lock: 0, or ETIMEDOUT at the deadline, of which there is none when timeout_ms < 0. */
int handle_wait_for_change(struct adit_client *c, int timeout_ms, const struct timespec *deadline) MUST_USE;
/* An embedded relay brings the token when it is there: from then on the setup does not change any more. 0, or an
   ADIT_E*. */
int handle_wait_for_token(struct adit_client *c, int timeout_ms) MUST_USE;

#endif
