/* The control link after its TLS handshake: our own record layer, frames, heartbeats, and the keys of its data
   connections. */
#ifndef AGENT_LINK_H
#define AGENT_LINK_H

#include "agent/client.h"
#include "agent/reach.h"
#include "link/engine.h"

enum { LINK_MAGIC = 0x6c696e6b };

struct link;
/* What is above a link, and is told by it. What is done for frames may end the link, and so may `up`; when the last two
   are called it has ended. None frees it. */
struct link_handlers {
  const struct engine_role *role;  /* what is done for frames */
  /* link_bind, please, for all who want one: right behind HELLO, when nobody knows the link yet, and when there is
     room again. It does not end the link. */
  void (*binds)(struct link *l);
  void (*up)(struct link *l, const char *relay);   /* WELCOME has come; the relay's name */
  void (*down)(struct link *l);    /* one way or the other: nothing of it may stay */
  /* After down, unless the end is link_stop's. reason: what the relay said; REFUSE_NONE: it said nothing. */
  void (*lost)(struct link *l, bool was_up, enum refusal reason, const struct err *e);
};

struct link {
  unsigned magic;
  const struct link_handlers *handlers;
  struct adit_client *client;
  struct relay_choice *choice;
  struct reached at;               /* where it was dialled, its proxy if it has one: data connections go there, too */
  struct engine engine;            /* whose state is the link's */
  struct loop_io io;
  struct loop_timer tick;
  struct loop_deferred defer;
  bool binds_waiting;              /* some tunnels could not be bound yet: there was no room */
  uint64_t since_ms, pinged_ms;
  uint64_t heartbeat_ms;

  struct list warm;                /* of warm.node */
  size_t warm_n;
  size_t redials;                  /* data connections to dial again after a failure */
  uint64_t redial_ceiling_ms;      /* of the delay before that; 0: the last dial succeeded */
  uint64_t data_stood;             /* data connections that stood long enough to be believed, or got their OPEN */
  bool takes_wrapped;              /* the relay takes data connections inside TLS, and says when the first arrived */
  bool takes_revokes;              /* the relay answers REVOKE */
  uint32_t last_revoke;            /* the number of the last that was sent */
  bool data_wrapped;               /* they go inside TLS */
  bool data_arrived;
  uint64_t data_lost;              /* visitors that the relay lost on the way to us */
  unsigned data_ended_early;       /* so many that had only just come */
  bool data_warned;
  struct loop_timer data_check, data_proof, redial;
  struct err data_err;
};

/* Takes what was reached and tls, also on failure. HELLO and the BINDs of all tunnels leave with our Finished. */
struct link *link_start(struct adit_client *c, struct relay_choice *choice, const struct reached *reached,
                        struct tls_conn *tls, const struct link_handlers *handlers, struct err *e) MUST_USE;
/* Ends it without `lost`; with goodbye, the relay is told as far as the socket takes it. NULL is fine. */
void link_stop(struct link *l, bool goodbye);
void link_lose(struct link *l, enum refusal reason, const struct err *e); /* ends it with `lost` */
void link_lose_text(struct link *l, int code, const char *text);
void link_beat(struct link *l, uint32_t every_ms);   /* PING so often from now on, as the relay asks, within reason */
bool link_is_up(const struct link *l);           /* welcomed; NULL: no */
bool link_takes_binds(const struct link *l);     /* what is asked for goes behind HELLO; NULL: no */
/* False: there is no room for a BIND now; `binds` will ask for it when there is. */
bool link_may_bind(struct link *l) MUST_USE;
void link_bind(struct link *l, const struct frame_bind *f);      /* after link_may_bind */
void link_unbind(struct link *l, uint32_t id);
void link_short(struct link *l, size_t n);       /* leaves in the next turn, so that the link lives on in this one */
/* Seals and sends what is pending. The link may be dead afterwards. */
void link_flush(struct link *l);

/* To another program and back: this part of it (agent/control.h is the whole). */
enum { LINK_FACTS_BYTES = 256 };
void link_facts_write(const struct link *l, struct writer *w);
/* ERR_SYNTAX, ERR_NOMEM; else *out has no engine and no wire yet. */
int link_facts_read(struct adit_client *c, const struct link_handlers *handlers, struct reader *r,
                    struct link **out) MUST_USE;
int link_go_on(struct link *l) MUST_USE;        /* it is whole: it waits for its relay */
/* Its engine was exported, or could not be imported: it is gone without a word. Its wire is the caller's, or -1. */
void link_vanish(struct link *l);

#endif
