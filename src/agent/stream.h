/* One visitor: from OPEN on, a data connection, a connection to the app, and the record layer between them. It outlives
   its link. */
#ifndef AGENT_STREAM_H
#define AGENT_STREAM_H

#include "agent/tunnel.h"
#include "wire/data.h"

/* Whether the tunnel takes this visitor: a relay may be older than `deny`, and let in whom the host has denied. */
bool stream_is_wanted(const struct adit_tunnel *t, const struct open_message *open);
/* Takes the wire, which the loop has for io. The caller wipes open. */
void stream_begin(struct adit_tunnel *t, struct wire wire, struct loop_io *io, const struct open_message *open);
/* Delivers what was accepted, within RESET_DELIVERY_MS, and ends them. */
void stream_stop_all(struct adit_tunnel *t);

#endif
