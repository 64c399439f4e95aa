/* A stream: a visitor joined to a data connection. OPEN hands it over, at most once; ACCEPT must come back; the rest is
   the pump. */
#ifndef RELAY_STREAM_H
#define RELAY_STREAM_H

#include "relay/data_connection.h"
#include "relay/registry.h"
#include "relay/worker.h"
#include "wire/data.h"

struct stream_params {
  struct worker *worker;
  struct tunnel *tunnel;           /* only read: the stream keeps none of it but its origin */
  struct data_connection data;
  int peer_fd;
  struct loop_io *wire_io, *peer_io;             /* for which the loop may have them (loop_io_take) */
  struct tls_conn *conn;           /* after its handshake; NULL on a raw port, or when that was taken out already: */
  const struct open_message *taken;              /* relay/taken.h; only read; else NULL */
  struct addr peer, local;
};
/* Always takes data. On success also peer_fd, conn and the visitor's place in the tunnel
   (visitor_enter_tunnel), even when the stream ends at once; on failure those stay the caller's, and nothing of the
   visitor's has left this process. */
int stream_hand_off(const struct stream_params *p) MUST_USE;

/* A stream moves to another process, or back to this one, amid whatever it does, as a pump does (pump/pump.h). Exported
   it is none of this worker's any more, state has its bytes and keys, and the descriptors are the caller's; on failure
   nothing has changed. Imported it goes on at once, counted for its owner, and for its tunnel if that is here already;
   on failure nothing was taken: ERR_SYNTAX, ERR_NOMEM, or what the loop says. */
enum { STREAM_EXPORT_MAX_BYTES = PUMP_EXPORT_MAX_BYTES + 4096 };
struct stream;
struct stream *stream_any(struct worker *w);     /* one of this worker's; NULL: it has none */
int stream_export(struct stream *s, struct buf *state, int *wire_fd, int *peer_fd) MUST_USE;
int stream_import(struct worker *w, const uint8_t *state, size_t n, int wire_fd, int peer_fd) MUST_USE;

void stream_end_owners(struct worker *w); /* those that have ended */
void stream_close_all(struct worker *w);

#endif
