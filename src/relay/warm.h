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
};

void warm_ask(struct ask *a, struct worker *from, struct tunnel *t, void (*answered)(struct ask *a));
/* A handshake for this tunnel has begun: have connections ready when it ends. */
void warm_hint(struct worker *from, struct tunnel *t);
/* A data connection has come in at any worker. Takes fd and the TLS around it; NULL: it is plain. */
void warm_arrived(struct worker *w, int fd, struct wrap *wrap, const struct preface *p);

void warm_init(struct link *l);
void warm_tick(struct link *l);    /* once a second */
void warm_close(struct link *l);   /* with the link: closes what is idle, answers who waits */

#endif
