/* What a relay and the program that takes over from it say to each other: frames with descriptors over a pair of
   stream sockets (docs/upgrade.md). Lengths and descriptors are bounded by the kind of a frame before anything is
   allocated. The two trust each other; the bounds are there for the day when one of them is of another version. */
#ifndef RELAY_CARRIER_H
#define RELAY_CARRIER_H

#include "base/base.h"

enum carrier_kind {                /* who says it, and when: relay/upgrade.h */
  CARRIER_HELLO = 1,
  CARRIER_REFUSED,
  CARRIER_WELCOME,
  CARRIER_LISTENER,
  CARRIER_GIVEN,
  CARRIER_READY,
  CARRIER_COMMIT,
  CARRIER_LINK,                    /* these are parcels (relay/parcel.h) */
  CARRIER_WARM,
  CARRIER_RAW,
  CARRIER_VISITOR,
  CARRIER_STRAY,
  CARRIER_STREAM,
  CARRIER_TAKEN,
  CARRIER_SERVE,
  CARRIER_TOTALS,
  CARRIER_END,
  CARRIER_KINDS
};

enum { CARRIER_HEADER_BYTES = 8, CARRIER_FDS_MAX = 64 };
struct carrier_header {
  enum carrier_kind kind;
  uint8_t fds_n;
  uint32_t bytes;
};
int carrier_header_decode(const uint8_t bytes[CARRIER_HEADER_BYTES], struct carrier_header *out) MUST_USE;

struct carrier_frame {
  struct carrier_header header;
  uint8_t *body;                   /* header.bytes of them */
  int fds[CARRIER_FDS_MAX];        /* header.fds_n; whoever takes one puts -1 in its place */
};
void carrier_frame_free(struct carrier_frame *f);                /* wipes; closes what was not taken */

struct carrier {                   /* all fields private but fd */
  int fd;
  uint8_t header[CARRIER_HEADER_BYTES];
  size_t header_n, body_n;
  struct carrier_frame frame;      /* the one that is coming */
};
void carrier_init(struct carrier *c, int fd);
void carrier_close(struct carrier *c);
/* A pair, whose ends are both CLOEXEC and blocking, but give up sending after UPGRADE_STEP_MS. */
int carrier_pair(int fds[2]) MUST_USE;

/* Waits while the other side does not read. The descriptors stay the caller's. ERR_CLOSED: it is gone, or does not
   read. Frames of several threads do not mix if none has more than CARRIER_WHOLE_BYTES. */
enum { CARRIER_WHOLE_BYTES = 2048 };
int carrier_send(int fd, enum carrier_kind kind, const void *body, size_t n, const int *fds, size_t fds_n) MUST_USE;
/* The next frame, which is the caller's then. ERR_TIMEOUT: it is not there by then (a time of clock_ms; 0: now), and
   what has come of it is kept; ERR_NOMEM: likewise, it can be asked for again; ERR_CLOSED, ERR_SYNTAX: there will be
   none. */
int carrier_receive(struct carrier *c, uint64_t until_ms, struct carrier_frame *out) MUST_USE;

#endif
