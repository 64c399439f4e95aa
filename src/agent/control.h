/* What the relay says on the control link, and what is done for it: the frames, and what a link takes with it when
   it ends. Above link, warm and tunnel; how a client lives with a link that comes and goes is above this. */
#ifndef AGENT_CONTROL_H
#define AGENT_CONTROL_H

#include "agent/link.h"

/* Of a link's handlers these; the others are its client's. */
extern const struct engine_role control_role;
void control_binds(struct link *l);
void control_down(struct link *l);

/* A link that is up goes to another program, with all that it has heard and is to say; its relay notices nothing. Those
   of its data connections that stand go before it, each for itself (agent/warm.h). ERR_NOT_NOW: it is not up; or
   ERR_LIMIT, ERR_NOMEM: nothing has changed. */
enum { CONTROL_EXPORT_MAX_BYTES = ENGINE_EXPORT_MAX_BYTES + (1 << 18) };
int control_pack(struct link *l, struct buf *state, int *fd) MUST_USE;
/* The same link, of any bytes: on failure, ERR_SYNTAX or ERR_NOMEM, nothing was taken. */
int control_unpack(struct adit_client *c, const struct link_handlers *handlers, const uint8_t *state, size_t n, int fd,
                   struct link **out) MUST_USE;

#endif
