/* A worker: one event loop in one thread, with its own listening sockets (SO_REUSEPORT), buffers, streams and control
   links. Everything inside is touched by its own thread only; others reach it by messages. */
#ifndef RELAY_WORKER_H
#define RELAY_WORKER_H

#include "base/list.h"
#include "base/map.h"
#include "relay/context.h"
#include "relay/handover.h"
#include "relay/newcomers.h"

enum { LISTEN_BACKLOG = 4096 };

struct listener {
  struct worker *worker;
  enum handover_role role;         /* of a worker's own: what it is for, and where */
  const struct addr *at;
  struct loop_io io;
  struct loop_timer resume;        /* after a pause for want of descriptors */
  int fd;
  unsigned accepts;                /* how many it may take in this turn; 0: there were no more */
  uint64_t turn_ms;
  /* Takes fd. */
  void (*accepted)(struct listener *l, int fd, const struct addr *peer);
};

/* What other threads may ask of a worker. They are flags and one message that is part of the worker, so that none can
   be lost for want of memory; given at once they run in this order. */
enum worker_order {
  ORDER_OPEN_DOORS,                /* newcomers come in from now on */
  ORDER_CLOSE_DOORS,               /* nobody new comes in, by raw ports neither */
  ORDER_END_OWNERS,                /* reset all that is of owners that have ended */
  ORDER_GOODBYE,                   /* tell the agents that this relay is draining */
  ORDER_STOP,                      /* end everything and leave the loop */
  WORKER_ORDERS
};

struct worker {
  struct relay *relay;
  struct loop *loop;
  struct pump_pool *pool;
  pthread_t thread;
  bool running;
  struct metrics metrics;
  struct listener *listeners;      /* an array: for TLS, for --redirect-http, and for agents at Unix sockets */
  size_t listeners_n, listeners_cap;
  struct loop_msg order_msg;
  unsigned orders;                 /* atomic: a bit for each that is to be run */
  struct signer *signer;           /* NULL: the keys are here */
  struct newcomers *newcomers;     /* whoever is not a stream, a link or a warm data connection yet */
  struct list doors;               /* struct door: connections whose kind is not known yet */
  bool accepting;                  /* atomic: until its listeners are closed */
  struct list wrapped;             /* struct wrapped: data connections inside TLS that have not proven themselves */
  struct list strays;              /* struct stray: data connections whose links have gone to another process */
  size_t strays_n;
  struct list visitors;            /* struct visitor: in handshake or waiting for a data connection */
  uint64_t visitors_n;             /* atomic: these, doors that read a ClientHello, streams before ACCEPT */
  struct list streams;             /* struct stream */
  struct list links;               /* struct link */
  struct map *links_by_id;         /* link id -> struct link */
  struct map *raw_ports;           /* u16 -> struct raw_port */
};

/* Binds; nobody comes in before ORDER_OPEN_DOORS. All workers of a relay are opened before the first of them runs,
   since any may post to any other. */
int worker_open(struct worker *w, struct relay *r, struct err *e) MUST_USE;
int worker_run(struct worker *w, struct err *e) MUST_USE; /* starts its thread */
/* From any thread. After ORDER_STOP worker_wait for all workers, then worker_settle in turns with the keeper's until
   the messages between them have arrived, and after that worker_free for all. */
void worker_order(struct worker *w, enum worker_order order);
/* Has the worker's thread do something, and waits for it: from a thread that no worker waits for. A worker that does
   not run has it done here. */
void worker_do(struct worker *w, void (*act)(struct worker *w, void *arg), void *arg);
void worker_wait(struct worker *w);
void worker_settle(struct worker *w);            /* runs the messages that came after the end, in the caller's thread */
void worker_free(struct worker *w);

void worker_rest_listeners(struct worker *w, bool rest);  /* its own: newcomers wait in the kernel */
int listener_add(struct listener *l, struct worker *w, int fd,
                 void (*accepted)(struct listener *, int, const struct addr *)) MUST_USE;
void listener_remove(struct listener *l);        /* closes fd */
int listener_let_go(struct listener *l);         /* fd is the caller's; -1: it has none */

#endif
