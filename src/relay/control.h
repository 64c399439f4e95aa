/* What agents say on their control links, and what is done for it: the frames, what is due each second, and what a link
   takes with it when it ends. Above link, bind and warm, none of which knows of it. */
#ifndef RELAY_CONTROL_H
#define RELAY_CONTROL_H

#include "relay/link.h"

/* Takes fd and the newcomer, who was served. */
void control_accept(struct worker *w, int fd, const struct addr *peer, struct newcomer *newcomer,
                    const struct client_hello *hello);

#endif
