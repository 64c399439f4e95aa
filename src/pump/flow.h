/* One direction of a pump. A flow reads from its source, holds at most one buffer or pipe, and writes to its sink; it
   ends by itself. What differs between splice, copy and the record layer stands behind three functions of struct
   flow_kind. */
#ifndef PUMP_FLOW_H
#define PUMP_FLOW_H

#include "pump/pool.h"
#include "pump/rate.h"
#include "tls/idle_records.h"

enum {
  PUMP_MAGIC = 0x70756d70,
  PREFIX_MAX_BYTES = 64
};

enum flow_state {                                /* in protocol order */
  FLOW_OPEN,
  FLOW_FINISHING,                                /* the source ended cleanly: what is held, close_notify, then FIN */
  FLOW_ENDED,                                    /* FIN is out */
  FLOW_LAST,                                     /* the stream is broken: what can still be delivered */
  FLOW_STOPPED                                   /* broken, and nothing is left to deliver */
};

enum flow_result {
  FLOW_MOVED,                                    /* fill: go on; drain: nothing is held any more */
  FLOW_BLOCKED,
  FLOW_CLEAN_END,
  FLOW_NOT_ACCEPTED,                             /* an end within the prefix */
  FLOW_RESET,
  FLOW_TRUNCATED,
  FLOW_VIOLATION,                                /* our alert is owed to the source */
  FLOW_ALERTED,                                  /* fatal alert from the source */
  FLOW_NO_MEMORY
};

struct side {                                    /* one socket of the two */
  struct loop_io io;
  struct pump *pump;
  struct wire at;
  bool at_end;                                   /* its end was read */
  bool reset;                                    /* sticky: SO_ERROR is cleared by whoever sees it first, and then reads
                                                    as an end */
  bool hung_up;                                  /* EPOLLHUP was reported; it cannot be masked */
  bool wrote;                                    /* since everything was last seen acknowledged */
};

struct flow;
struct flow_kind {
  enum flow_result (*fill)(struct flow *f);      /* reads once; only called when nothing is held */
  enum flow_result (*drain)(struct flow *f);     /* writes what is held: MOVED when all went out, BLOCKED, RESET (of the
                                                    sink) */
  enum flow_result (*finish)(struct flow *f);    /* puts what ends the stream behind the data: MOVED (drain it, call
                                                    again), CLEAN_END */
};
extern const struct flow_kind flow_kind_copy, flow_kind_splice, flow_kind_unseal, flow_kind_seal;

struct flow {
  struct pump *pump;
  const struct flow_kind *kind;
  struct side *source, *sink;
  enum flow_state state;
  bool wants_read, wants_write;                  /* what it waits for, after a step */
  bool dry;                                      /* the last read took all there was, as far as one can tell */
  bool more;                                     /* there is more to move before the source is read again */
  bool source_done;                              /* FLOW_LAST: nothing more is read */
  size_t last_left;                              /* stopping: so many bytes are still read. At first what lay unread in
                                                    the source, and 1 for its end: 101 when 100 bytes did */
  enum flow_result verdict;                      /* of the record behind the data that is held: an end, an alert, a
                                                    violation. The next fill gives it and reads nothing; MOVED: none */
  struct buffer *buffer;
  struct pipe_pair *pipe;
  size_t piped;                                  /* bytes in pipe */
  struct list holding;                           /* in the pool's list while it keeps more than it has to */
  uint64_t holding_since_ms;
  size_t uncounted;                              /* so many of the bytes that are written next are ours (a PROXY
                                                    header), and not the stream's */
  size_t plain_held;                             /* seal: plaintext inside the records held */
  size_t spent;                                  /* bytes read in this step, and before it those that were held */
  size_t granted;                                /* with a rate: of what was reserved, not yet read */
  uint64_t granted_at_ms;                        /* from then on it may be */
  bool throttled;                                /* it waits for that, after a step, and for no event */
  unsigned idle_records;                         /* unseal: without data, opened in this step */
  struct idle_records idle_per_s;                /* unseal */
  uint64_t bytes;
  uint64_t progress_ms;
  uint64_t *total;
  struct tally *tally;
};

enum pump_phase {                                /* in the order in which it goes: none comes back */
  PUMP_RUNS,
  PUMP_STOPS,                                    /* pump_stop: what had been sent by then is delivered */
  PUMP_BREAKS,                                   /* a side is gone: what was read before is delivered */
  PUMP_OVER                                      /* nothing is touched any more */
};

struct pump {
  uint32_t magic;
  struct pump_pool *pool;
  struct list active;                            /* in the pool's list */
  struct side wire, peer;
  struct flow to_peer, to_wire;
  struct sealed *sealed;
  struct rate *rate;                             /* NULL: none */
  enum pump_phase phase;
  enum close_reason why;
  const struct side *visitor;                    /* the one of the two beyond which the visitor is */
  const struct flow *to_visitor;
  bool grants_grace;                             /* broken, and not by the visitor, who may read its answer
                                                    undisturbed */
  uint64_t give_up_ms;                           /* of PUMP_STOPS and PUMP_BREAKS: when delivery is given up */
  uint64_t accept_by_ms;                         /* 0 once the prefix was read */
  struct loop_timer timer;
  uint64_t timer_at_ms;
  size_t prefix_want, prefix_have;               /* prefix_want: 0 once it was read */
  uint8_t prefix[PREFIX_MAX_BYTES];
  enum close_reason (*on_prefix)(struct pump *p, void *user, const uint8_t *bytes);
  void (*on_end)(struct pump *p, void *user, enum close_reason why, uint64_t to_peer, uint64_t to_wire);
  void *user;
  struct loop_deferred deferred;
};

void flow_init(struct flow *f, struct pump *p, const struct flow_kind *kind, struct side *source, struct side *sink);
/* Moves as much as is possible and fair. May break the pump (pump_break) and, through on_prefix, end it. */
void flow_step(struct flow *f);
bool flow_is_at_rest(const struct flow *f);
void flow_drop(struct flow *f);                  /* gives back what it holds, wanted or not */
void flow_stop(struct flow *f);                  /* the same, for good */
struct buffer *flow_buffer(struct flow *f);      /* its buffer, taken from the pool when it has none; NULL: out of
                                                    memory */
struct buffer *flow_room(struct flow *f);        /* the same, with room to read into: at least one record. Without
                                                    segments only. */
size_t flow_most(const struct flow *f, size_t room);   /* of room, what may be read at once */
void flow_took(struct flow *f, size_t n);        /* n bytes were read */
void flow_give_back(struct flow *f);             /* to the rate, what was reserved and not read */
bool flow_has_waited(const struct flow *f);      /* it was throttled, and may go on */
void flow_wrote(struct flow *f);                 /* the sink took something */
void flow_count(struct flow *f, size_t n);       /* n bytes left */
enum flow_result flow_of_net(ssize_t n);         /* a net_* result: MOVED, CLEAN_END, BLOCKED or RESET */

/* flow_copy.c: what splice falls back to. */
enum flow_result flow_copy_fill(struct flow *f);
enum flow_result flow_segments_drain(struct flow *f);
/* flow_hold.c: at the end of a step. What is kept for HOLD_MAX_MS without the sink taking anything moves to a buffer
   that fits. */
void flow_hold(struct flow *f);
bool flow_gather(struct flow *f);                /* what is in a pipe moves to a buffer; false: out of memory */
/* flow_seal.c: an owed record becomes a segment (MOVED), or none is owed (CLEAN_END). */
enum flow_result flow_owed_fill(struct flow *f);

/* Writes what is held, to the last byte that waits in the sink's TLS: as the kind's drain. */
enum flow_result flow_drain(struct flow *f);

/* pump.c: the stream is broken at that side (reset, truncated, malformed); what was read is still delivered. */
void pump_break(struct pump *p, const struct side *at, enum close_reason why);
/* pump.c: something has moved. */
void pump_is_active(struct pump *p);
/* pump.c, of the beginning: a pump that waits for nothing yet, and takes neither sealed nor wrap before pump_go. */
struct pump *pump_new(struct pump_pool *pool, const struct pump_params *params);
int pump_go(struct pump *p, const struct pump_params *params);
void pump_discard(struct pump *p);               /* before it goes */
/* pump.c: out of its loop and its pool without an end. Descriptors, wrap and sealed are whoever's who calls. */
void pump_let_go(struct pump *p);

#endif
