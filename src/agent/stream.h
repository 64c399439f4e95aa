/* One visitor: from OPEN on, a data connection, a connection to the app, and the record layer between them. It outlives
   its link. */
#ifndef AGENT_STREAM_H
#define AGENT_STREAM_H

#include "agent/tunnel.h"
#include "wire/data.h"

bool stream_kind_allowed(const struct adit_tunnel *t, uint8_t kind);
/* Takes fd. The caller wipes open. */
void stream_begin(struct adit_tunnel *t, int fd, const struct open_message *open);
void stream_app_resolved(struct adit_tunnel *t);   /* for those that wait for the app's address */
void stream_stop_all(struct adit_tunnel *t);        /* delivers what was accepted, within RESET_DELIVERY_MS, and ends them */

#endif
