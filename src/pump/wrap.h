/* TLS around a socket, after its handshake: what is sent and received passes through records of our own record layer.
   For data connections in networks that let only TLS through, and for proxies that are spoken to inside TLS; one may
   lie around another. Everywhere NULL stands for the bare socket, so callers know no difference.

   An idle wrap holds no buffer. What was received with the last call, or is held back by a full socket, lies in here,
   and no event of the socket tells of the former: so after a read wrap_has_input is to be asked, and before waiting
   wrap_flush. */
#ifndef PUMP_WRAP_H
#define PUMP_WRAP_H

#include <sys/uio.h>

#include "tls/sealed.h"
#include "tls/tls_conn.h"

struct wrap;
/* Takes both, also on failure, which is want of memory: NULL. */
struct wrap *wrap_new(struct sealed *sealed, struct wrap *below) MUST_USE;
/* Takes the connection, whose handshake is done, and what lies below, also on failure. A client's Finished, in TLS 1.3,
   leaves with what is sent first. NULL with *e on failure. */
struct wrap *wrap_take_over(struct tls_conn *tls, bool client, struct wrap *below, struct err *e) MUST_USE;
/* Reads no more than n bytes ahead, and takes no longer record: for an other end that has not proven itself. 0: as much
   as is good. */
void wrap_read_little(struct wrap *w, size_t n);
void wrap_free(struct wrap *w);                  /* with what lies below; the socket is the caller's; NULL is fine */
void wrap_rest(struct wrap *w);                  /* sealed_rest, of all; NULL is fine */

/* As net_recv: >0 bytes; 0 the other end's close_notify; NET_AGAIN; NET_RESET, also for an end without close_notify and
   for what is no TLS. */
ssize_t wrap_recv(struct wrap *w, int fd, void *p, size_t n);
bool wrap_has_input(const struct wrap *w);       /* the next wrap_recv gives something without asking the socket */
size_t wrap_unread(const struct wrap *w);        /* so many bytes, at most */
/* As net_send and net_sendv; what was taken may still be in here. */
ssize_t wrap_send(struct wrap *w, int fd, const void *p, size_t n);
ssize_t wrap_sendv(struct wrap *w, int fd, const struct iovec *iov, int n);
int wrap_flush(struct wrap *w, int fd);          /* 0: all has left; NET_AGAIN: wait until the socket can be written;
                                                    NET_RESET */
void wrap_close(struct wrap *w);                 /* close_notify is to be flushed, and nothing is sent after it */
bool wrap_is_closed(const struct wrap *w);

/* One end of a connection: its socket, and what lies around that. */
struct wire {
  int fd;
  struct wrap *outer;              /* NULL: nothing */
};
#define WIRE_NONE ((struct wire){.fd = -1})

/* What it had is the caller's; no wire is left there. */
static inline struct wire wire_take(struct wire *w) {
  struct wire taken = *w;
  *w = WIRE_NONE;
  return taken;
}

static inline ssize_t wire_recv(const struct wire *w, void *p, size_t n) { return wrap_recv(w->outer, w->fd, p, n); }
static inline ssize_t wire_send(const struct wire *w, const void *p, size_t n) {
  return wrap_send(w->outer, w->fd, p, n);
}
static inline ssize_t wire_sendv(const struct wire *w, const struct iovec *iov, int n) {
  return wrap_sendv(w->outer, w->fd, iov, n);
}
static inline int wire_flush(const struct wire *w) { return wrap_flush(w->outer, w->fd); }

/* As sealed_export and sealed_import, with what lies below; NULL is fine. */
size_t wrap_export_bytes(const struct wrap *w);  /* so many are enough */
void wrap_export(struct wrap *w, struct writer *to);
int wrap_import(struct reader *r, struct wrap **out) MUST_USE;

#endif
