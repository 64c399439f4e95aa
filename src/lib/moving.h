/* What `adit forward` does beyond the public library: it goes on as its next program, in the same process
   (agent/move.h). Not for other programs, which have states of their own. The host's thread. */
#ifndef LIB_MOVING_H
#define LIB_MOVING_H

#include "adit.h"
#include "base/cursor.h"
#include "base/err.h"

struct moving;                     /* an agent that is between two programs; in secret, keys and tokens included */

/* The old program's side. The client does nothing from here on, and waits to be executed away, or for moving_back.
   NULL: it goes on, and *e says why. */
struct moving *moving_out(struct adit_client *client, struct err *e) MUST_USE;
/* With what the host has to say to its next program. */
int moving_write(struct moving *m, const void *host, size_t n, int file, struct err *e) MUST_USE;
void moving_keep_open(const struct moving *m, bool through_exec);
void moving_back(struct adit_client *client, struct moving *m);      /* frees it */

/* The next program's side. stand_ins: its descriptors are the other process's, and not to be touched. NULL with *e. */
struct moving *moving_read(int file, bool stand_ins, struct err *e) MUST_USE;
struct reader moving_host(const struct moving *m);       /* what moving_write was given; valid until it is freed */
/* An empty configuration becomes that of the old program, but for the program of embedded relays. A client of it does
   nothing before moving_in. */
int moving_config(const struct moving *m, struct adit_config *config, struct err *e) MUST_USE;
/* Into a client that forwards the same apps, in the same order. dry: to see whether it can be done, in a process that
   ends then. Frees it. */
int moving_in(struct adit_client *client, struct moving *m, bool dry, struct err *e) MUST_USE;
void moving_free(struct moving *m);              /* closes its descriptors; NULL is fine */

#endif
