/* The Unix sockets at which a relay takes agents of its machine; and, an embedded one, who asks for its status. */
#ifndef RELAY_AGENT_DOORS_H
#define RELAY_AGENT_DOORS_H

#include "relay/context.h"

/* Those of the options; an embedded relay has one in its state folder, if sockets can be there. */
int agent_doors_open(struct relay *r, struct err *e) MUST_USE;
/* With their files. While the state is the relay's: after that a successor may listen there. */
void agent_doors_close(struct relay *r);
void agent_doors_leave(struct relay *r);         /* without their files, at which the next program listens */
/* Of an embedded relay's status door, once nobody listens there any more. */
void status_door_close(struct relay *r);

#endif
