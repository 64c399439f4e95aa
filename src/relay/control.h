/* What agents say on their control links, and what is done for it: the frames, what is due each second, and what a link
   takes with it when it ends. Above link, bind and warm, none of which knows of it. */
#ifndef RELAY_CONTROL_H
#define RELAY_CONTROL_H

#include "relay/link.h"

/* Takes fd and the newcomer, who was served. */
void control_accept(struct worker *w, int fd, const struct addr *peer, struct newcomer *newcomer,
                    const struct client_hello *hello);


/* A link that is up moves to another process, or back: with its tunnels, ports and binds under way, and whatever it has
   heard and is to say; its agent notices nothing. Its warm connections go before it, each for itself (warm_export):
   those that are left are closed, and the visitors who wait for one go on looking. On success it has left this worker,
   and its descriptor is the caller's; on failure nothing has changed: ERR_NOT_NOW, it is not up; ERR_CLOSED, it has
   failed and is about to end; ERR_LIMIT, ERR_NOMEM. */
enum { CONTROL_EXPORT_MAX_BYTES = 4 << 20 };
int control_export(struct link *l, struct buf *state, int *fd) MUST_USE;
/* Of any bytes. Tunnels whose names have led elsewhere since are ended, as if they had been superseded there. On
   failure fd was not taken: ERR_SYNTAX, ERR_NOMEM, ERR_CONFLICT, ERR_LIMIT. */
int control_import(struct worker *w, const uint8_t *state, size_t n, int fd) MUST_USE;

#endif
