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
bool streams_are_calling(const struct streams *s);         /* some app is being dialled */
/* To another program and back, with its data connection and, if it has one already, its connection to the app. Takes
   any of them: ERR_CLOSED, there is none; else as pump_export, and nothing has changed. */
enum { STREAM_EXPORT_MAX_BYTES = PUMP_EXPORT_MAX_BYTES + 1024 };
int stream_pack(struct streams *s, struct buf *state, int fds[2], size_t *fds_n) MUST_USE;
/* On failure nothing was taken. One without an app waits for streams_call. */
int stream_unpack(struct adit_tunnel *t, const uint8_t *state, size_t n, const int *fds, size_t fds_n) MUST_USE;
void streams_call(struct adit_tunnel *t);

/* Delivers what was accepted, within RESET_DELIVERY_MS, and ends them. */
void streams_stop(struct streams *s);

#endif
