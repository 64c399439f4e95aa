/* Data connections inside TLS (ALPN adit-data/1), for agents in networks that let nothing else through: from the door
   to their preface. They cost a signature each, and are strangers until then, like those who ask for a control link. */
#ifndef RELAY_WRAPPED_H
#define RELAY_WRAPPED_H

#include "relay/worker.h"
#include "tls/client_hello.h"

/* Takes fd and the newcomer, who was served. */
void wrapped_accept(struct worker *w, int fd, struct newcomer *newcomer, const struct client_hello *hello);
void wrapped_close_all(struct worker *w);

#endif
