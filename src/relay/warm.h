/* Warm data connections of a link, and the visitors that want one. The pool belongs to the link's worker; visitors of
   other workers ask by message, and the connection moves to them with its keys. */
#ifndef RELAY_WARM_H
#define RELAY_WARM_H

#include "relay/data_connection.h"
#include "relay/link.h"
#include "wire/data.h"

struct ask {                       /* embedded in a visitor, which keeps it until it is answered */
  struct loop_msg msg;
  struct list node;
  struct worker *from;
  struct tunnel *tunnel;
  bool cancelled;                  /* atomic: the visitor has left */
  void (*answered)(struct ask *a); /* in the visitor's thread; may free the ask */
  struct data_connection data;     /* the answer, or none; the visitor's from then on */
  struct loop_io io;               /* for which the loop has it already; not added if that is another's loop */
};

void warm_ask(struct ask *a, struct worker *from, struct tunnel *t, void (*answered)(struct ask *a));
/* A handshake for this tunnel has begun: have connections ready when it ends. */
void warm_hint(struct worker *from, struct tunnel *t);
/* A data connection has come in at any worker. Takes the wire. */
void warm_arrived(struct worker *w, struct wire wire, const struct preface *p);

/* The agent cannot dial so many of those that it was asked for. */
void warm_short(struct link *l, size_t n);

void warm_init(struct link *l);
void warm_tick(struct link *l);    /* once a second */

/* To another process and back: what a link knows of its pool, as a part of the link; and the warm connections, one by
   one, each for itself. The bytes of those hold keys. */
enum { WARM_POOL_BYTES = 32, WARM_EXPORT_MAX_BYTES = 1 << 19 };
void warm_pool_write(const struct link *l, struct writer *w);
void warm_pool_read(struct link *l, struct reader *r);
/* 0: one is out of the pool, and its descriptor the caller's; ERR_CLOSED: there are no more; ERR_LIMIT, ERR_NOMEM. */
int warm_export(struct link *l, struct buf *state, int *fd) MUST_USE;
/* Its link is here already, else ERR_CLOSED. On failure fd was not taken. */
int warm_import(struct worker *w, const uint8_t *state, size_t n, int fd) MUST_USE;
void warm_close(struct link *l);   /* with the link: closes what is idle, answers who waits */

#endif
