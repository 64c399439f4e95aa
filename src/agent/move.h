/* An agent goes from one program to the next within its process: all that it is becomes parcels, of which the next
   program makes the same agent again. Its relay, its visitors and its apps notice nothing.

   The host's thread: move_out, then move_write into a file that outlives exec. If the next program is not to be had
   after all, move_back, and all is as it was. The next one: move_read, a client of move_setup's configuration, the same
   tunnels, move_in. */
#ifndef AGENT_MOVE_H
#define AGENT_MOVE_H

#include "agent/client.h"
#include "base/parcel.h"

/* In the order in which they are taken in. */
enum move_kind {
  MOVE_SETUP = 1,                  /* setup_export */
  MOVE_CLIENT,
  MOVE_TUNNEL,                     /* number(2), tunnel_export */
  MOVE_EMBEDDED,                   /* embedded_export; its descriptor */
  MOVE_LINK,                       /* control_pack; its socket */
  MOVE_WARM,                       /* warm_pack; its socket */
  MOVE_STREAM,                     /* number(2) of its tunnel, stream_pack; data connection, and app if it has one */
  MOVE_LINGER,                     /* resets(1); its socket */
  MOVE_HOST,                       /* what the host's program has to say to its next one */
  MOVE_KINDS
};

/* Waits for who is in the midst of something, MOVE_READY_MS at most. On success the client's thread does nothing any
   more, until move_back. ERR_NOT_NOW: the client is at its end, or begins, or a disk has not taken a ticket;
   ERR_NOMEM. */
int move_out(struct adit_client *c, struct list *parcels, struct err *e) MUST_USE;
void move_back(struct adit_client *c, struct list *parcels);     /* frees them */
/* Into a client whose setup says that it moves in, and that has got all its tunnels, in their order. dry: only whether
   it could be done, to a process that does nothing else and ends then. Frees the parcels. ERR_SYNTAX, ERR_NOMEM. */
int move_in(struct adit_client *c, struct list *parcels, bool dry, struct err *e) MUST_USE;
/* What the loop's thread does for these, without waiting, for tests and fuzzers. On failure of move_pack some of it is
   in the parcels already. */
int move_pack(struct adit_client *c, struct list *parcels) MUST_USE;
int move_unpack(struct adit_client *c, struct list *parcels, bool dry, struct err *e) MUST_USE;

const struct parcel *move_find(const struct list *parcels, enum move_kind kind);     /* the first; NULL: none */

/* The file: a head of magic(4) = 6164666f, format(2), 0(2), number of parcels(4); each parcel has kind(2)
   descriptors(1) 0(1) length(4), the numbers(4) of its descriptors, and its bytes. */
enum { MOVE_FORMAT = 1 };
int move_write(int file, const struct list *parcels, struct err *e) MUST_USE;
/* Of any file: ERR_SYNTAX, ERR_NOMEM, ERR_IO. The descriptors are closed on exec from here on; stand_ins: others take
   their place, with which nothing can be done. */
int move_read(int file, struct list *parcels, bool stand_ins, struct err *e) MUST_USE;

#endif
