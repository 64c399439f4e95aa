/* REVOKE: from a request on a control link to its answer. The keeper writes it down. */
#ifndef RELAY_REVOKE_H
#define RELAY_REVOKE_H

#include "relay/link.h"

void revoke_request(struct link *l, const struct frame_revoke *f);
/* The link is gone: what waits is not done, unless the keeper is at it, and nothing is answered. */
void revoke_withdraw_all(struct link *l);

/* Before the link is exported: what waits is put back among what it has heard, so it is asked for where the link
   goes. */
void revokes_hear_again(struct link *l);

#endif
