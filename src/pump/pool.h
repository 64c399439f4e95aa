/* What the pumps of one loop share: pipes, buffers, totals, and the sockets that outlive their pump for a moment. Both
   pipes and buffers are lent only while a stream has bytes on their way, so thousands of idle streams cost none. */
#ifndef PUMP_POOL_H
#define PUMP_POOL_H

#include <sys/uio.h>

#include "base/limits.h"
#include "pump/pump.h"

struct pipe_pair {
  struct list link;                              /* while idle */
  int read_fd, write_fd;
};

enum {
  BUFFER_SEGMENTS_MAX = 64,
  BUFFER_OWED_MAX = 4 * SEALED_OWED_MAX
};

/* Bytes on their way through one direction. What is to be written is the list of segments; outside of them, [start,
   end) are bytes that were read but not yet understood (a partial record). */
struct buffer {
  struct list link;                              /* while idle */
  size_t size;                                   /* of bytes[] */
  size_t start, end;
  size_t used;                                   /* how far bytes[] was ever written since it was taken: what to wipe */
  unsigned segment_at, segments;
  size_t owed_n;                                 /* of owed[] */
  struct iovec segment[BUFFER_SEGMENTS_MAX];
  uint8_t owed[BUFFER_OWED_MAX];                 /* small records between those of bytes[] */
  uint8_t bytes[];
};

struct pump_pool {
  struct loop *loop;
  enum pump_mode mode;
  struct pump_stats stats;
  struct list active;                            /* pumps that have moved something lately, or of which something is
                                                    perhaps not acknowledged; no others cost a sweep anything */
  struct list lingers;                           /* oldest first */
  struct list pipes_idle, buffers_idle;
  unsigned pipes_made, pipes_max, lingers_n, lingers_max;
  uint64_t buffers_spare;                        /* the fewest that were idle since the last trim */
  size_t lent_bytes;                             /* size of all buffers that are not idle */
  void (*closing)(void *user, int fd);           /* NULL: nobody asks */
  void *closing_user;
  struct list holding;                           /* flows that keep a pipe or a large buffer between turns, longest
                                                    first */
  struct loop_timer sweep, reclaim;
};

struct pipe_pair *pool_pipe_take(struct pump_pool *pool); /* NULL: none to be had, so copy */
void pool_pipe_return(struct pump_pool *pool, struct pipe_pair *pipe);    /* empty */
void pool_pipe_discard(struct pump_pool *pool, struct pipe_pair *pipe);   /* with bytes in it that nobody wants */
bool pool_is_lean(const struct pump_pool *pool);  /* so much is lent that one record at a time has to do */
struct buffer *pool_buffer_take(struct pump_pool *pool); /* of full size, or a small one when lean; NULL: out of
                                                            memory */
/* n bytes that exist already, so whatever is lent */
struct buffer *pool_buffer_take_fitting(struct pump_pool *pool, size_t n);
void pool_buffers_trim(struct pump_pool *pool);   /* frees the idle ones that nobody has wanted since the last call */
void pool_buffer_return(struct pump_pool *pool, struct buffer *b);

static inline bool buffer_has_segments(const struct buffer *b) { return b->segment_at < b->segments; }
void buffer_segment_push(struct buffer *b, uint8_t *p, size_t n); /* joined to the last one when they touch */
size_t buffer_to_write(const struct buffer *b);   /* bytes of its segments */
size_t buffer_held(const struct buffer *b);       /* bytes in it that are not to be lost */
/* all of them, as one segment; `to` is new and large enough */
void buffer_move(struct buffer *to, const struct buffer *from);
size_t buffer_segments_sent(struct buffer *b, size_t n); /* n bytes of the segments went out; returns how many are
                                                            left */

/* pump.c: once SWEEP_MS from now. ERR_NOMEM, and then what can wait waits until somebody else asks. */
int pool_sweep_later(struct pump_pool *pool);

/* Every descriptor that was taken, and by nothing else. A stream's socket is reset by that, until net_linger_off. */
void pool_close(struct pump_pool *pool, int fd);

/* One writer, any reader. */
void pool_count(uint64_t *total, int64_t change);

/* linger.c: what outlives its pump. Both take fd and, when memory is out, fall back to closing at once. */
/* Writing is shut down already. The loop may have fd for `from` (loop_io_take). */
void linger_discard(struct pump_pool *pool, int fd, struct loop_io *from);
void linger_reset(struct pump_pool *pool, int fd);       /* resets once everything written is acknowledged */
void lingers_close(struct pump_pool *pool);
bool socket_is_delivered(int fd);                        /* everything written has been acknowledged */

#endif
