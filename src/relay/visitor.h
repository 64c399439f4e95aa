/* A visitor from the door to its stream: handshake, then a data connection (waiting for one if need be), then OPEN. */
#ifndef RELAY_VISITOR_H
#define RELAY_VISITOR_H

#include "relay/registry.h"
#include "relay/worker.h"

/* The tunnel that this name leads to for this visitor, as a new reference; NULL for every kind of no. */
struct tunnel *visitor_tunnel(struct relay *r, const char *name, const struct addr *peer) MUST_USE;
/* Before a visitor goes any further: whether its owner's limits and share admit one more. If so it is counted, until
   visitor_leave_tunnel or the end of the stream; else the refusal is counted, the reference to t is gone, and the agent
   is told. */
bool visitor_enter_tunnel(struct worker *w, struct tunnel *t) MUST_USE;
void visitor_leave_tunnel(struct relay *r, struct tunnel *t);  /* with the reference */
void visitor_count_refused(struct worker *w, struct tunnel *t, enum notice why);
void visitor_count_lost(struct worker *w, const struct origin *o);    /* by its data connection, before ACCEPT */
/* Takes fd, which the loop has for io, the newcomer, who was served, and the reference to t, entered; hello is only
   read. */
void visitor_accept(struct worker *w, int fd, struct loop_io *io, const struct addr *peer, const struct addr *local,
                    struct newcomer *newcomer, const struct client_hello *hello, struct tunnel *t);
/* The same on a raw port: no handshake, and it enters and queues here. Takes fd and t. */
void visitor_accept_raw(struct worker *w, int fd, const struct addr *peer, const struct addr *local, struct tunnel *t);
void visitor_end_owners(struct worker *w); /* those that have ended */
void visitor_close_all(struct worker *w);

/* A visitor who waits for a data connection, as when his link has gone, moves to another process, and back. 0: one has
   left this worker, and his descriptor is the caller's; ERR_CLOSED: there is nobody who could go now; ERR_LIMIT,
   ERR_NOMEM. The bytes hold keys. Imported he goes on waiting, and has his stream as soon as there is a connection; he
   may have it, or be refused, at once. On failure fd was not taken: ERR_SYNTAX, ERR_NOMEM; ERR_CLOSED, the tunnel is
   not here. */
enum { VISITOR_EXPORT_MAX_BYTES = 1024 };
int visitor_export(struct worker *w, struct buf *state, int *fd) MUST_USE;
int visitor_import(struct worker *w, const uint8_t *state, size_t n, int fd) MUST_USE;

#endif
