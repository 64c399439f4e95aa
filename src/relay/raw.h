/* Raw ports: one listener a port, on the worker that the port number chooses, leading to whichever tunnel holds the
   port now. */
#ifndef RELAY_RAW_H
#define RELAY_RAW_H

#include "relay/registry.h"
#include "relay/worker.h"

struct raw_request {               /* embedded in its sender, which keeps it until `done` */
  struct loop_msg msg;
  struct worker *from, *to;
  struct tunnel *tunnel;           /* one reference, kept by the listener on success, else dropped */
  uint16_t port;
  int result; /* ERR_NOT_NOW: it leads to the label's next tunnel already; ERR_CONFLICT, ERR_AUTH: this host cannot
                 listen on that port; ERR_CLOSED: the relay drains; else negative: on none for now */
  void (*done)(struct raw_request *q); /* in the sender's thread */
};
/* Makes `port` lead to the tunnel: opens a listener, or turns the one that is there. */
void raw_attach(struct raw_request *q, struct worker *from, uint16_t port, struct tunnel *t,
                void (*done)(struct raw_request *q));
/* Closes the listener if it still leads to this tunnel. From any thread; takes a reference of its own. */
void raw_detach(struct relay *r, uint16_t port, struct tunnel *t);
void raw_close_all(struct worker *w);

#endif
