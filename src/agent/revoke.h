/* Revoking tokens that were narrowed from the client's: asked for by the host's threads, sent by the loop's on the
   control link, and once more on the next one if that is lost before the answer. */
#ifndef AGENT_REVOKE_H
#define AGENT_REVOKE_H

#include "agent/link.h"

/* Host's thread. Waits for the relay's answer: 0 and *outcome, whose code is 0 if it is revoked; ERR_TIMEOUT at the
   deadline (NULL: there is none), when it goes on, and who asks for the same again waits for the same answer;
   ERR_NOMEM. Ends early with the client's trouble when its certificates or tokens do not fit. expires_s: when that
   token ends by itself; 0: not known. */
int revoke_wait(struct adit_client *c, const uint8_t id[TOKEN_ID_BYTES], int64_t expires_s,
                const struct timespec *deadline, struct trouble *outcome) MUST_USE;

/* Loop thread. */
void revokes_send(struct link *l);                 /* those that wait, on a link that is up; it is not flushed */
void revokes_answered(struct link *l, const struct frame_revoked *f);
void revokes_unsend(struct adit_client *c);        /* the link is gone */
void revokes_fail(struct adit_client *c, int code, const char *text);  /* all; code: enum adit_errno */
void revokes_free(struct adit_client *c);          /* nobody waits any more */

#endif
