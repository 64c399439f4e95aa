/* The new program's side of an upgrade: a relay that was started by another's starter and takes over from it. */
#ifndef RELAY_HEIR_H
#define RELAY_HEIR_H

#include "loop/loop.h"
#include "relay/carrier.h"
#include "relay/context.h"
#include "relay/handover.h"

struct heir;
/* Whether this process was started so: *out, or NULL if not. First of all: what the starter that is forked next is
   given has no trace of it. ERR_SYNTAX: it seems to be, and there is no carrier. */
int heir_find(struct heir **out, struct err *e) MUST_USE;
int heir_carrier(const struct heir *h);          /* its descriptor; -1 for NULL */
/* Says who we are, and hears what there is to take over. */
int heir_meet(struct heir *h, struct relay *r, struct err *e) MUST_USE;
/* The predecessor's claim on the state folder, which is ours then. */
int heir_claim(struct heir *h);

/* Whether the predecessor listens there; port 0 is any, and becomes his. */
bool heir_listens(struct heir *h, enum handover_role role, struct addr *at);
/* The next of his sockets there that is for this one of n workers, which is the caller's then; -1: there is none. */
int heir_listener(struct heir *h, enum handover_role role, const struct addr *at, unsigned worker, unsigned n);

size_t heir_listeners(const struct heir *h);     /* all of them, at the most */

/* Everything is open, and nothing is served: says so, and waits for the commit. Without one this program was not
   wanted. Closes the sockets that nobody took. */
int heir_ready(struct heir *h, struct err *e) MUST_USE;
/* Takes in what comes before the doors open: negative when the predecessor has died amid it. Nothing is fatal from
   here on. */
int heir_take_control(struct heir *h) MUST_USE;
/* Says that the doors are open, and takes in the rest, by this loop. */
void heir_follow(struct heir *h, struct loop *l);
bool heir_has_taken_over(const struct heir *h);
void heir_refuse(struct heir *h, const struct err *e);   /* before the commit: why nothing came of it */
void heir_free(struct heir *h);

#endif
