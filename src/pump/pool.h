/* What the pumps of one loop share: pipes, buffers, totals, and the sockets that outlive their pump for a moment. Both pipes and
   buffers are lent only while a stream has bytes on their way, so thousands of idle streams cost none. */
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

/* Bytes on their way through one direction. What is to be written is the list of segments; outside of them, [start, end) are
   bytes that were read but not yet understood (a partial record). */
struct buffer {
  struct list link;                              /* while idle */
  size_t start, end;
  size_t used;                                   /* how far bytes[] was ever written since it was taken: what to wipe */
  unsigned segment_at, segments;
  size_t owed_n;                                 /* of owed[] */
  struct iovec segment[BUFFER_SEGMENTS_MAX];
  uint8_t owed[BUFFER_OWED_MAX];                 /* small records between those of bytes[] */
  uint8_t bytes[STREAM_BUFFER_BYTES];
};

struct pump_pool {
  struct loop *loop;
  enum pump_mode mode;
  struct pump_stats stats;
  struct list pumps, lingers;
  struct list pipes_idle, buffers_idle;
  unsigned pipes_made, buffers_idle_n;
  struct list blocked;                           /* flows that hold a pipe before a blocked sink, longest first */
  struct loop_timer sweep, reclaim;
};

struct pipe_pair *pool_pipe_take(struct pump_pool *pool); /* NULL: none to be had, so copy */
void pool_pipe_return(struct pump_pool *pool, struct pipe_pair *pipe);    /* empty */
void pool_pipe_discard(struct pump_pool *pool, struct pipe_pair *pipe);   /* with bytes in it that nobody wants */
struct buffer *pool_buffer_take(struct pump_pool *pool); /* NULL: out of memory */
void pool_buffer_return(struct pump_pool *pool, struct buffer *b);

static inline bool buffer_has_segments(const struct buffer *b) { return b->segment_at < b->segments; }
void buffer_segment_push(struct buffer *b, uint8_t *p, size_t n); /* joined to the last one when they touch */
size_t buffer_segments_sent(struct buffer *b, size_t n); /* n bytes of the segments went out; returns how many are left */

/* One writer, any reader. */
void pool_count(uint64_t *total, int64_t change);

/* linger.c: what outlives its pump. Both take fd and, when memory is out, fall back to closing at once. */
void linger_discard(struct pump_pool *pool, int fd);     /* writing is shut down already */
void linger_reset(struct pump_pool *pool, int fd);       /* resets once everything written is acknowledged */
void lingers_close(struct pump_pool *pool);
bool socket_is_delivered(int fd);                        /* everything written has been acknowledged */

#endif
