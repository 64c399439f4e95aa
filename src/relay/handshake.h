/* The I/O of a server-side TLS handshake on a worker's loop, for visitors and for control links: exact reads, output,
   the wait for the key process's signature, deadline. What it means is its owner's. */
#ifndef RELAY_HANDSHAKE_H
#define RELAY_HANDSHAKE_H

#include "relay/worker.h"

struct handshake {                 /* embedded in its owner; the fields are for reading */
  struct worker *worker;
  struct loop_io io;
  struct loop_timer deadline;
  int fd;
  struct tls_conn *conn;
  struct tls_waiter waiter;
  bool waits;                      /* for its signature */
  uint64_t *now;                   /* a gauge of the worker's; NULL: no longer counted */
  enum tls_refusal refusal;        /* why it failed */
  bool late;
  void (*done)(struct handshake *h, bool ok);
};

/* Takes fd, which the loop may have for `from` (loop_io_take_late), and feeds the ClientHello. While it goes on it is
   counted in *now. `done` is called once, perhaps before this returns: with ok, fd, io and conn are the owner's, and fd
   is still waited for; without, they are gone (an alert was sent where TLS has one). */
void handshake_start(struct handshake *h, struct worker *w, int fd, struct loop_io *from,
                     const struct client_hello *hello, struct tls_server *server,
                     const struct tls_server_policy *policy, uint64_t *now,
                     void (*done)(struct handshake *h, bool ok));
/* Before done: ends it without calling done. */
void handshake_abort(struct handshake *h);
/* Sends a fatal alert on an established connection that is not handed off after all, and closes; frees conn, takes
   fd. */
void handshake_refuse(struct worker *w, int fd, struct tls_conn *conn, uint8_t alert);

#endif
