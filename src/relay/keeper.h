/* The keeper: the one thread that touches the state database and the certificate files. Workers send it requests; it
   sends the answers back, and by itself watches for revocations, expired tokens and changed certificates. */
#ifndef RELAY_KEEPER_H
#define RELAY_KEEPER_H

#include "relay/context.h"
#include "relay/lines.h"
#include "relay/revocations.h"

/* Reads what it must know; the relay's state and certs are the keeper's from then on. */
int keeper_new(struct relay *r, struct keeper **out, struct err *e) MUST_USE;
/* Before it runs: what is leased and revoked may have changed since, by the hand of a predecessor. */
int keeper_read_again(struct keeper *k, struct err *e) MUST_USE;
int keeper_run(struct keeper *k, struct err *e) MUST_USE;        /* its thread */
/* From any thread: the state is left to a successor. From then on nothing of it is written, ports are neither given nor
   taken back, and certificates stay as they are; revocations are read until the end. */
void keeper_leave(struct keeper *k);
/* From any thread, and waits for it: from now on nothing is written, and who asks for a port waits, until the keeper is
   to go on. One that leaves while it rests keeps them waiting: they are to ask its successor. */
void keeper_rest(struct keeper *k);
void keeper_go_on(struct keeper *k);
bool keeper_has_left(const struct keeper *k);
void keeper_stop(struct keeper *k);              /* ends its thread; NULL is fine */
void keeper_settle(struct keeper *k); /* after that: what is left is done, in the caller's thread */
void keeper_free(struct keeper *k);
void keeper_reload_certificates(struct keeper *k); /* from any thread */

struct port_request {              /* embedded in its sender, which keeps it until `done` or its withdrawal */
  struct in_line waits;
  struct list node;                /* in its round */
  struct loop_msg msg;             /* the answer */
  struct worker *from;
  uint8_t owner[TOKEN_ID_BYTES];
  char label[LABEL_CHARS + 1];
  uint64_t serial;                 /* the holder: its tunnel's */
  uint32_t max_tunnels;            /* the owner's */
  uint16_t port;                   /* 0: a new one, given here; else that one back */
  bool adopts;                     /* its holder had it in another process: the lease is on the disk already */
  int result; /* ERR_LIMIT: exhausted; ERR_CONFLICT: not yours; ERR_NOT_NOW: the label's next tunnel has it; ERR_IO: the
                 state cannot be written; ERR_CLOSED: the relay is ending */
  void (*done)(struct port_request *q);          /* in the sender's thread; by then the lease is on disk */
};
/* Owners are served in turn, however much one of them asks for, and those that wait share a commit. */
void keeper_take_port(struct keeper *k, struct worker *from, struct port_request *q);
/* By the sender: whether it still waited. If so it is forgotten, and `done` is never called. */
bool keeper_withdraw_port(struct keeper *k, struct port_request *q);

struct revoke_request {            /* embedded likewise */
  struct in_line waits;
  struct list node;                /* in its round */
  struct loop_msg msg;             /* the answer */
  struct worker *from;
  struct revocation what;
  struct revocation before;        /* the keeper's */
  int result;                      /* ERR_LIMIT: its root has too many; ERR_NOMEM; ERR_IO, ERR_CLOSED as above */
  void (*done)(struct revoke_request *q);        /* in the sender's thread; by then it is on disk, and whoever it is
                                                    about is being ended */
};
/* As with ports. */
void keeper_revoke(struct keeper *k, struct worker *from, struct revoke_request *q);
bool keeper_withdraw_revoke(struct keeper *k, struct revoke_request *q);

/* What becomes of a port that is given back. */
enum port_fate {
  PORT_KEPT,                       /* in quarantine for its owner */
  PORT_FORGOTTEN,                  /* free: it was never announced */
  PORT_AVOIDED                     /* left alone for a while: this host could not listen on it */
};
/* Void unless that holder still has it. */
void keeper_release_port(struct keeper *k, uint16_t port, uint64_t serial, enum port_fate fate);

#endif
