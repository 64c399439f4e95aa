/* One visitor: from OPEN on, a data connection, a connection to the app, and the record layer between them. It outlives
   its link. */
#ifndef AGENT_STREAM_H
#define AGENT_STREAM_H

#include "agent/client.h"
#include "wire/data.h"

/* Those of one tunnel: what each needs of it, beyond its beginning. */
struct streams {
  struct adit_client *client;
  struct list all;
  _Atomic uint64_t now, total;     /* these, and the tallies, are read by the host's threads, too */
  struct tally to_app, from_app;
  void (*ended)(struct streams *s);  /* one of them has; they may be gone after it */
};
void streams_init(struct streams *s, struct adit_client *c, void (*ended)(struct streams *s));

/* Whether the tunnel takes this visitor: a relay may be older than `deny`, and let in whom the host has denied. */
bool stream_is_wanted(const struct adit_tunnel *t, const struct open_message *open);
/* Takes the wire, which the loop has for io. The caller wipes open. */
void stream_begin(struct adit_tunnel *t, struct wire wire, struct loop_io *io, const struct open_message *open);
/* Delivers what was accepted, within RESET_DELIVERY_MS, and ends them. */
void streams_stop(struct streams *s);

#endif
