/* Moving the bytes of one stream between two sockets, to its end. The relay's streams are a visitor socket and a data
   connection; the agent's a data connection and an app socket. The "wire" side is the data connection, the "peer" side
   the other.

   A pump takes both descriptors. Each direction ends by itself (half-close); a reset on one side resets the other; what
   was delivered stays delivered. Bytes pass as they are (splice or copy), or through the record layer (sealed). Idle
   pumps hold neither buffer nor pipe. */
#ifndef PUMP_PUMP_H
#define PUMP_PUMP_H

#include "base/buf.h"
#include "base/err.h"
#include "base/list.h"
#include "loop/loop.h"
#include "pump/wrap.h"
#include "tls/sealed.h"

enum pump_mode { PUMP_SPLICE, PUMP_COPY };

/* Why a stream ended: a name each in close_reason.c, and a counter in the relay's metrics. */
enum close_reason {
  CLOSE_CLEAN,                     /* both directions ended */
  CLOSE_PEER_RESET, CLOSE_WIRE_RESET,
  CLOSE_TRUNCATED,                 /* end without close_notify */
  CLOSE_PROTOCOL,                  /* record layer violation, or bad ACCEPT */
  CLOSE_PEER_ALERT,                /* fatal alert from the visitor */
  CLOSE_NOT_ACCEPTED,              /* the data connection ended before ACCEPT */
  CLOSE_ACCEPT_TIMEOUT,
  CLOSE_HALF_OPEN_IDLE,
  CLOSE_UNACKED,                   /* data unacknowledged for UNACKED_MAX_MS */
  CLOSE_APP_REFUSED,
  CLOSE_NO_DATA_CONNECTION,
  CLOSE_REVOKED,
  CLOSE_LOCAL,                     /* our side closes: shutdown, tunnel closed */
  CLOSE_NOMEM,
  CLOSE_REASONS
};
const char *close_reason_name(enum close_reason r);

struct rate;

/* Per loop: pipes, buffers, totals. */
struct pump_pool;
struct pump_stats {                /* written by the loop's thread only, with relaxed atomics: may be read by any */
  uint64_t to_peer_bytes, to_wire_bytes;         /* payload as it leaves (plaintext where we have it, else
                                                    ciphertext) */
  uint64_t pumps, pipes, buffers;                /* now: in use */
  uint64_t pipes_pooled, buffers_pooled;         /* and kept for the next stream */
  uint64_t waits;                                /* of directions for their rate */
};
struct pump_pool *pump_pool_new(struct loop *l, enum pump_mode mode, struct err *e) MUST_USE;
/* For where descriptors are few: at most so many pipes and lingering sockets, if the named limits allow more. */
void pump_pool_limit(struct pump_pool *p, unsigned pipes_max, unsigned lingers_max);
void pump_pool_free(struct pump_pool *p);        /* all pumps must have ended */
/* closing(user, fd) is called as a descriptor that the pool has taken, of a pump or to linger, is about to be
   closed. */
void pump_pool_on_closing(struct pump_pool *p, void (*closing)(void *user, int fd), void *user);
const struct pump_stats *pump_pool_stats(const struct pump_pool *p);

struct pump;
/* Bytes that have passed; what is added to it is added to what it is a part of, too. */
struct tally {
  uint64_t bytes;                  /* relaxed atomic */
  struct tally *part_of;           /* NULL: of nothing */
};

struct pump_params {
  struct wire wire;                /* taken; with TLS around it, the end of a direction is a close_notify of that */
  int peer_fd;
  struct loop_io *wire_io, *peer_io;             /* for which the loop may have them (loop_io_take), and has not on
                                                    failure; NULL: none */
  bool peer_reset;                 /* that side was reset already, and only what it had sent before is left to
                                      deliver */
  struct sealed *sealed;           /* record layer on the wire side; taken; NULL: bytes pass as they are */
  const uint8_t *peer_first;       /* goes to the peer before anything else (PROXY header); copied */
  size_t peer_first_n;
  bool visitor_is_peer;            /* who may read its answer undisturbed when the other end breaks; else it is beyond
                                      the wire */
  size_t wire_prefix_n;            /* the first bytes from the wire are not the stream's: collected (at most 64) and
                                      handed to on_prefix before anything is passed on; its deadline is
                                      ACCEPT_DEADLINE_MS */
  enum close_reason (*on_prefix)(struct pump *p, void *user, const uint8_t *bytes); /* CLOSE_CLEAN: go on; else reset */
  /* once; both descriptors are closed or linger; p is freed after the turn */
  void (*on_end)(struct pump *p, void *user, enum close_reason why, uint64_t to_peer, uint64_t to_wire);
  void *user;
  struct rate *rate;               /* both directions read no faster, together with whoever else has it; NULL: as fast
                                      as they can. Outlives the pump. */
  struct tally *to_peer_tally, *to_wire_tally;   /* added to as bytes pass; outlive the pump; may be NULL */
};
/* On failure nothing was taken. */
int pump_start(struct pump_pool *pool, const struct pump_params *params, struct pump **out, struct err *e) MUST_USE;
/* Ends now: both sides are reset (sealed: close with a fatal alert where one can still be written). on_end is
   called. */
void pump_abort(struct pump *p, enum close_reason why);
/* Delivers what both sides had sent by now, for which there is RESET_DELIVERY_MS (or ..._IN_TURNS_MS), and resets them:
   to either it looks as if the other side had died. on_end may be called at once. */
void pump_stop(struct pump *p, enum close_reason why);

/* A pump moves to another process. What it is becomes bytes, in which are keys and what it held of its stream: whoever
   has them wipes them. Both descriptors are the caller's then, nothing was said on them, and on_end is not called. On
   failure nothing has changed: ERR_NOMEM; ERR_LIMIT, though PUMP_EXPORT_MAX_BYTES are always enough; ERR_CLOSED, it is
   over. Not to be called by its own on_prefix. */
enum { PUMP_EXPORT_MAX_BYTES = 2 << 20 };
int pump_export(struct pump *p, struct buf *state, int *wire_fd, int *peer_fd) MUST_USE;
/* The same pump, here or there: also whoever has exported it may take it back. Of the parameters only descriptors,
   calls, user, rate and tallies are looked at; the rest is in the state. On failure nothing was taken: ERR_SYNTAX, it
   is none, or another version's; ERR_NOMEM and what the loop says. */
int pump_import(struct pump_pool *pool, const struct pump_params *params, const uint8_t *state, size_t n,
                struct pump **out) MUST_USE;

/* Ends one socket the clean way outside a pump: shuts down writing, discards input until EOF or LINGER_DISCARD_MS,
   closes. Takes fd. */
void pump_linger_close(struct pump_pool *pool, int fd);
/* One that outlives its pump moves to another program: the oldest, which is the caller's then, or -1; *resets: it is to
   be reset, once what was written to it has been delivered. And back: takes fd. */
int pump_linger_take(struct pump_pool *pool, bool *resets);
void pump_linger_give(struct pump_pool *pool, int fd, bool resets);

#endif
