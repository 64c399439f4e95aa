/* Who an embedded relay lives for: the programs that hold the other ends of its descriptors. Each has a token of its
   own, which ends with it; so whatever kills a program ends its tunnels, and those of whom it gave narrower tokens. */
#ifndef RELAY_HOLDERS_H
#define RELAY_HOLDERS_H

#include "loop/loop.h"
#include "relay/context.h"

/* When the relay serves: tells the first how to reach it, and takes others if it is shared. Calls `gone` when the last
   has been gone for some seconds, so that a program which is started again finds it still there, or at once if it is
   not shared. NULL: e says why. */
struct holders *holders_open(struct relay *r, struct loop *l, loop_timer_fn *gone, struct loop_timer *t,
                             struct err *e) MUST_USE;
void holders_leave(struct holders *h);           /* no others are taken; NULL is fine, as below */
/* Sends the programs of a shared relay, whose addresses are free by now, to one that they start: at once, while what
   they have here goes on to its end. */
void holders_let_go(struct holders *h);
void holders_close(struct holders *h);

#endif
