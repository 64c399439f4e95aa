/* What the relay says on the control link, and what is done for it: the frames, and what a link takes with it when
   it ends. Above link, warm and tunnel; how a client lives with a link that comes and goes is above this. */
#ifndef AGENT_CONTROL_H
#define AGENT_CONTROL_H

#include "agent/link.h"

/* Of a link's handlers these; the others are its client's. */
extern const struct engine_role control_role;
void control_binds(struct link *l);
void control_down(struct link *l);

#endif
