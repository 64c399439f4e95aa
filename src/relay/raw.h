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

/* A port's listeners move to another process, and back, with all who knock there meanwhile. 0: one port has left this
   worker, and its n descriptors are the caller's; ERR_CLOSED: there are no more; ERR_LIMIT, ERR_NOMEM. */
enum { RAW_FAMILIES = 2, RAW_EXPORT_MAX_BYTES = 64 };
int raw_export(struct worker *w, struct buf *state, int fds[RAW_FAMILIES], size_t *n) MUST_USE;
/* The worker that such a port belongs to here; NULL: these bytes are none. */
struct worker *raw_import_at(struct relay *r, const uint8_t *state, size_t n) MUST_USE;
/* There, leading to the tunnel that has the port, which is here already: else ERR_CLOSED. Also ERR_CONFLICT: it has
   listeners. On failure nothing was taken. */
int raw_import(struct worker *w, const uint8_t *state, size_t n, const int *fds, size_t fds_n) MUST_USE;

#endif
